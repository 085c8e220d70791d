"""The order of the data: a new permutation each epoch, found again from any position."""

from __future__ import annotations

import torch

from diffkit.core.noise import mix


class DataOrder:
    """Sample number i of all training is `permutation(seed, i // n)[i % n]`.

    No state is kept that could be lost: the order after resuming in the middle of an epoch is
    the order there would have been.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def rows(self, start: int, count: int) -> list[int]:
        """The dataset's indices for samples `start` to `start + count` of all training."""
        found: list[int] = []
        while len(found) < count:
            epoch, position = divmod(start + len(found), self._count)
            wanted = count - len(found)
            found += self._of(epoch)[position : position + wanted].tolist()
        return found

    def _of(self, epoch: int) -> torch.Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self._seed, "order", epoch))
            self._epoch = epoch
            self._permutation = torch.randperm(self._count, generator=generator)
        return self._permutation
