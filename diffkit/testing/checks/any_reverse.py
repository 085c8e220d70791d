"""The laws of a step back, and of where diffusion ends, of processes that need not be Gaussian.

Gaussian ones have theirs, which are identities. Of others only draws are known, so distributions
are compared by numbers between 0 and 1 of each sample, with a bound that holds for any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffkit.core.noise import BatchNoise, SampleNoise
from diffkit.core.process import GaussianProcess
from diffkit.testing.check import Check, check
from diffkit.testing.checks.any_process import Trial, noise_for, trial_of
from diffkit.testing.checks.common import distinct
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import FALSE_ALARM, NotApplicable, NotChecked, require, within

_ROWS, _NUMBERS = 4000, 4_000_000
"""Samples of a comparison, and the numbers that their logits may be."""
_STEPS = ((1.0, 0.5), (0.3, 0.2), (0.1, 0.05))
"""`(t, s)`: under most schedules those of much, of some and of little noise are among them."""
_ROUNDING = 1e-9
_SURE = 100.0
"""A logit beside zeros: another token is drawn with probability 1e-43."""


def _not_gaussian(subject: ComponentUnderTest, count: int) -> Trial:
    process = subject.make()
    if isinstance(process, GaussianProcess):
        raise NotApplicable("Gaussian processes have laws of their own for it")
    return trial_of(subject, process, count, torch.float64)


def _sure(trial: Trial, x_t: Tensor, t: float) -> Tensor:
    """An output that says nothing but the data: logits of tokens, or the data themselves.

    Raises NotChecked where a process reads it otherwise.
    """
    x_0 = trial.x_0
    tokens = not x_0.is_floating_point()
    output = _SURE * one_hot(x_0, trial.output.shape[-1]).double() if tokens else x_0.clone()
    said = trial.process.interpret(output, x_t, t).x_0
    said = said.argmax(-1) if tokens and said.shape != x_0.shape else said
    if said.shape != x_0.shape or not torch.allclose(said.double(), x_0.double()):
        raise NotChecked("what a network puts out that is sure of the data is not known")
    return output


@check
def a_sure_prediction_leads_to_the_data(subject: ComponentUnderTest) -> None:
    """A step back to s = 0, from a prediction that is sure of the data, gives the data."""
    trial = _not_gaussian(subject, 3)
    drawn = trial.process.draw(trial.x_0, _source(subject, 3), trial.condition)
    for t in (1.0, 0.6, 0.1):
        x_t = trial.process.diffuse(trial.x_0, t, drawn)
        prediction = trial.process.interpret(_sure(trial, x_t, t), x_t, t)
        x_s = trial.process.reverse(prediction, x_t, t, 0.0, _source(subject, 3, 1))
        within(
            f"a step back from t = {t} to 0",
            x_s,
            trial.x_0,
            _ROUNDING if x_s.is_floating_point() else 0.0,
            "q(x_0 | x_t, x_0) is x_0: no noise is left at t = 0",
        )


@check
def steps_back_keep_the_marginals(subject: ComponentUnderTest) -> None:
    """Diffusion to t and a step back to s, sure of the data, has the law of diffusion to s."""
    trial = _repeated(_not_gaussian(subject, 1))
    count = len(trial.x_0)
    for number, (t, s) in enumerate(_STEPS):
        x_s, x_t = (
            trial.process.diffuse(
                trial.x_0,
                time,
                trial.process.draw(trial.x_0, _source(subject, count, step), trial.condition),
            )
            for time, step in ((s, 4 * number), (t, 4 * number + 1))
        )
        prediction = trial.process.interpret(_sure(trial, x_t, t), x_t, t)
        noise = _source(subject, count, 4 * number + 2)
        found = trial.process.reverse(prediction, x_t, t, s, noise)
        what = f"diffusion to {t} and a step back to {s}, against diffusion to {s}"
        _of_one_law(what, found, x_s, trial.x_0, len(_STEPS))


@check
def the_prior_is_where_diffusion_ends(subject: ComponentUnderTest) -> None:
    """The prior has the law of data that are diffused to t = 1."""
    trial = _repeated(_not_gaussian(subject, 1))
    count = len(trial.x_0)
    drawn = trial.process.draw(trial.x_0, _source(subject, count), trial.condition)
    ended = trial.process.diffuse(trial.x_0, 1.0, drawn)
    given = {name: trial.condition[name] for name in trial.process.prior_takes}
    prior = trial.process.prior(tuple(trial.x_0.shape), _source(subject, count, 1), given)
    _of_one_law("the prior, against diffusion to 1", prior.to(ended.dtype), ended, trial.x_0, 1)


@check
def steps_back_come_from_the_source(subject: ComponentUnderTest) -> None:
    """A step back is made of the noise source alone, each sample's from its own index."""
    trial = trial_of(subject, subject.make(), 3, torch.float64)
    process = trial.process
    x_t = process.diffuse(
        trial.x_0, 0.6, process.draw(trial.x_0, noise_for(subject), trial.condition)
    )

    def step(*rows: int) -> Tensor:
        noise = SampleNoise(seed=subject.seed_for("back"), indices=rows, dtype=torch.float64)
        some = x_t[list(rows)]
        prediction = process.interpret(trial.output[list(rows)], some, 0.6)
        return process.reverse(prediction, some, 0.6, 0.3, noise)

    whole = step(0, 1, 2)
    within("the same step again", step(0, 1, 2), whole, 0.0, "results must follow from the seed")
    why = "a sample must not depend on the batch it is drawn in"
    within("the step of sample 1 alone, and among three", step(1), whole[1:2], _ROUNDING, why)


@check
def each_sample_has_its_own_time(subject: ComponentUnderTest) -> None:
    """Diffused to a time for each sample, each is what it is alone at that time."""
    trial = trial_of(subject, subject.make(), 3, torch.float64)
    process, times = trial.process, (0.1, 0.5, 1.0)

    def diffused(rows: list[int], t: float | Tensor) -> Tensor:
        noise = SampleNoise(seed=subject.seed_for("times"), indices=rows, dtype=torch.float64)
        condition = {name: value[rows] for name, value in trial.condition.items()}
        x_0 = trial.x_0[rows]
        return process.diffuse(x_0, t, process.draw(x_0, noise, condition))

    whole = diffused([0, 1, 2], torch.tensor(times, dtype=torch.float64))
    for row, t in enumerate(times):
        what = f"sample {row} among three, each at its own time, and alone at t = {t}"
        within(what, whole[[row]], diffused([row], t), 1e-6, "training draws a time for each")


@dataclass(frozen=True)
class _Features:
    """Numbers of each sample, from 0 to 1, by which laws are told apart."""

    names: list[str]
    of: Callable[[Tensor], Tensor]


def _features_of(x: Tensor, other: Tensor, x_0: Tensor) -> _Features:
    """Of tokens the share that each of them has where the data have each; of numbers waves of about
    the length of their spread, around their mean: all of them, and by the sign of the data.
    """
    if not x.is_floating_point():
        seen = distinct(torch.cat([x, other])).tolist()
        there = {v: (x_0 == v).flatten(1).double() for v in distinct(x_0).tolist()}
        pairs = [(v, k) for v in there for k in seen]
        return _Features(
            [f"the share of the token {k} where the data are {v}" for v, k in pairs],
            lambda y: torch.stack(
                [((y == k).flatten(1) * there[v]).sum(1) / there[v].sum(1) for v, k in pairs], 1
            ),
        )
    middle, spread = x.mean(0), x.std(0).clamp(min=1e-3)

    def waves(y: Tensor) -> Tensor:
        z = ((y - middle) / spread).flatten(1)
        sign = x_0.sign().flatten(1)
        found = [z.cos().mean(1), z.sin().mean(1), (sign * z.sin()).mean(1)]
        return 0.5 + 0.5 * torch.stack(found, 1)

    return _Features(["cos z", "sin z", "sin z by the sign of the data"], waves)


def _of_one_law(what: str, found: Tensor, wanted: Tensor, x_0: Tensor, comparisons: int) -> None:
    """Raise LawBroken where the rows of two samples have different laws.

    Maurer & Pontil (2009), theorem 4, of the differences, which are between -1 and 1 and
    independent: `sqrt(2 V L / n) + 7 R L / (3 (n - 1))`, with R = 2 and L = log(4 / alarm).
    """
    features = _features_of(wanted, found, x_0)
    apart = features.of(found) - features.of(wanted)
    n, number = apart.shape
    size = math.log(4 * comparisons * number / FALSE_ALARM)
    limit = (2 * apart.var(0) * size / n).sqrt() + 14 * size / (3 * (n - 1))
    worst = int((apart.mean(0).abs() - limit).argmax())
    require(
        bool(apart.mean(0)[worst].abs() <= limit[worst]),
        f"{what}: {features.names[worst]}, in the mean of {n} samples",
        measured=f"{float(apart.mean(0)[worst]):.3g} more",
        expected=f"0 within {float(limit[worst]):.3g}",
        why=f"a right process fails with probability {FALSE_ALARM:g} at most",
    )


def _repeated(trial: Trial) -> Trial:
    """One sample, as often as a comparison takes."""
    count = min(_ROWS, max(2, _NUMBERS // trial.output[0].numel()))

    def copies(value: Tensor) -> Tensor:
        return value[:1].repeat(count, *[1] * (value.ndim - 1))

    condition = {name: copies(value) for name, value in trial.condition.items()}
    return Trial(trial.process, copies(trial.x_0), condition, copies(trial.output))


def _source(subject: ComponentUnderTest, count: int, step: int = 0) -> BatchNoise:
    seed = subject.seed_for("laws")
    return BatchNoise(seed=seed, step=step, rows=range(count), total=count, dtype=torch.float64)


ANY_REVERSE_CHECKS: tuple[Check, ...] = (
    a_sure_prediction_leads_to_the_data,
    steps_back_keep_the_marginals,
    the_prior_is_where_diffusion_ends,
    steps_back_come_from_the_source,
    each_sample_has_its_own_time,
)
