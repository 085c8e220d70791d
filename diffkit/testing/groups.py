"""Samplers that look at several samples together, tried as those of single ones are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler, State


class InGroups(Sampler):
    """A sampler of groups, as one of single samples: each is the first of a group of its own, of
    which all begin where it does and draw noise of their own.
    """

    def __init__(self, *, sampler: Sampler, group: int) -> None:
        self._sampler, self._group = sampler, group

    @property
    def order(self) -> int | None:
        """The sampler's."""
        return self._sampler.order

    @property
    def order_on_uneven_steps(self) -> int | None:
        """The sampler's."""
        return self._sampler.order_on_uneven_steps

    def calls(self, times: Sequence[float]) -> int | None:
        """The sampler's."""
        return self._sampler.calls(times)

    def query_times(self, times: Sequence[float], process: ForwardProcess) -> Sequence[float]:
        """The sampler's."""
        return self._sampler.query_times(times, process)

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """The first of each group, of the sampler's trajectory."""
        start = x.repeat_interleave(self._group, dim=0)
        rows = {name: row.repeat_interleave(self._group, dim=0) for name, row in inputs.items()}
        drawn = _OfEach(noise, self._group)
        for state in self._sampler.trajectory(denoiser, start, times, drawn, rows):
            yield State(state.x[:: self._group], state.t)


class _OfEach(Noise):
    """For each of a group's, the next numbers of the one sample that it stands for."""

    def __init__(self, noise: Noise, group: int) -> None:
        self._noise, self._group = noise, group

    def normal(self, shape: Sequence[int]) -> Tensor:
        own = (shape[0] // self._group, *shape[1:])
        draws = [self._noise.normal(own) for _ in range(self._group)]
        return torch.stack(draws, dim=1).flatten(0, 1)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        own = (shape[0] // self._group, *shape[1:])
        draws = [self._noise.uniform(own) for _ in range(self._group)]
        return torch.stack(draws, dim=1).flatten(0, 1)
