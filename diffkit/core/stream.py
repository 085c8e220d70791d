"""Stream: data that come one after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch

from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError


class Stream(Dataset):
    """A dataset that is read in order, of a length that nobody knows: shards, a queue, a generator.

    It is trained on as any other, and a training that goes on finds the next sample by its number
    alone: no buffer is saved. What needs a length or reads at random, such as a metric, is refused.
    The order is the stream's own; one that begins again at its end does so itself.
    """

    @abstractmethod
    def iterate(self, rank: int, world: int, position: int) -> Iterator[Batch]:
        """Samples number `position + rank`, `position + rank + world` and so on, in batches of any
        size, on the host.

        Args:
            rank: which of the processes reads.
            world: how many there are.
            position: how many samples all of them have read before, from the beginning of training.
        """

    def __len__(self) -> NoReturn:
        """Raises DataError: there is no length."""
        raise DataError(
            f"the dataset {type(self).__name__} is a stream, which has no length and is read in "
            "order: it can be trained on, and nothing else; name another dataset for what reads "
            "at random"
        )

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples of these numbers, which follow on each other. Raises DataError for others."""
        first = indices[0] if len(indices) else 0
        if list(indices) != list(range(first, first + len(indices))):
            len(self)
        return Share(self, 0, 1, first).take(len(indices))


class Share:
    """What one process reads of a stream from a position on, in batches of the size asked for."""

    def __init__(self, stream: Stream, rank: int, world: int, position: int) -> None:
        self._name, self._position = type(stream).__name__, position
        self._left = stream.iterate(rank, world, position)
        self._rows: Batch | None = None
        self.read = 0
        """How many samples were taken."""

    def take(self, count: int) -> Batch:
        """The next so many. Raises DataError where the stream has ended."""
        parts: list[Batch] = []
        while sum(map(len, parts)) < count:
            rows = self._rows if self._rows is not None else self._next()
            wanted = count - sum(map(len, parts))
            parts.append(_rows(rows, slice(0, wanted)))
            self._rows = _rows(rows, slice(wanted, None)) if len(rows) > wanted else None
        self.read += count
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _next(self) -> Batch:
        found = next(self._left, None)
        if found is None:
            raise DataError(
                f"the dataset {self._name} ended {self.read} samples after number "
                f"{self._position}; make fewer updates (training.steps), or let the stream begin "
                "again at its end"
            )
        if not isinstance(found, Batch) or not len(found):
            raise DataError(f"the dataset {self._name} gives no Batch with samples in it")
        return found


def _rows(batch: Batch, chosen: slice) -> Batch:
    return Batch(
        batch.x_0[chosen], {name: value[chosen] for name, value in batch.condition.items()}
    )


def _joined(parts: Sequence[Batch]) -> Batch:
    conditions = {
        name: torch.cat([part.condition[name] for part in parts]) for name in parts[0].condition
    }
    return Batch(torch.cat([part.x_0 for part in parts]), conditions)
