"""Editing an image by noising it a part of the way, and sampling from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, final

from annotated_types import Gt, Le
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit_inverse._checks import (
    between,
    fitting,
    gaussian,
    predicted,
)

_NAME = "inverse.sdedit"


@final
class SDEdit(Sampler):
    """Starts from `alpha_t image + sigma_t z` at the time t nearest to `strength`, and samples from
    there.

    Meng et al. (2022), Algorithm 1. At strength 1 the image is forgotten: the trajectory starts
    from the prior, and is plain sampling.

    Input: `image`, of the data's shape and range.

    Args:
        strength: the time to start from, above 0 and at most 1; the nearest of the trajectory's
            times is taken, the last excepted.
        ancestral: draw noise in each step, as `ddpm` does; otherwise steps are those of DDIM
            (Song et al., 2021, eq. 12, eta 0).

    Raises:
        ComponentError: strength is out of range, or the image does not fit the samples.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self,
        *,
        strength: Annotated[float, Gt(0), Le(1)] = 0.5,
        ancestral: bool = True,
    ) -> None:
        self._strength = between(_NAME, "strength", strength, 0.0, 1.0)
        self._ancestral = ancestral

    def calls(self, times: Sequence[float]) -> int:
        """One for each step from where it starts."""
        return len(times) - 1 - self._first(times)

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """Each state; above the time that it starts from, the image with one and the same noise."""
        image = fitting(_NAME, "image", inputs["image"], x).expand(x.shape)
        process, first = gaussian(_NAME, denoiser), self._first(times)
        if first > 0:
            z = noise.normal(x.shape)
            for t in times[1 : first + 1]:
                x = process.diffuse(image, t, z)
                yield State(x, t)
        for t, s in pairwise(times[first:]):
            prediction = predicted(_NAME, denoiser, x, t)
            if self._ancestral:
                x = process.reverse(prediction, x, t, s, noise)
            else:
                x = process.diffuse(prediction.x_0, s, prediction.epsilon)
            yield State(x, s, prediction)

    def _first(self, times: Sequence[float]) -> int:
        return min(range(len(times) - 1), key=lambda k: abs(times[k] - self._strength))
