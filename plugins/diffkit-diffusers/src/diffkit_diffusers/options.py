"""The options of a scheduler of diffusers: which are taken, and what they come to."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from diffkit.core.denoiser import DataRange
from diffkit.errors import ComponentError

from diffkit_diffusers.folder import is_one_of
from diffkit_diffusers.schedulers import FIXED, SUPPLIED, TRAITS, scheduler_class

_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
    "solver_order": (1, 2, 3),
    # diffusers takes some other names for these without a word.
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "solver_type": ("midpoint", "heun"),
}
_THRESHOLDING = ("dynamic_thresholding_ratio", "sample_max_value")


def option_problems(name: str, options: Mapping[str, Any]) -> Iterable[str]:
    """What is wrong with the options of a scheduler, each with its value."""
    parameters = inspect.signature(scheduler_class(name).__init__).parameters
    fixed = {**FIXED, **TRAITS[name].fixed}
    for key, value in options.items():
        allowed = _ALLOWED.get(key)
        if key in SUPPLIED:
            yield f"options.{key} follows from the pipeline and cannot be set"
        elif key == "self" or key not in parameters:
            free = [p for p in parameters if p not in SUPPLIED and p not in fixed]
            yield f"options.{key}: {name} has no such option; it has {', '.join(free[1:])}"
        elif key in fixed:
            if not is_one_of(value, (fixed[key],)):
                yield f"options.{key} = {value!r} is not supported; it must be {fixed[key]!r}"
        elif allowed is not None and not is_one_of(value, allowed):
            known = " or ".join(map(repr, allowed))
            yield f"options.{key} = {value!r} is not supported; it is {known}"
    yield from _idle(name, options)
    largest = options.get("clip_sample_range", 1.0)
    if isinstance(largest, bool) or not isinstance(largest, int | float) or not largest > 0:
        yield f"options.clip_sample_range = {largest!r} is not supported; it is a positive number"


def _idle(name: str, options: Mapping[str, Any]) -> Iterable[str]:
    """The options that would do nothing beside the others."""
    thresholds = bool(options.get("thresholding"))
    for key in _THRESHOLDING:
        if key in options and not thresholds:
            yield f"options.{key} does nothing without options.thresholding; set that to true"
    if thresholds and options.get("clip_sample"):
        yield "options.clip_sample does nothing beside options.thresholding; set one to false"
    clips = bool(options.get("clip_sample")) and not thresholds
    if "clip_sample_range" in options and not clips:
        yield (
            "options.clip_sample_range does nothing where nothing is clipped; leave it out, or "
            "set options.clip_sample to true, without options.thresholding"
        )
    if "solver_type" in options and options.get("solver_order") == 1:
        yield "options.solver_type does nothing where options.solver_order is 1; leave it out"


def clipping(name: str, options: Mapping[str, Any], data_range: DataRange | None) -> dict[str, Any]:
    """The options, clipping only where that is asked for: to the data's range, or another.

    Raises:
        ComponentError: it is to clip, and there is no range, or not one of the form [-r, r].
    """
    if options.get("thresholding"):
        return dict(options)
    if not options.get("clip_sample"):
        return {**options, "clip_sample": False} if clips_by_default(name) else dict(options)
    if "clip_sample_range" in options:
        return dict(options)
    if data_range is None:
        raise ComponentError(
            f"diffusers.scheduler: options.clip_sample is true, and the data declare no range for "
            f"{name} to clip to; set data.range or options.clip_sample_range, or "
            "leave options.clip_sample out"
        )
    low, high = data_range
    if low != -high:
        raise ComponentError(
            f"diffusers.scheduler: {name} clips to [-r, r] only, and the data's range is "
            f"[{low}, {high}]; leave options.clip_sample out, and the trajectory is clipped for it"
        )
    return {**options, "clip_sample": True, "clip_sample_range": high}


def limits_data(options: Mapping[str, Any]) -> bool:
    """Whether a scheduler so configured clips x_0, or thresholds it, itself."""
    return bool(options.get("clip_sample") or options.get("thresholding"))


def draws_noise(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a scheduler so configured draws noise on its way."""
    return TRAITS[name].draws or str(options.get("algorithm_type", "")).startswith("sde-")


def clips_by_default(name: str) -> bool:
    """Whether diffusers clips x_0 unless told otherwise."""
    parameter = inspect.signature(scheduler_class(name).__init__).parameters.get("clip_sample")
    return parameter is not None and parameter.default is True
