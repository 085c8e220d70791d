"""The laws of training times."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diffkit.bundled.schedules.linear import Linear
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes, TimesState, TrainingTimes
from diffkit.testing.check import Check, check
from diffkit.testing.checks.common import ZeroTerminalSNR, accepted, float64, plain
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import FALSE_ALARM, NotApplicable, require, within
from diffkit.testing.reference import UniformLogSNR
from diffkit.testing.usages import losses_of

_LAST = 1 - 2**-53
"""The largest float64 below 1."""
_MANY, _BINS = 100_000, 10
_BATCHES, _ROWS = 2000, 8


def _schedules(subject: ComponentUnderTest) -> Iterator[tuple[str, NoiseSchedule]]:
    return accepted(
        subject,
        {
            "on a grid of 1000": Linear(),
            "on a grid of 50": Linear(steps=50),
            "on a continuous schedule": UniformLogSNR(),
            "with zero terminal SNR": ZeroTerminalSNR(),
        },
    )


def _draws(
    subject: ComponentUnderTest, times: TrainingTimes, uniform: Tensor
) -> Iterator[tuple[str, NoiseSchedule, DrawnTimes]]:
    """On each schedule; of a distribution that learns also once it has."""
    for where, schedule in _schedules(subject):
        yield where, schedule, times.draw(uniform, schedule)
        state = times.init(schedule)
        if state:
            learned = times.update(state, *losses_of(times, schedule, state))
            drawn = times.draw_learned(uniform, schedule, learned)
            yield f"{where}, once losses are known", schedule, drawn


def _learners(
    subject: ComponentUnderTest, times: TrainingTimes
) -> Iterator[tuple[str, NoiseSchedule, TimesState]]:
    """Each schedule with the first state. Raises NotApplicable where nothing is learned."""
    for where, schedule in _schedules(subject):
        state = times.init(schedule)
        if not state:
            raise NotApplicable("it learns nothing from losses")
        yield where, schedule, state


def _even(count: int) -> Tensor:
    """The middles of `count` equal parts of [0, 1), and both ends of it."""
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.cat([float64(0.0), middles, float64(_LAST)])


@check
def times_are_trained_times(subject: ComponentUnderTest) -> None:
    """Times are in (0, 1], one a number drawn, where the schedule snaps them to."""
    times: TrainingTimes = subject.make()
    uniform = _even(2000)
    for where, schedule, (t, _) in _draws(subject, times, uniform):
        plain(f"times {where}", t, uniform.shape)
        low = schedule.t_min * (1 - 1e-9)
        require(
            bool(((t >= low) & (t <= 1)).all()),
            f"times {where}",
            measured=f"from {float(t.min()):.6g} to {float(t.max()):.6g}",
            expected=f"from {schedule.t_min:.6g} (t_min) to 1",
            why="t = 0 is clean data, which no network is asked about",
        )
        why = "a rounding of k / T; other times are no times that the network is asked at"
        within(f"times {where} against what they snap to", t, schedule.snap(t), 1e-9, why)


@check
def importance_is_finite_and_not_negative(subject: ComponentUnderTest) -> None:
    """Weights are float64, one a time, at least 0 and finite."""
    times: TrainingTimes = subject.make()
    uniform = _even(2000)
    for where, _, (_, weight) in _draws(subject, times, uniform):
        plain(f"weights {where}", weight, uniform.shape)
        good = weight.isfinite() & (weight >= 0)
        first = int((~good).double().argmax())
        require(
            bool(good.all()),
            f"the weight {where} of the uniform number {float(uniform[first]):.6g}",
            measured=float(weight[first]),
            expected="at least 0, and finite",
        )


@check
def draws_follow_from_the_uniform_numbers(subject: ComponentUnderTest) -> None:
    """Equal uniform numbers give equal times and weights, other ones other times."""
    times: TrainingTimes = subject.make()
    generator = subject.generator("uniform")
    uniform, others = (torch.rand(64, generator=generator, dtype=torch.float64) for _ in range(2))
    for where, schedule in _schedules(subject):
        first, again = times.draw(uniform, schedule), times.draw(uniform.clone(), schedule)
        fresh = subject.make().draw(uniform, schedule)
        for name, second in (("drawn again", again), ("drawn by a new instance", fresh)):
            same = torch.equal(first.t, second.t) and torch.equal(first.weight, second.weight)
            require(
                same,
                f"times {where}, {name} from equal numbers",
                measured="other times or weights",
                expected="the same",
                why="randomness comes from the numbers given, or runs cannot be repeated",
            )
        require(
            not torch.equal(first.t, times.draw(others, schedule).t),
            f"times {where} from 64 other numbers",
            measured="the same times",
            expected="other times",
        )


@check
def times_reach_both_ends(subject: ComponentUnderTest) -> None:
    """Training reaches t = 1, where every trajectory starts, and the first per cents of (0, 1]."""
    times: TrainingTimes = subject.make()
    uniform = _even(20_000)
    for where, schedule, (t, _) in _draws(subject, times, uniform):
        last = 0.99 if schedule.steps is None else 1 - 1e-9
        require(
            float(t.max()) >= last,
            f"the largest time {where}, over even numbers in [0, 1) and its ends",
            measured=float(t.max()),
            expected=f"at least {last}",
            why="a trajectory starts at t = 1, and asks a network that was never trained there",
        )
        early = max(0.02, schedule.t_min)
        require(
            float(t.min()) <= early * (1 + 1e-9),
            f"the smallest time {where}, over even numbers in [0, 1) and its ends",
            measured=float(t.min()),
            expected=f"at most {early}",
            why="a trajectory ends in small steps there",
        )


@check
def weights_restore_the_uniform_distribution(subject: ComponentUnderTest) -> None:
    """Weights that are not all 1 make expectations those under the uniform distribution of t."""
    times: TrainingTimes = subject.make()
    middles = (torch.arange(_MANY, dtype=torch.float64) + 0.5) / _MANY
    # In no order, since a distribution may treat neighbours in a batch together.
    uniform = middles[torch.randperm(_MANY, generator=subject.generator("order"))]
    weighted = False
    for where, schedule, (t, weight) in _draws(subject, times, uniform):
        if bool((weight == 1).all()):
            continue
        weighted = True
        share = 0.0 if schedule.steps is None else 0.5 / schedule.steps
        # Edges between grid times; the first part of (0, 1] takes what is snapped up to t_min.
        parts = ((t - share) * _BINS).ceil().clamp(1, _BINS).long() - 1
        mass = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, parts, weight / _MANY)
        within(
            f"the mean weight in each tenth of (0, 1], {where}",
            mass,
            1 / _BINS,
            2e-3 + 10 * float(weight.max()) / _MANY,
            "100,000 even numbers, of which each edge of a tenth may misplace a few; and a "
            "step of snapping",
        )
    if not weighted:
        raise NotApplicable("all weights are 1: the distribution is the objective's own")


@check
def every_row_has_the_same_distribution(subject: ComponentUnderTest) -> None:
    """Whichever row of a batch a sample is in, its time has the same distribution."""
    times: TrainingTimes = subject.make()
    where, schedule = next(_schedules(subject))
    size = (_BATCHES, _ROWS)
    uniform = torch.rand(size, generator=subject.generator("rows"), dtype=torch.float64)
    t = torch.stack([times.draw(numbers, schedule).t for numbers in uniform])
    levels = t.flatten().sort().values.contiguous()
    rows = (row.sort().values for row in t.unbind(1))
    found = torch.stack([torch.searchsorted(row, levels, right=True) for row in rows]) / _BATCHES
    apart = (found - found.mean(0)).abs().amax(1)
    # Massart (1990): how far one distribution is found from the true one; all are, and their mean.
    limit = 2 * math.sqrt(math.log(2 * _ROWS / FALSE_ALARM) / (2 * _BATCHES))
    why = f"{_BATCHES} batches show it so well, but once in {1 / FALSE_ALARM:g}"
    what = f"how far the distribution of t in one row is from that in all, {where}"
    within(what, apart, 0.0, limit, why)


@check
def what_is_learned_is_in_the_state(subject: ComponentUnderTest) -> None:
    """A distribution that learns keeps its state out of itself: named tensors of fixed shapes, on
    the host.

    An old state draws as it did before later losses were known, as it does after resuming.
    """
    times: TrainingTimes = subject.make()
    uniform = _even(200)
    for where, schedule, state in _learners(subject, times):
        before = {name: value.clone() for name, value in state.items()}
        t, values = losses_of(times, schedule, state)
        learned = times.update(state, t, values)
        _same_form(f"the state {where}, after losses", learned, before)
        for name, value in state.items():
            why = "checkpoints hold it, and it must be what draws were made with"
            within(f"{name} of the state before losses, {where}", value, before[name], 0.0, why)
        again = subject.make().update(state, t, values)
        for name, value in learned.items():
            why = "every process computes it for itself from the same losses"
            within(f"{name} learned by a new instance, {where}", value, again[name], 0.0, why)
        for name, drawn in (
            ("by draw", times.draw(uniform, schedule)),
            ("with the first state", times.draw_learned(uniform, schedule, state)),
        ):
            new = subject.make().draw_learned(uniform, schedule, times.init(schedule))
            for part, found, wanted in zip(("times", "weights"), drawn, new, strict=True):
                what = f"{part} {where} drawn {name}, after losses were seen"
                within(what, found, wanted, 0.0, "what was learned is in the new state alone")


@check
def losses_change_the_distribution(subject: ComponentUnderTest) -> None:
    """Losses that grow with t change the times, or the weights, of a distribution that learns."""
    times: TrainingTimes = subject.make()
    uniform = _even(200)
    for where, schedule, state in _learners(subject, times):
        learned = times.update(state, *losses_of(times, schedule, state))
        before = times.draw(uniform, schedule)
        after = times.draw_learned(uniform, schedule, learned)
        same = torch.equal(before.t, after.t) and torch.equal(before.weight, after.weight)
        require(
            not same,
            f"times and weights {where}, after 30,000 losses that grow with t",
            measured="the same as before",
            expected="others",
        )


def _same_form(what: str, found: TimesState, wanted: TimesState) -> None:
    forms = [
        {name: (str(v.dtype), tuple(v.shape), v.device.type) for name, v in state.items()}
        for state in (found, wanted)
    ]
    require(
        forms[0] == forms[1] and all(device == "cpu" for *_, device in forms[0].values()),
        f"names, types, shapes and places of {what}",
        measured=forms[0],
        expected=f"{forms[1]}, all on the host",
        why="a checkpoint is read into the state of a new run",
    )


CHECKS: tuple[Check, ...] = (
    times_are_trained_times,
    importance_is_finite_and_not_negative,
    draws_follow_from_the_uniform_numbers,
    times_reach_both_ends,
    weights_restore_the_uniform_distribution,
    every_row_has_the_same_distribution,
    what_is_learned_is_in_the_state,
    losses_change_the_distribution,
)
