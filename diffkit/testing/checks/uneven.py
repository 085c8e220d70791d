"""The laws of samplers over steps that are not alike: some are longer than others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from diffkit.core.sampler import Sampler
from diffkit.testing.beside import start_of
from diffkit.testing.check import Check, check
from diffkit.testing.checks.limits import END, ROUNDING, error_over, is_stochastic, smooth
from diffkit.testing.checks.setups import consent, curves_of, exact_for, sampler_of, shape_for
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.trajectories import Probe, even, states_of

_SIZES = (128, 256)
_SLACK = 0.3
_STEPS = 20
_SHARE = 1e-4
_PLACES = (3, 8, 15)
_TIMES_TOO_FAR = 5.0


@check
def keeps_its_order_on_uneven_steps(subject: ComponentUnderTest) -> None:
    """The order holds on steps that lengthen slowly, and on others as far as it is declared.

    A solver whose coefficients take steps to be even (Adams-Bashforth's) is right on even ones,
    and of first order where long and short steps take turns. One that corrects for that says so
    by the property `order_on_uneven_steps`.
    """
    sampler = sampler_of(subject)
    if sampler.order is None:
        raise NotApplicable("it declares no order")
    consent(subject, smooth(curves_of(subject)[0]))
    _, even_order = _measured(subject, sampler, _even)
    if even_order < sampler.order - _SLACK:
        raise NotApplicable("it does not keep its order on even steps: see converges_as_declared")
    growing = _measured(subject, sampler, _growing)
    _require_order("steps that grow threefold over the trajectory", growing, sampler.order)
    declared = sampler.order_on_uneven_steps
    alternating = _measured(subject, sampler, _alternating)
    measured = _require_order("steps long and short in turn, 3:1", alternating, declared or 1)
    if declared is None and measured < sampler.order - _SLACK:
        raise NotApplicable(
            f"it declares no order_on_uneven_steps, and its order there is {measured:.2f}, not "
            f"{sampler.order}: its coefficients take steps to be even. If they should not, look at "
            "how they use the length of the step before"
        )


def _require_order(steps: str, found: tuple[list[float], float], order: int) -> float:
    errors, measured = found
    shown = " ".join(f"{n}: {e:.3g}" for n, e in zip(_SIZES, errors, strict=True))
    require(
        measured >= order - _SLACK,
        f"the order on {steps}, from the errors at so many steps: {shown}",
        measured=f"{measured:.2f}",
        expected=f"at least {order - _SLACK:.1f}",
        why="a solver that uses earlier steps has to know how long they were",
    )
    return measured


def _measured(
    subject: ComponentUnderTest, sampler: Sampler, lengths: Callable[[int], Sequence[float]]
) -> tuple[list[float], float]:
    """The errors, and the order; infinite where nothing but rounding is left to measure."""
    errors = [error_over(subject, sampler, _times(lengths(size))) for size in _SIZES]
    exact = errors[-1] < ROUNDING
    return errors, math.inf if exact else math.log2(errors[0] / errors[1])


def _even(count: int) -> Sequence[float]:
    return [1.0] * count


def _alternating(count: int) -> Sequence[float]:
    return [3.0, 1.0] * (count // 2)


def _growing(count: int) -> Sequence[float]:
    return [1.0 + 2.0 * index / count for index in range(count)]


def _times(lengths: Sequence[float]) -> tuple[float, ...]:
    """From 1 to `END` in steps of these proportions."""
    total = sum(lengths)
    inside = (1.0 + (END - 1.0) * done / total for done in accumulate(lengths[:-1]))
    return (1.0, *inside, END)


@check
def a_short_step_goes_a_short_way(subject: ComponentUnderTest) -> None:
    """A step of hardly any length, after one of the usual length, moves hardly anything.

    A multistep solver with its step ratio upside down keeps its order on every grid, as the
    errors of neighbouring steps cancel; but its short steps go far.
    """
    sampler = sampler_of(subject)
    if sampler.order is None:
        raise NotApplicable("it declares no order, so its steps need not shrink with their length")
    consent(subject, smooth(curves_of(subject)[0]))
    if is_stochastic(subject, sampler):
        raise NotApplicable("it draws noise, of which a short step may add and take away more")
    times = even(_STEPS, 1.0, END)
    for place in _PLACES:
        t, s = times[place : place + 2]
        short = (*times[: place + 1], t + _SHARE * (s - t), *times[place + 1 :])
        usually = _way(subject, sampler, times, place)
        share = _way(subject, sampler, short, place) / (_SHARE * usually)
        require(
            share <= _TIMES_TOO_FAR,
            f"the way of a step {_SHARE:g} times as long as the one before it, at t = {t:.3g}",
            measured=f"{share:.3g} times its share of the usual step's way",
            expected=f"at most {_TIMES_TOO_FAR:g} times",
            why="a step shrinks with its length, unless the ratio of two steps is upside down",
        )


def _way(
    subject: ComponentUnderTest, sampler: Sampler, times: Sequence[float], place: int
) -> float:
    """How far the step from `times[place]` carries the samples, in a trajectory that goes on."""
    process = smooth(curves_of(subject)[0])
    x, states = start_of(process, shape_for(subject), 1.0), {}
    for state in states_of(sampler, exact_for(subject, process), x, times, Probe()):
        states[state.t] = state.x
    return float((states[times[place + 1]] - states[times[place]]).norm())


CHECKS: tuple[Check, ...] = (keeps_its_order_on_uneven_steps, a_short_step_goes_a_short_way)
