"""Inpainting by replacement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, final

from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit_inverse._painting import canvas, painted_step

_NAME = "inverse.replacement"


@final
class Replacement(Sampler):
    """Paints the masked part of an image; the rest is put back, noised afresh, at every step.

        x_s = mask x_s' + (1 - mask) (alpha_s image + sigma_s z),  x_s' ~ p(x_s | x_t)

    Song et al. (2021), SDE, appendix I.2. It is biased, for any number of steps: the painted part
    never learns how its own past does with the image's (Trippe et al., 2023).

    Inputs: `image`, of the data's shape and range, and `mask`, 1 where to paint, which may be 1 in
    the dimension of channels.

    Raises:
        ComponentError: an input does not fit the samples.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask")

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """One step between each pair of neighbouring times."""
        on = canvas(_NAME, inputs, x)
        for t, s in pairwise(times):
            state = painted_step(_NAME, denoiser, x, t, s, noise, on)
            yield state
            x = state.x
