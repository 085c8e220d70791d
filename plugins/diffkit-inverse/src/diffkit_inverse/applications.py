"""What one does with a trained run: paint, enlarge, sharpen, edit, interpolate.

Each draws `num` answers to one question, or one for each of `num` images. What is asked about is
a tensor in the data's range; `diffkit_inverse.images` reads pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from diffkit.arguments import instance, number, one_of, whole
from diffkit.config.spec import Precision
from diffkit.core.denoiser import Denoiser
from diffkit.core.encoder import Given
from diffkit.core.sampler import Sampler
from diffkit.errors import SpecError
from diffkit.helpers.finite import Finite
from diffkit.pipeline import Pipeline
from diffkit_inverse import inversion
from diffkit_inverse.dps import ZETA, DPSBlur, DPSInpaint, DPSSuperResolution
from diffkit_inverse.images import check_mask
from diffkit_inverse.repaint import RePaint
from diffkit_inverse.replacement import Replacement
from diffkit_inverse.sdedit import SDEdit

Method = Literal["repaint", "replacement", "dps"]
_CONTINUOUS_STEPS = 1000
"""Of a trajectory on a schedule without a grid, as in `Pipeline.sample`."""
METHODS: tuple[Method, ...] = ("repaint", "replacement", "dps")


class Choices(TypedDict, total=False):
    """What can be chosen for each of them, as in `Pipeline.sample`."""

    num: int
    seed: int
    steps: int | None
    condition: Given | None
    precision: Precision | None
    clip: bool | None
    batch_size: int


def inpaint(
    pipeline: Pipeline,
    image: Tensor,
    mask: Tensor,
    *,
    method: Method | Sampler = "repaint",
    **choices: Unpack[Choices],
) -> Tensor:
    """Paint the part of `image` where `mask` is 1; what is not masked comes out exactly as given.

    Args:
        pipeline: a trained one; it is not trained again.
        image: `[1, c, h, w]`, or one a sample.
        mask: `[1, 1, h, w]` or of the image's shape, 1 where to paint.
        method: `repaint`, `replacement` or `dps`, with default arguments; or a sampler with the
            inputs `image` and `mask`.
        choices: `num`, `seed`, `steps`, `condition`, `precision`, `clip`, `batch_size`, as in
            `Pipeline.sample`.

    Raises:
        SpecError: the method is unknown, or a choice is wrong.
        ComponentError: the image or the mask does not fit the run.
        DataError: the mask is empty, or leaves nothing of the image.
    """
    _check_images(image=image, mask=mask)
    check_mask(mask, "mask")
    samplers: Mapping[object, type[Sampler]] = {
        "repaint": RePaint,
        "replacement": Replacement,
        "dps": DPSInpaint,
    }
    if isinstance(method, Sampler):
        sampler = method
    else:
        sampler = samplers[one_of(method, "method", METHODS)]()
    found = _sampled(pipeline, sampler, {"image": image, "mask": mask}, choices)
    # DPS ends near what is known; the user knows it exactly.
    return torch.where(mask > 0.5, found, image.to(found))


def upscale(
    pipeline: Pipeline,
    small: Tensor,
    *,
    factor: int,
    zeta: float = ZETA,
    **choices: Unpack[Choices],
) -> Tensor:
    """Images of the run's size whose mean over squares of `factor` by `factor` pixels is near
    `small`, `[1, c, h / factor, w / factor]`, by `inverse.dps-super-resolution`.

    Raises SpecError where the factor does not divide the run's images, ComponentError where
    `small` has another size.
    """
    _check_images(small=small)
    sampler = DPSSuperResolution(factor=whole(factor, "factor"), zeta=_real(zeta, "zeta"))
    return _sampled(pipeline, sampler, {"measurement": small}, choices)


def deblur(
    pipeline: Pipeline,
    soft: Tensor,
    *,
    sigma: float,
    zeta: float = ZETA,
    **choices: Unpack[Choices],
) -> Tensor:
    """Images that, blurred by a Gaussian of deviation `sigma` pixels, are near `soft`, by
    `inverse.dps-blur`. Raises ComponentError where the kernel or `soft` does not fit.
    """
    _check_images(soft=soft)
    sampler = DPSBlur(sigma=_real(sigma, "sigma"), zeta=_real(zeta, "zeta"))
    return _sampled(pipeline, sampler, {"measurement": soft}, choices)


def edit(
    pipeline: Pipeline, image: Tensor, *, strength: float = 0.5, **choices: Unpack[Choices]
) -> Tensor:
    """The image, noised to the time `strength` and sampled from there, by `inverse.sdedit`.

    Raises ComponentError where the strength is out of (0, 1], or the image does not fit.
    """
    _check_images(image=image)
    sampler = SDEdit(strength=_real(strength, "strength"))
    return _sampled(pipeline, sampler, {"image": image}, choices)


def interpolate(
    pipeline: Pipeline,
    a: Tensor,
    b: Tensor,
    *,
    frames: int = 8,
    steps: int | None = None,
    condition: Given | None = None,
) -> Tensor:
    """`frames` images `[f, *data]` on the way from `a` to `b`, both `[1, *data]`, through noise.

    No noise is drawn, so there is no seed. `condition` has one row, for all, and leads as the
    network itself does: the spec's guidance is left out, with which the way back would be another
    than the way there; nor is anything clipped.

    Raises:
        SpecError: a shape or the conditions are not those of the run, or `steps` is below 1.
        ComponentError: there are fewer than 2 frames, or the run's process is not Gaussian.
    """
    _check_images(a=a, b=b)
    frames = whole(frames, "frames")
    denoiser, times = _flow(
        pipeline, {"a": a, "b": b}, steps, {} if condition is None else condition
    )
    start, end = (inversion.invert(denoiser, x.to(pipeline.device), times) for x in (a, b))
    noises = torch.cat(inversion.arc(start, end, frames))
    found = inversion.follow(denoiser, noises, times).cpu()
    finite = Finite()
    finite.look(range(frames), found)
    finite.warn()
    return found


def _flow(
    pipeline: Pipeline, images: Mapping[str, Tensor], steps: int | None, condition: Given
) -> tuple[Denoiser, Sequence[float]]:
    """The denoiser, and the times to go over. Raises SpecError, ComponentError."""
    _check_pixels(pipeline)
    steps = None if steps is None else whole(steps, "steps", least=1)
    instance(condition, "condition", Mapping, "a mapping from names to values")
    parts = (pipeline.average or pipeline.system).parts
    wanted = (1, *parts.shape)
    problems = [
        f"{name} has the shape {list(image.shape)}; for this run it must be {list(wanted)}"
        for name, image in images.items()
        if tuple(image.shape) != wanted
    ]
    if problems:
        raise SpecError(problems)
    count = steps or pipeline.spec.steps or parts.schedule.steps or _CONTINUOUS_STEPS
    times = parts.spacing.times(count, parts.schedule)

    denoiser = pipeline.denoiser(condition=condition)
    denoiser.check_times(times)
    return denoiser, times


def _sampled(
    pipeline: Pipeline, sampler: Sampler, inputs: Mapping[str, Tensor], choices: Choices
) -> Tensor:
    _check_pixels(pipeline)
    rows = max(value.shape[0] for value in inputs.values())
    given: Choices = {"num": rows, **choices}
    return pipeline.sample(**given, sampler=sampler, inputs=inputs, progress=False)


def _real(value: object, name: str) -> float:
    return number(value, name, "a finite number", lambda _: True)


def _check_images(**images: Tensor) -> None:
    """Raise SpecError for what is no batch of images of numbers."""
    for name, value in images.items():
        instance(value, name, Tensor, "a tensor, [1, c, h, w] or one a sample")
        if value.ndim == 0 or not value.is_floating_point():
            found = f"{name} is {value.dtype} of the shape {list(value.shape)}"
            raise SpecError([f"{found}; give floating-point numbers, one row a sample"])


def _check_pixels(pipeline: Pipeline) -> None:
    instance(pipeline, "pipeline", Pipeline, "a diffkit.Pipeline, as diffkit.load gives it")
    if pipeline.parts.latents is not None:
        raise SpecError(
            [
                "the run works in the latents of an autoencoder, and these methods compare pixels; "
                "take a run without one"
            ]
        )
