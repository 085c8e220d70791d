"""Diffusion posterior sampling of what was masked, made small, or blurred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from diffkit.core.component import Config, Facts
from diffkit.errors import ComponentError
from diffkit_inverse._checks import between, count, fitting
from diffkit_inverse._painting import canvas
from diffkit_inverse._posterior import PosteriorSampler
from diffkit_inverse.operators import blurred, pooled

ZETA = 1.0


@final
class DPSInpaint(PosteriorSampler):
    """Paints the masked part of an image by diffusion posterior sampling.

    `x_s = x_s' - zeta / |y - A(x_0)| grad |y - A(x_0)|^2`, where A keeps what is not masked. Chung
    et al. (2023), Algorithm 1. The known part comes out near the image, not equal to it.

    Inputs: `image`, of the data's shape and range, and `mask`, 1 where to paint, which may be 1 in
    the dimension of channels.

    Args:
        zeta: the step size; 0.1 to 1 in the paper.

    Raises:
        ComponentError: zeta is not above 0, or an input does not fit the samples.
    """

    name: ClassVar[str] = "inverse.dps-inpaint"
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask")

    def __init__(self, *, zeta: Annotated[float, Gt(0)] = ZETA) -> None:
        super().__init__(zeta=zeta)

    def residual(self, x_0: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        on = canvas(self.name, inputs, x_0)
        return torch.where(on.unknown, torch.zeros_like(x_0), on.image - x_0)


@final
class DPSSuperResolution(PosteriorSampler):
    """Images of which a small version is known, by diffusion posterior sampling.

    `x_s = x_s' - zeta / |y - A(x_0)| grad |y - A(x_0)|^2`, where A takes the mean of each square of
    `factor` by `factor` pixels. Chung et al. (2023), Algorithm 1.

    Input: `measurement`, `[b, c, h / factor, w / factor]`, in the data's range.

    Args:
        factor: how many times the image is larger than its measurement.
        zeta: the step size; 0.1 to 1 in the paper.

    Raises:
        ComponentError: an argument is out of range, the factor does not divide the image's size,
            or the measurement has another size.
    """

    name: ClassVar[str] = "inverse.dps-super-resolution"
    inputs: ClassVar[tuple[str, ...]] = ("measurement",)

    def __init__(
        self,
        *,
        factor: Annotated[int, Ge(1)] = 2,
        zeta: Annotated[float, Gt(0)] = ZETA,
    ) -> None:
        super().__init__(zeta=zeta)
        self._factor = count(self.name, "factor", factor)

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Images that the factor divides."""
        shape = facts.get("data.shape") or ()
        if len(shape) != 3 or any(size % config.factor for size in shape[1:]):
            yield (
                f"factor = {config.factor} does not divide samples of the shape {list(shape)}; it "
                "needs images whose height and width it divides"
            )

    def residual(self, x_0: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        small = pooled(self.name, x_0, self._factor)
        return _measured(self.name, inputs, small) - small


@final
class DPSBlur(PosteriorSampler):
    """Images of which a blurred version is known, by diffusion posterior sampling.

    `x_s = x_s' - zeta / |y - A(x_0)| grad |y - A(x_0)|^2`, where A is a Gaussian kernel of
    deviation `sigma` pixels, and the image goes on outside as its mirror image. Chung et al.
    (2023), Algorithm 1.

    Input: `measurement`, of the data's shape and range.

    Args:
        sigma: the kernel's deviation in pixels.
        zeta: the step size; 0.1 to 1 in the paper.

    Raises:
        ComponentError: an argument is out of range, the kernel is larger than the image,
            or the measurement has another size.
    """

    name: ClassVar[str] = "inverse.dps-blur"
    inputs: ClassVar[tuple[str, ...]] = ("measurement",)

    def __init__(
        self,
        *,
        sigma: Annotated[float, Gt(0)] = 1.0,
        zeta: Annotated[float, Gt(0)] = ZETA,
    ) -> None:
        super().__init__(zeta=zeta)
        self._sigma = between(self.name, "sigma", sigma, 0.0)

    def residual(self, x_0: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        soft = blurred(self.name, x_0, self._sigma)
        return _measured(self.name, inputs, soft) - soft


def _measured(name: str, inputs: Mapping[str, Tensor], like: Tensor) -> Tensor:
    measurement = fitting(name, "measurement", inputs["measurement"], like)
    if measurement.shape[1:] != like.shape[1:]:
        raise ComponentError(
            f"{name}: the measurement has the shape {list(measurement.shape[1:])}; for this run it "
            f"must be {list(like.shape[1:])}"
        )
    return measurement
