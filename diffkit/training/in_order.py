"""A stream as training reads it: by the numbers of its samples."""

from __future__ import annotations

from collections.abc import Sequence

from diffkit.core.dataset import Dataset, WrappedDataset
from diffkit.core.loss import Batch
from diffkit.core.stream import Share, Stream
from diffkit.distributed.world import World


class InOrder(WrappedDataset):
    """A stream as a dataset whose index is the number of a sample in training.

    Of a batch of `size` each process has a share, whose numbers follow on each other; it is given
    the next samples of its own part of the stream. Where it is asked for others than the next, as
    after a resume, the stream is begun anew at that update: nothing is kept that could be lost.
    """

    def __init__(self, *, stream: Stream, world: World, size: int) -> None:
        super().__init__(dataset=stream)
        self._stream, self._world, self._size = stream, world, size
        self._mine = size // world.count
        self._share: Share | None = None
        self._began = 0

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples of these numbers, all of one update."""
        update, place = divmod(indices[0], self._size)
        own = place - self._world.rank * self._mine
        if self._share is None or self._began + self._share.read != update * self._mine + own:
            position = update * self._size
            self._share = Share(self._stream, self._world.rank, self._world.count, position)
            self._began = update * self._mine
            if own:
                self._share.take(own)
        return self._share.take(len(indices))


def in_order(dataset: Dataset) -> bool:
    """Whether samples are read by their numbers: of a stream, or of what is around one."""
    if isinstance(dataset, WrappedDataset):
        return isinstance(dataset, InOrder) or in_order(dataset.wrapped)
    return False


class NumberOrder:
    """The order of a stream: its own."""

    def rows(self, start: int, count: int) -> list[int]:
        """The numbers themselves."""
        return list(range(start, start + count))
