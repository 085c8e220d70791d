"""The laws of losses.

The data are one point, so that the exact answer of a network is known for every noisy sample, in
every parameterization, with no expectation to take. All is float64, so that nothing is rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from diffkit.core.component import arguments_of
from diffkit.core.loss import Loss
from diffkit.core.weighting import Unweighted, WeightedError, Weighting
from diffkit.testing.check import Check, check
from diffkit.testing.laws import FALSE_ALARM, NotApplicable, require, within
from diffkit.testing.objectives import Trial, made, parameterizations, processes
from diffkit.testing.subject import Subject

_ROWS = 6
_SMALL = 1e-4


@check
def there_is_one_value_per_sample(subject: Subject) -> None:
    """The record holds one value a sample, and the times drawn, in float64 on the host."""
    for trial in _trials(subject):
        record = trial.loss_of(made(subject))
        shapes = {"values": record.values.shape, "t": record.t.shape}
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
def nothing_beats_the_exact_answer(subject: Subject) -> None:
    """At every time the loss is smallest at the exact answer of the network."""
    for trial in _trials(subject):
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
def gradient_points_to_the_exact_answer(subject: Subject) -> None:
    """Descent along the gradient brings a wrong output nearer to the exact answer."""
    for trial in _trials(subject):
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
def values_and_gradients_are_finite(subject: Subject) -> None:
    """Values and gradients are finite from t_min to 1, at the exact answer and far from it."""
    for trial in _trials(subject):
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
def values_are_of_their_own_sample(subject: Subject) -> None:
    """The value of a sample is the same in any batch, and only its own output moves it."""
    for trial in _trials(subject):
        error = trial.direction(subject, 0).requires_grad_()
        values = trial.loss_of(made(subject), error).values
        for row in (0, _ROWS - 1):
            alone = trial.only(row).loss_of(made(subject), error[[row]].detach()).values
            within(
                f"the value of sample {row} alone, against that in a batch of {_ROWS}, {trial}",
                alone,
                values[[row]],
                1e-9 * float(values[row].detach().abs()),
                "only the order of float64 sums may differ",
            )
            (gradient,) = torch.autograd.grad(values[row], error, retain_graph=True)
            others = gradient.flatten(1).abs().amax(1)[torch.arange(_ROWS) != row]
            within(
                f"the gradient of value {row} to the outputs for other samples, {trial}",
                others,
                0.0,
                0.0,
                "values are reduced in one place, by the trainer",
            )


@check
def network_is_asked_where_it_is_told_to_be(subject: Subject) -> None:
    """The network is shown `alpha x_0 + sigma epsilon` at the time that it is told."""
    rows = max(4, math.ceil(2048 / math.prod(subject.bench.shape)))
    for process in processes():
        t = process.schedule.snap(torch.full((rows,), process.schedule.t_min).double())
        trial = Trial(subject, process, next(parameterizations()), t)
        trial.loss_of(made(subject))
        require(bool(trial.asked), "calls of the network", measured=0, expected="at least one")
        for call in trial.asked:
            _is_standard(call, f"the noise in what the network is shown at t = {t[0]:.4g}, {trial}")


@check
def noise_decides_the_values(subject: Subject) -> None:
    """Equal noise gives equal values, other noise others."""
    for trial in _trials(subject):
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
def importance_weights_multiply(subject: Subject) -> None:
    """The weights of the law of times multiply the values."""
    for trial in _trials(subject):
        error = trial.direction(subject, 0)
        plain = trial.loss_of(made(subject), error).values.detach()
        trial.weight = torch.linspace(0.5, 3.0, _ROWS, dtype=torch.float64)
        weighted = trial.loss_of(made(subject), error).values.detach()
        _equal_products(f"values weighted by 0.5 to 3, {trial}", weighted, trial.weight * plain)


@check
def weighting_multiplies_at_the_own_noise_level(subject: Subject) -> None:
    """A loss with a weighting multiplies each value by the weight at the sample's log-SNR."""
    for trial in _trials(subject):
        error = trial.direction(subject, 0)
        weighting = _Ramp()
        plain = trial.loss_of(_with_weighting(subject, Unweighted()), error).values.detach()
        weighted = trial.loss_of(_with_weighting(subject, weighting), error).values.detach()
        weight = weighting.weight(trial.process.log_snr(trial.t))
        _equal_products(f"values weighted by a known weighting, {trial}", weighted, weight * plain)


@check
def weighting_is_of_the_error_that_it_names(subject: Subject) -> None:
    """A weighting of the error in x_0 or epsilon is carried over to what the network predicts."""
    for trial in _trials(subject):
        error = trial.direction(subject, 0)
        plain = trial.loss_of(_with_weighting(subject, Unweighted()), error).values.detach()
        log_snr = trial.process.log_snr(trial.t)
        scales = trial.process.scales(log_snr)
        target = trial.parameterization.target(scales)
        for weighting in (_RampOfData(), _RampOfNoise()):
            weighted = trial.loss_of(_with_weighting(subject, weighting), error).values.detach()
            weight = weighting.of_output(log_snr, scales, target)
            what = f"values weighted by the error in {weighting.error}, {trial}"
            _equal_products(what, weighted, weight * plain)


CHECKS: tuple[Check, ...] = (
    there_is_one_value_per_sample,
    nothing_beats_the_exact_answer,
    gradient_points_to_the_exact_answer,
    values_and_gradients_are_finite,
    values_are_of_their_own_sample,
    network_is_asked_where_it_is_told_to_be,
    noise_decides_the_values,
    importance_weights_multiply,
    weighting_multiplies_at_the_own_noise_level,
    weighting_is_of_the_error_that_it_names,
)


class _Ramp(Weighting):
    """A weight that tells every log-SNR from every other."""

    def weight(self, log_snr: Tensor) -> Tensor:
        return torch.nn.functional.softplus(0.3 * log_snr) + 0.1


class _RampOfData(_Ramp):
    error: ClassVar[WeightedError] = "x_0"


class _RampOfNoise(_Ramp):
    error: ClassVar[WeightedError] = "epsilon"


def _trials(subject: Subject) -> Iterator[Trial]:
    """Each process with each parameterization, at times from end to end."""
    for process, parameterization in itertools.product(processes(), parameterizations()):
        schedule = process.schedule
        t = torch.linspace(schedule.t_min, 1.0, _ROWS, dtype=torch.float64)
        yield Trial(subject, process, parameterization, schedule.snap(t))


def _with_weighting(subject: Subject, weighting: Weighting) -> Loss:
    loss = made(subject)
    arguments = arguments_of(loss)
    names = [name for name, value in arguments.items() if isinstance(value, Weighting)]
    if not names:
        raise NotApplicable("it has no weighting among its arguments")
    changed: Loss = type(loss)(**{**arguments, names[0]: weighting})
    return changed


def _some_grow(numbers: Tensor, what: str) -> None:
    require(
        bool((numbers > 0).any()),
        what,
        measured="nothing grows at any time",
        expected="a loss that grows with the error, at some time at least",
    )


def _equal_products(what: str, measured: Tensor, expected: Tensor) -> None:
    within(
        what,
        measured / expected.abs().clamp(min=1e-300),
        expected.sign(),
        1e-5,
        "float32 is known to 1e-7, and weights may be cast to it",
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
