"""The laws of losses.

The data are one point, so that the exact answer of a network is known for every noisy sample, in
every parameterization, with no expectation to take. All is float64, so that nothing is rounding.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from diffkit.testing.check import Check, check
from diffkit.testing.checks.loss_weights import WEIGHTS
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import FALSE_ALARM, NotApplicable, require, within
from diffkit.testing.objectives import (
    ROWS,
    Trial,
    made,
    needs_variance,
    parameterizations,
    processes,
    trials,
)

_SMALL = 1e-4


@check
def there_is_one_value_per_sample(subject: ComponentUnderTest) -> None:
    """The record holds one value a sample, and the times drawn, in float64 on the host."""
    for trial in trials(subject):
        record = trial.loss_of(made(subject))
        shapes = {"t": record.t.shape}
        shapes |= {f"terms[{name!r}]": term.shape for name, term in record.terms.items()}
        for name, shape in shapes.items():
            require(
                shape == (trial.count,),
                f"the shape of {name} for {trial.count} samples, {trial}",
                measured=tuple(shape),
                expected=(trial.count,),
                why="the trainer reduces them; it weighs and logs by time",
            )
        require(
            record.t.dtype == torch.float64 and record.t.device.type == "cpu",
            "the times",
            measured=f"{record.t.dtype} on {record.t.device}",
            expected="float64 on the host",
        )
        within("the times", record.t, trial.t, 0.0, "the loss is asked at the times drawn")


@check
def nothing_beats_the_exact_answer(subject: ComponentUnderTest) -> None:
    """At every time the loss is smallest at the exact answer of the network."""
    for trial in trials(subject):
        loss = made(subject)
        exact = trial.loss_of(loss).values.detach()
        size = float(exact.abs().max())
        for sign, number in itertools.product((1.0, -1.0), range(2)):
            shift = sign * _SMALL * trial.direction(subject, number)
            gained = trial.loss_of(loss, shift).values.detach() - exact
            worst = int(torch.where(gained.isnan(), -torch.inf, gained).argmin())
            # A wrong minimum shows in the first power of the shift, a right one in the second.
            require(
                bool(gained[worst] >= -1e-12 * size),
                f"moving an exact answer by {_SMALL:g}, at t = {trial.t[worst]:.6g}, {trial}",
                measured=f"{exact[worst]:.9g} became less by {-gained[worst]:.3g}",
                expected="a larger loss",
                why="in float64 a loss is known to 1e-12 of its size",
            )
            _some_grow(gained, f"moving an exact answer by {_SMALL:g}, {trial}")


@check
def gradient_points_to_the_exact_answer(subject: ComponentUnderTest) -> None:
    """Descent along the gradient brings a wrong output nearer to the exact answer."""
    for trial in trials(subject):
        error = trial.direction(subject, 0).requires_grad_()
        values = trial.loss_of(made(subject), error).values
        require(
            values.requires_grad,
            f"the values, {trial}",
            measured="no gradient",
            expected="a gradient with respect to the network's output",
        )
        (gradient,) = torch.autograd.grad(values.sum(), error)
        inward = (gradient * error.detach()).flatten(1).sum(1)
        require(
            bool((inward >= 0).all()),
            f"the inner product of gradient and error, {trial}",
            measured=inward.tolist(),
            expected="positive (or zero where the weight is) for each sample",
        )
        _some_grow(inward, f"the inner product of gradient and error, {trial}")


@check
def values_and_gradients_are_finite(subject: ComponentUnderTest) -> None:
    """Values and gradients are finite from t_min to 1, at the exact answer and far from it."""
    for trial in trials(subject):
        for scale in (0.0, 1.0, 1e4):
            error = (scale * trial.direction(subject, 0)).requires_grad_()
            values = trial.loss_of(made(subject), error).values
            (gradient,) = torch.autograd.grad(values.sum(), error)
            for name, numbers in (("values", values), ("gradients", gradient)):
                finite = numbers.isfinite().flatten(1 if numbers.ndim > 1 else 0)
                rows = finite.all(1) if finite.ndim > 1 else finite
                require(
                    bool(rows.all()),
                    f"{name} for errors of size {scale:g}, {trial}",
                    measured=f"not finite at t = {[f'{t:.4g}' for t in trial.t[~rows].tolist()]}",
                    expected="finite at all times",
                )


@check
def values_are_of_their_own_sample(subject: ComponentUnderTest) -> None:
    """The value of a sample is the same in any batch, and only its own output moves it."""
    for trial in trials(subject):
        error = trial.direction(subject, 0).requires_grad_()
        values = trial.loss_of(made(subject), error).values
        for row in (0, ROWS - 1):
            alone = trial.only(row).loss_of(made(subject), error[[row]].detach()).values
            within(
                f"the value of sample {row} alone, against that in a batch of {ROWS}, {trial}",
                alone,
                values[[row]],
                1e-9 * float(values[row].detach().abs()),
                "only the order of float64 sums may differ",
            )
            (gradient,) = torch.autograd.grad(values[row], error, retain_graph=True)
            others = gradient.flatten(1).abs().amax(1)[torch.arange(ROWS) != row]
            within(
                f"the gradient of value {row} to the outputs for other samples, {trial}",
                others,
                0.0,
                0.0,
                "values are reduced in one place, by the trainer",
            )


@check
def network_is_asked_where_it_is_told_to_be(subject: ComponentUnderTest) -> None:
    """The network is shown `alpha x_0 + sigma epsilon` at the time that it is told."""
    rows = max(4, math.ceil(2048 / math.prod(subject.fixtures.shape)))
    for process in processes(subject):
        t = process.schedule.snap(torch.full((rows,), process.schedule.t_min).double())
        trial = Trial(subject, process, next(parameterizations(process)), t)
        trial.loss_of(made(subject))
        require(bool(trial.asked), "calls of the network", measured=0, expected="at least one")
        for call in trial.asked:
            _is_standard(call, f"the noise in what the network is shown at t = {t[0]:.4g}, {trial}")


@check
def noise_decides_the_values(subject: ComponentUnderTest) -> None:
    """Equal noise gives equal values, other noise others."""
    for trial in trials(subject):
        trial.knowing = 0.5
        loss = made(subject)
        first, again = (trial.loss_of(loss).values.detach() for _ in range(2))
        within(f"the values from equal noise, {trial}", again, first, 0.0, "nothing else is random")
        trial.seed += 1
        require(
            bool((trial.loss_of(loss).values != first).any()),
            f"the values from other noise, {trial}",
            measured="the same",
            expected="others",
        )


@check
def variance_learns_what_is_left_of_the_error(subject: ComponentUnderTest) -> None:
    """A loss that trains a variance brings it down where the network is right about the data."""
    made(subject)
    if not needs_variance(subject):
        raise NotApplicable("it trains no variance")
    for trial in trials(subject):
        spread = torch.zeros(trial.count, *subject.fixtures.shape, dtype=torch.float64)
        trial.spread = spread.requires_grad_()
        values = trial.loss_of(made(subject)).values
        (gradient,) = torch.autograd.grad(values.sum(), trial.spread, allow_unused=True)
        gradient = torch.zeros_like(spread) if gradient is None else gradient
        what = f"the gradient to the variance of a network that is right about one point, {trial}"
        require(
            bool((gradient >= 0).all()),
            what,
            measured=f"{float(gradient.min()):.4g} at its least",
            expected="no increase of the variance anywhere",
            why="the exact reverse step of one point has the posterior's variance, the smallest",
        )
        _some_grow(gradient, what)


CHECKS: tuple[Check, ...] = (
    there_is_one_value_per_sample,
    nothing_beats_the_exact_answer,
    gradient_points_to_the_exact_answer,
    values_and_gradients_are_finite,
    values_are_of_their_own_sample,
    network_is_asked_where_it_is_told_to_be,
    noise_decides_the_values,
    *WEIGHTS,
    variance_learns_what_is_left_of_the_error,
)


def _some_grow(numbers: Tensor, what: str) -> None:
    require(
        bool((numbers > 0).any()),
        what,
        measured="nothing grows at any time",
        expected="a loss that grows with the error, at some time at least",
    )


def _is_standard(noise: Tensor, what: str) -> None:
    """By the exact tail bounds of chi-squared, Laurent & Massart (2000), lemma 1."""
    count, x = noise.numel(), math.log(2.0 / FALSE_ALARM)
    low, high = (
        count - 2.0 * math.sqrt(count * x),
        count + 2.0 * math.sqrt(count * x) + 2.0 * x,
    )
    total = float(noise.square().sum())
    require(
        low <= total <= high,
        f"the mean square of {what}",
        measured=f"{total / count:.6g}",
        expected=f"between {low / count:.6g} and {high / count:.6g}",
        why=f"chi-squared with {count} degrees of freedom leaves that by chance once in "
        f"{1 / FALSE_ALARM:g}",
    )
