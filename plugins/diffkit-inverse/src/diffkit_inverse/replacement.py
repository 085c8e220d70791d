"""Inpainting by replacement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, final

from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit_inverse._checks import range_to_clip_to
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

    Args:
        clip: clip the predicted `x_0` to the data's declared range. None clips where a range is
            declared.

    Raises:
        ComponentError: an input does not fit the samples, or there is no range to clip to.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess  # type: ignore[type-abstract]
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask")

    def __init__(self, *, clip: bool | None = None) -> None:
        self._clip = clip

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """A declared data range where clipping is asked for."""
        return range_to_clip_to(config, facts)

    def walk(
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
            state = painted_step(_NAME, denoiser, x, t, s, noise, on, self._clip)
            yield state
            x = state.x
