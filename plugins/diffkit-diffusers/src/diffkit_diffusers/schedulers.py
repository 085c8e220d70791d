"""Which schedulers of diffusers can sample, and how one is made for a trajectory."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError
from torch import Tensor

from diffkit_diffusers._errors import ERRORS


@dataclass(frozen=True)
class Traits:
    """What has to be known of a scheduler, and what it does not say itself."""

    in_sigma_space: bool = False
    """Its states are `x_t / alpha_t`."""
    fixed_stride: bool = False
    """A step leads `T // S` indices down, wherever the next one is."""
    feeds: tuple[str, ...] = ("epsilon", "sample")
    draws: bool = False
    """It draws noise, whatever its options."""
    needs: str | None = None
    """What has to be installed beside diffusers."""
    without_signal: tuple[str, ...] = ()
    """What it can be fed where a trajectory starts from no signal at all, without dividing by 0."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """The values of options with which a trajectory to sigma = 0 stays finite and right."""


TRAITS: Mapping[str, Traits] = {
    "DDIMScheduler": Traits(fixed_stride=True, without_signal=("sample",)),
    "DDPMScheduler": Traits(draws=True, without_signal=("sample",)),
    "DPMSolverMultistepScheduler": Traits(fixed={"variance_type": None}),
    "DPMSolverSinglestepScheduler": Traits(
        fixed={"algorithm_type": "dpmsolver++", "variance_type": None}
    ),
    "EulerAncestralDiscreteScheduler": Traits(in_sigma_space=True, draws=True, feeds=("epsilon",)),
    "EulerDiscreteScheduler": Traits(in_sigma_space=True),
    "HeunDiscreteScheduler": Traits(in_sigma_space=True, feeds=("epsilon",)),
    "LMSDiscreteScheduler": Traits(in_sigma_space=True, needs="scipy"),
    "PNDMScheduler": Traits(fixed_stride=True, feeds=("epsilon",)),
    "UniPCMultistepScheduler": Traits(fixed={"solver_type": "bh2", "predict_x0": True}),
}
"""The schedulers that are known to sample as declared; no other is taken."""

SUPPLIED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
)
"""What follows from the pipeline, and so is not an option."""
FIXED: Mapping[str, Any] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
    "rescale_betas_zero_snr": False,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
    "shift_terminal": None,
    "final_sigmas_type": "zero",
    "set_alpha_to_one": True,
    "skip_prk_steps": True,
    "solver_p": None,
    "lower_order_final": True,
    "lambda_min_clipped": -math.inf,
    "flow_shift": 1.0,
    "time_shift_type": "exponential",
}
"""The values with which a trajectory visits its times and ends at 0."""

_TRIED = 12
"""Steps of a trial trajectory: enough for all orders."""


def scheduler_class(name: str) -> Any:
    """The class of diffusers with this name. Raises ComponentError for anything else."""
    from diffusers import schedulers

    found = getattr(schedulers, name, None) if name.isidentifier() else None
    if not (
        name.endswith("Scheduler")
        and isinstance(found, type)
        and issubclass(found, schedulers.SchedulerMixin)
    ):
        # What lacks a library that it needs is a placeholder of diffusers.
        needs = TRAITS[name].needs if name in TRAITS else None
        hint = f"; it needs {needs}" if needs else f"; those that can sample are {_known()}"
        raise ComponentError(
            f"diffusers.scheduler: scheduler = {name!r} is not a scheduler of diffusers{hint}"
        )
    if name not in TRAITS:
        raise ComponentError(
            f"diffusers.scheduler: scheduler = {name!r} is not supported; those that can sample "
            f"a variance-preserving process from time to time are {_known()}"
        )
    return found


def made(name: str, options: Mapping[str, Any], feed: str, betas: Sequence[float]) -> Any:
    """A scheduler for one trajectory, on a grid with these betas."""
    scheduler = scheduler_class(name)
    parameters = inspect.signature(scheduler.__init__).parameters
    fixed = {key: value for key, value in FIXED.items() if key in parameters}
    return _made(
        scheduler,
        {
            **fixed,
            **options,
            "num_train_timesteps": len(betas),
            "trained_betas": list(betas),
            "prediction_type": feed,
        },
    )


def check_steps(name: str, options: Mapping[str, Any], feed: str) -> None:
    """Sample on a small grid, to find values of options that diffusers meets in its steps only.

    Raises:
        ComponentError: it cannot, or what comes out is not finite.
    """
    betas = torch.linspace(0.01, 0.2, _TRIED, dtype=torch.float64).tolist()
    scheduler = with_times(made(name, options, feed, betas), list(reversed(range(_TRIED))))
    x = torch.ones(1, 1, 2, 2)
    draws = "generator" in inspect.signature(scheduler.step).parameters
    arguments = {"generator": torch.Generator().manual_seed(0)} if draws else {}
    try:
        for index in scheduler.timesteps:
            output = 0.5 * scheduler.scale_model_input(x, index)
            x = scheduler.step(output, index, x, return_dict=False, **arguments)[0]
    except ERRORS as error:
        raise ComponentError(
            f"diffusers.scheduler: {name} cannot step with the options {dict(options)!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not bool(torch.isfinite(x).all()):
        raise ComponentError(
            f"diffusers.scheduler: {name} gives numbers that are not finite with the options "
            f"{dict(options)!r}"
        )


def with_times(scheduler: Any, wanted: Sequence[int]) -> Any:
    """The scheduler set to ask at these indices, from the noisiest down.

    Raises:
        ComponentError: it cannot be.
    """
    if "timesteps" in inspect.signature(scheduler.set_timesteps).parameters:
        _set(scheduler, timesteps=list(wanted))
        _check_levels(scheduler, wanted)
        return scheduler
    for spacing in ("trailing", "leading", "linspace"):
        tried = _made(type(scheduler), {**_plain(scheduler), "timestep_spacing": spacing})
        _set(tried, num_inference_steps=len(wanted))
        if asked(tried) == list(wanted):
            _check_stride(tried, wanted)
            _check_levels(tried, wanted)
            return tried
    raise ComponentError(
        f"diffusers.scheduler: {type(scheduler).__name__} chooses its own times, and none of its "
        f"spacings gives the {len(wanted)} of this trajectory; use the spacing 'trailing' and "
        f"steps that divide {scheduler.config.num_train_timesteps}, go down to 0, or take a "
        "scheduler that accepts times, such as DPMSolverMultistepScheduler"
    )


def asked(scheduler: Any) -> list[int]:
    """The different indices that it asks the network at, in order."""
    return list(dict.fromkeys(round(float(index)) for index in scheduler.timesteps))


def betas_of(schedule: NoiseSchedule) -> list[float]:
    """`beta_k = 1 - alpha_bar_k / alpha_bar_(k-1)`, k = 1..T, of a discrete schedule."""
    assert schedule.steps is not None
    grid = torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps
    log_kept = torch.nn.functional.logsigmoid(schedule.log_snr(grid))
    before = torch.cat([torch.zeros(1, dtype=torch.float64), log_kept[:-1]])
    betas: list[float] = (-torch.expm1(log_kept - before)).tolist()
    return betas


def sigma_at(scheduler: Any, place: int, like: Tensor) -> Tensor:
    """The sigma in the scheduler's own space, where it keeps a table of it."""
    sigma: Tensor = scheduler.sigmas[place]
    return sigma.to(device=like.device, dtype=like.dtype)


def _set(scheduler: Any, **times: Any) -> None:
    try:
        scheduler.set_timesteps(**times)
    except ERRORS as error:
        raise ComponentError(
            f"diffusers.scheduler: {type(scheduler).__name__} cannot go over these times: {error}"
        ) from error


def _made(scheduler: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return scheduler(**arguments)
    except (*ERRORS, ImportError) as error:
        raise ComponentError(
            f"diffusers.scheduler: diffusers cannot make a {scheduler.__name__} with these "
            f"options: {error}"
        ) from error


def _plain(scheduler: Any) -> dict[str, Any]:
    """The arguments that it was made with."""
    return {key: value for key, value in scheduler.config.items() if not key.startswith("_")}


def _check_stride(scheduler: Any, wanted: Sequence[int]) -> None:
    """Refuse times that a scheduler with a fixed stride would not land on."""
    name = type(scheduler).__name__
    if not TRAITS[name].fixed_stride:
        return
    stride = scheduler.config.num_train_timesteps // len(wanted)
    following = [*wanted[1:], None]
    for index, after in zip(wanted, following, strict=True):
        reached = index - stride
        if (after is None and reached >= 0) or (after is not None and reached != after):
            raise ComponentError(
                f"diffusers.scheduler: {name} always steps {stride} indices down, so from index "
                f"{index} it does not reach the trajectory's next time; use steps that divide "
                f"{scheduler.config.num_train_timesteps}, or the spacing 'leading'"
            )


def _check_levels(scheduler: Any, wanted: Sequence[int]) -> None:
    """Refuse where the scheduler's own noise levels are not those of the indices."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        return
    alpha_bar = scheduler.alphas_cumprod.double()[list(wanted)]
    expected = ((1 - alpha_bar) / alpha_bar).sqrt()
    found = torch.unique_consecutive(sigmas.double())
    if len(found) != len(expected) + 1 or not torch.allclose(found[:-1], expected, rtol=1e-3):
        raise ComponentError(
            f"diffusers.scheduler: with these options {type(scheduler).__name__} goes through "
            "other noise levels than those of the trajectory's times"
        )
    if float(found[-1]) != 0.0:
        raise ComponentError(
            f"diffusers.scheduler: with these options {type(scheduler).__name__} ends at sigma "
            f"{float(found[-1]):.4g}, and a trajectory ends at 0"
        )


def _known() -> str:
    return ", ".join(TRAITS)
