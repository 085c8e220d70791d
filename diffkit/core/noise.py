"""Where randomness comes from: never the global generator."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def mix(*parts: int | str) -> int:
    """A 63-bit seed from a seed and what it is for; other parts give an unrelated one."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class Noise(ABC):
    """The randomness of one batch: each call draws the next numbers of every sample.

    Shapes are those of the whole batch, `[b, *data]`; results are on the device and of the dtype
    that the noise was made for.
    """

    @abstractmethod
    def normal(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        """Independent standard normal numbers."""

    @abstractmethod
    def uniform(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        """Independent numbers, uniform on [0, 1)."""


class SampleNoise(Noise):
    """Noise that depends on the seed and on each sample's own index alone.

    So sample 17 is the same in a batch of one, in a batch of a hundred, on another process and
    on another device. Each sample draws from a counter-based Philox generator of its own, keyed
    by (seed, index): no two samples can share a stream.
    """

    def __init__(
        self,
        *,
        seed: int,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seed = seed
        self.indices = tuple(indices)
        if not all(0 <= index < 2**64 for index in self.indices):
            raise OverflowError("a sample's index is a count of 64 bits")  # numpy 1 would wrap it.
        self._device = torch.device(device)
        self._dtype = dtype
        key = mix(seed, "samples")
        self._generators = [
            np.random.Generator(np.random.Philox(key=np.array([key, index], dtype=np.uint64)))
            for index in self.indices
        ]

    def normal(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        """By Box and Muller (1958), for all samples at once: a third of the time of one generator's
        own normal numbers after another's.
        """
        self._check(shape)
        count = math.prod(shape[1:])
        pairs = (count + 1) // 2
        drawn = torch.from_numpy(self._drawn((shape[0], 2 * pairs)))
        # 1 - u is in (0, 1], so that the logarithm is finite.
        radius = (1.0 - drawn[:, :pairs]).log_().mul_(-2.0).sqrt_()
        angle = drawn[:, pairs:] * (2.0 * math.pi)
        numbers = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return self._delivered(numbers[:, :count].reshape(tuple(shape)))

    def uniform(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        return self._delivered(torch.from_numpy(self._drawn(shape)))

    def _drawn(self, shape: Sequence[int]) -> np.ndarray:
        """Uniform numbers in [0, 1), each row from its sample's generator."""
        self._check(shape)
        numbers = np.empty(shape, np.float64 if self._dtype == torch.float64 else np.float32)
        for row, generator in zip(numbers, self._generators, strict=True):
            generator.random(out=row, dtype=row.dtype.type)
        return numbers

    def _check(self, shape: Sequence[int]) -> None:
        if len(shape) < 2 or shape[0] != len(self.indices):
            raise ValueError(
                f"noise for {len(self.indices)} samples cannot have the shape {tuple(shape)}"
            )

    def _delivered(self, numbers: Tensor) -> Tensor:
        return numbers.to(self._device, self._dtype, non_blocking=True)


class BatchNoise(Noise):
    """Noise for one training batch: a function of the seed, the step and the row, no state kept.

    Every process draws the whole global batch from one generator and takes its own `rows`, so
    that the noise of a step does not depend on how many processes share it.
    """

    def __init__(
        self,
        *,
        seed: int,
        step: int,
        rows: range,
        total: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._rows = slice(rows.start, rows.stop, rows.step)
        self._total = total
        self._device = torch.device(device)
        self._dtype = dtype
        self._generator = torch.Generator(self._device)
        self._generator.manual_seed(mix(seed, "batch", step))

    def normal(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        whole = (self._total, *shape[1:])
        return torch.randn(
            whole, generator=self._generator, device=self._device, dtype=self._dtype
        )[self._rows]

    def uniform(self, shape: Sequence[int]) -> Float[Tensor, "b *data"]:
        whole = (self._total, *shape[1:])
        return torch.rand(whole, generator=self._generator, device=self._device, dtype=self._dtype)[
            self._rows
        ]
