"""The runner of samplers: it consumes the walk and owns everything around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import SampleNoise
from diffkit.core.sampler import Sampler, State
from diffkit.errors import SpecError


@dataclass(frozen=True)
class Walk:
    """Everything that a walk from noise to data needs, but the seed and which samples."""

    denoiser: Denoiser
    sampler: Sampler
    times: Sequence[float]
    shape: tuple[int, ...]
    device: torch.device
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in self.sampler.inputs if name not in self.inputs]
        extra = [name for name in self.inputs if name not in self.sampler.inputs]
        if missing or extra:
            takes = ", ".join(self.sampler.inputs) or "none"
            raise SpecError(
                [
                    f"{type(self.sampler).__name__} takes the inputs: {takes}; "
                    f"given: {', '.join(self.inputs) or 'none'}"
                ]
            )

    def states(self, seed: int, indices: Sequence[int]) -> Iterator[State]:
        """Each state for these samples, the prior first; no gradients are kept."""
        noise = SampleNoise(seed=seed, indices=indices, device=self.device)
        shape = (len(indices), *self.shape)
        with torch.no_grad():
            x = self.denoiser.process.prior(shape, noise)
            denoiser = self.denoiser.start(self.inputs)
        yield State(x, self.times[0])
        walk = self.sampler.walk(denoiser, x, self.times, noise, self.inputs)
        while True:
            # Around each step alone: a mode left on across a yield would leak to the consumer.
            with torch.no_grad():
                state = next(walk, None)
            if state is None:
                return
            yield state
