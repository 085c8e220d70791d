"""The laws of schedules about their arithmetic: precision, tables, parameters."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from diffkit.core.schedule import DiscreteSchedule, NoiseSchedule
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import in_double_precision, plain, relatively
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require, within

# Kernels for vectors and for single numbers round differently, by units in the last place.
ROUNDING = 1e-12


@check
@torch.no_grad()
def log_snr_has_double_precision(subject: ComponentUnderTest) -> None:
    """The log-SNR is computed from float64 numbers, tables included."""
    schedule: NoiseSchedule = subject.make()
    t = random_times(subject, schedule, 400)
    if schedule.steps is not None:
        t = half_steps(schedule.steps)[1::2]
    log_snr = schedule.log_snr(t)
    for name, values in (
        ("log_snr", log_snr),
        ("alpha-bar", torch.sigmoid(log_snr)),
        ("1 - alpha-bar", torch.sigmoid(-log_snr)),
        ("the SNR", torch.exp(log_snr)),
        ("sigma / alpha", torch.exp(-log_snr / 2)),
        ("the square root of alpha-bar", torch.sigmoid(log_snr).sqrt()),
    ):
        in_double_precision(name, values)


@check
@torch.no_grad()
def rounding_of_t_changes_nothing(subject: ComponentUnderTest) -> None:
    """The log-SNR at a time that is off by rounding is off by rounding: it never jumps."""
    schedule: NoiseSchedule = subject.make()
    t = random_times(subject, schedule, 200)
    if schedule.steps is not None:
        t = torch.cat([t, half_steps(schedule.steps)])
    # At t = 1 the log-SNR may fall to -inf, as steeply as it likes.
    t = t[t < 1 - 1e-6]
    exact = schedule.log_snr(t)
    for name, nudged in (("less", t * (1 - 4e-16)), ("more", t * (1 + 4e-16))):
        relatively(
            f"log_snr where t is two units in the last place {name}",
            schedule.log_snr(nudged),
            exact,
            1e-6,
            "k / T is seldom exact in floating point; even a slope of 1e9 moves less than this",
            size=1.0,
        )


@check
@torch.no_grad()
def log_snr_is_the_product_of_the_betas(subject: ComponentUnderTest) -> None:
    """The log-SNR at k / T is that of alpha-bar, the product of 1 - beta_j for j = 1..k."""
    schedule = subject.make()
    if not isinstance(schedule, DiscreteSchedule):
        raise NotApplicable("the schedule has no betas")
    betas, steps = schedule.betas, schedule.steps
    plain("betas", betas, (steps,))
    log_snr = schedule.log_snr(half_steps(steps)[1::2])
    log_kept = torch.cat([torch.zeros(1, dtype=torch.float64), nn.functional.logsigmoid(log_snr)])
    within(
        "1 - alpha_bar_k / alpha_bar_(k-1), from log_snr, against beta_k",
        -torch.expm1(log_kept.diff()),
        betas,
        1e-10,
        "float64 leaves 1e-14; a table in float32 is wrong by 1e-8, in float16 by 1e-4",
    )
    relatively(
        "1 - alpha_bar_1, from log_snr, against beta_1",
        torch.sigmoid(-log_snr[:1]),
        betas[:1],
        1e-9,
        "float64 leaves 1e-12; 1 - alpha_bar in float32 keeps three digits of it",
    )


@check
@torch.no_grad()
def default_dtype_changes_nothing(subject: ComponentUnderTest) -> None:
    """Neither log_snr nor time_at depends on torch's default dtype."""
    expected = _sampled(subject.make())
    before = torch.get_default_dtype()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        schedule = subject.make()
        # Parameters have the dtype they were made in; everything else must not care.
        trained = isinstance(schedule, nn.Module) and any(True for _ in schedule.parameters())
        torch.set_default_dtype(dtype)
        try:
            found = _sampled(schedule if trained else subject.make())
        finally:
            torch.set_default_dtype(before)
        _unchanged(f"under the default dtype {dtype}", found, expected)


@check
@torch.no_grad()
def casting_leaves_tables_alone(subject: ComponentUnderTest) -> None:
    """A schedule that is a module gives the same log_snr after .to(bfloat16), parameters aside."""
    schedule = subject.make()
    if not isinstance(schedule, nn.Module):
        raise NotApplicable("the schedule is not a module, so that no cast reaches it")
    expected = _sampled(cast(NoiseSchedule, schedule))
    kept = copy.deepcopy(dict(schedule.named_parameters()))
    schedule.to(torch.bfloat16)
    for name, parameter in schedule.named_parameters():
        parameter.data = kept[name].data
    _unchanged("after .to(bfloat16)", _sampled(cast(NoiseSchedule, schedule)), expected)


@check
def gradients_reach_the_parameters(subject: ComponentUnderTest) -> None:
    """The gradient of log_snr reaches every trainable parameter of the schedule, and is finite."""
    schedule = subject.make()
    trained: dict[str, nn.Parameter] = {}
    if isinstance(schedule, nn.Module):
        trained = {n: p for n, p in schedule.named_parameters() if p.requires_grad}
    if not trained:
        raise NotApplicable("the schedule has nothing to train")
    t = random_times(subject, schedule, 64)
    log_snr = schedule.log_snr(t)
    require(log_snr.requires_grad, "log_snr", measured="no gradient", expected="a gradient")
    weights = torch.randn(64, generator=subject.generator("weights"), dtype=torch.float64)
    (weights * log_snr).sum().backward()
    grads = {name: parameter.grad for name, parameter in trained.items()}
    missed = [n for n, g in grads.items() if g is None or not bool(g.isfinite().all())]
    require(not missed, "parameters without a finite gradient", measured=missed, expected="none")
    moved = any(g is not None and bool(g.any()) for g in grads.values())
    require(moved, "the gradient of log_snr", measured="0 everywhere", expected="not 0")


def random_times(subject: ComponentUnderTest, schedule: NoiseSchedule, count: int) -> Tensor:
    """In [t_min, 1), in no order; for T = 1, where t_min is 1, in (0, 1)."""
    low = schedule.t_min if schedule.t_min < 1 else 1e-3
    uniform = torch.rand(count, generator=subject.generator("times"), dtype=torch.float64)
    return low + (1 - low) * uniform


def half_steps(steps: int) -> Tensor:
    """The grid k / T, k = 1..T, and the middles before each."""
    halves = torch.arange(1, 2 * steps + 1, dtype=torch.float64)
    return halves / (2 * steps)


def _sampled(schedule: NoiseSchedule) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.linspace(0.03125, 0.96875, 31, dtype=torch.float64)
    numbers = torch.stack([schedule.log_snr(time) for time in (0.3, schedule.t_min)])
    log_snr = schedule.log_snr(t)
    return log_snr, schedule.time_at(log_snr), numbers


def _unchanged(
    when: str, found: tuple[Tensor, Tensor, Tensor], expected: tuple[Tensor, Tensor, Tensor]
) -> None:
    names = ("log_snr of a vector", "time_at", "log_snr of numbers")
    for name, now, before in zip(names, found, expected, strict=True):
        plain(f"{name} {when}", now, before.shape)
        why = "the arithmetic is float64 whatever surrounds it"
        relatively(f"{name} {when}, against before", now, before, ROUNDING, why)


ARITHMETIC_CHECKS: tuple[Check, ...] = (
    log_snr_has_double_precision,
    rounding_of_t_changes_nothing,
    log_snr_is_the_product_of_the_betas,
    default_dtype_changes_nothing,
    casting_leaves_tables_alone,
    gradients_reach_the_parameters,
)
