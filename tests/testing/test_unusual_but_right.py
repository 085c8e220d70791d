"""Right components that are unusual pass the kit: a check that fails them is wrong itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import Prediction, Target
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.schedule import NoiseSchedule, as_time
from diffkit.core.times import DrawnTimes, TrainingTimes
from diffkit.errors import ComponentError
from diffkit.functional.gaussian import Scales
from diffkit.testing import Fixtures, components_under_test, run_checks
from diffkit.testing.reference import UniformLogSNR

from .unusual_askers import ASKERS, EachToken, Flat, Painting, was_checked
from .unusual_metrics import METRICS
from .unusual_runs import Controlled
from .unusual_watchers import WATCHERS


class Continuous(NoiseSchedule):
    """A schedule that gives its curve and, by bisection, its inverse."""

    t_min = 1e-4

    def log_snr(self, t):
        t = as_time(t)
        return torch.where(t == 0, torch.inf, self._curve(t))

    def time_at(self, log_snr):
        if bool((log_snr < self.log_snr(1.0) - 1e-9).any()):
            raise ComponentError("there is no such noise")
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(80):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) <= log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return torch.where(torch.isposinf(log_snr), 0.0, high)


class Flow(Continuous):
    """-inf at t = 1."""

    def _curve(self, t):
        return 2 * (torch.log1p(-t) - t.log())


class LinearBeta(Continuous):
    def _curve(self, t):
        spent = 0.1 * t + 9.95 * t.square()
        return -torch.expm1(spent).log()


class ContinuousCosine(Continuous):
    def _curve(self, t):
        return -2 * torch.tan((t * math.pi / 2).clamp(max=math.pi / 2 - 1e-7)).log()


class Laplace(Continuous):
    """A kink in the middle, and both ends infinite."""

    def _curve(self, t):
        far = 1 - 2 * (t - 0.5).abs()
        return -(t - 0.5).sign() * -far.log()


class Cauchy(Continuous):
    """As steep at both ends as anybody has published."""

    def _curve(self, t):
        return torch.tan(math.pi / 2 * (1 - 2 * t))


class Level(Continuous):
    """Without a slope at either end."""

    def _curve(self, t):
        return 8 * torch.cos(math.pi * t)


class Geometric(Continuous):
    """sigma from 0.002 to 80, evenly in the log."""

    t_min = 1e-3

    def _curve(self, t):
        return -2 * (math.log(0.002) + math.log(80 / 0.002) * t)


class Monotone(nn.Module, Continuous):
    """A small network with positive weights."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        self.place = nn.Parameter(torch.tensor([0.2, 0.7], dtype=torch.float64))

    def _curve(self, t):
        bends = torch.sigmoid(6 * (t[..., None] - self.place)) * self.slope.exp()
        return 9 - bends.sum(-1) - 3 * t


class PerCoordinate(GaussianProcess):
    """Each coordinate has a noise level of its own, as blurring has in frequency."""

    def __init__(self, *, schedule: NoiseSchedule):
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def log_snr(self, t):
        less = torch.linspace(0.0, 2.0, 8, dtype=torch.float64)
        return self._schedule.log_snr(t).reshape(-1, 1, 1, 1) - less

    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt())

    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)

    def reverse(self, prediction, x_t, t, s, noise):
        # A deviation of each coordinate is float32 at least.
        return super().reverse(prediction, x_t, t, s, noise).to(x_t.dtype)


class Tokens(Prediction):
    def __init__(self, x_0):
        self._x_0 = x_0

    @property
    def x_0(self):
        return self._x_0


class Masking(ForwardProcess):
    """Tokens that are hidden one by one: nothing is Gaussian."""

    def __init__(self, *, schedule: NoiseSchedule):
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def _hidden(self, t):
        return torch.sigmoid(-self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape)

    def diffuse(self, x_0, t, drawn):
        hidden = self._hidden(t).reshape(-1, *([1] * (x_0.ndim - 1)))
        return torch.where(drawn < hidden, torch.full_like(x_0, -1), x_0)

    def prior(self, shape, noise, condition=None):
        return torch.where(noise.uniform(shape) < self._hidden(1.0), -1.0, 0.0)

    def interpret(self, output, x_t, t):
        return Tokens(output)

    def reverse(self, prediction, x_t, t, s, noise):
        stays = self._hidden(s) / self._hidden(t)
        shown = (x_t >= 0) | (noise.uniform(x_t.shape) >= stays)
        return torch.where(shown, prediction.x_0.to(x_t.dtype), x_t)


class EDM(Parameterization):
    def target(self, scales):
        total = (scales.sigma.square() + scales.alpha.square() / 4).sqrt()
        return Target(2 * scales.sigma / total, -scales.alpha / (2 * total))

    def c_in(self, scales):
        return (scales.sigma.square() + scales.alpha.square() / 4).rsqrt()

    def c_noise(self, t, log_snr):
        return -log_snr / 8


class Antithetic(TrainingTimes):
    """The two halves of a batch mirror each other."""

    def draw(self, uniform, schedule):
        half = uniform[: (len(uniform) + 1) // 2]
        t = torch.cat([half, 1 - half])[: len(uniform)]
        snapped = schedule.snap(1 - t)
        return DrawnTimes(snapped, torch.ones_like(snapped))


class ByLogSNR(TrainingTimes):
    """Even in log-SNR, weighted back by the slope of the schedule, found on a table."""

    @classmethod
    def requires(cls, config, facts):
        if facts["schedule.zero_terminal_snr"]:
            yield "there is no even in log-SNR down to -inf"

    def draw(self, uniform, schedule):
        count = schedule.steps or 512
        edges = torch.linspace(0.0, 1.0, count + 1, dtype=torch.float64)
        width = -schedule.log_snr(edges[1:]).diff()
        width = torch.cat([width[:1], width])
        share = width / width.sum()
        ends = share.cumsum(0)
        part = torch.searchsorted(ends, uniform, right=True).clamp(max=count - 1)
        inside = ((uniform - ends[part] + share[part]) / share[part]).clamp(1e-6, 1)
        t = torch.lerp(edges[part], edges[part + 1], inside)
        return DrawnTimes(schedule.snap(t), 1 / (count * share[part]))


UNUSUAL = (
    *(Flow, LinearBeta, ContinuousCosine, Laplace, Cauchy, Level, Geometric, Monotone),
    *(PerCoordinate, Masking, EDM, Antithetic, ByLogSNR),
)


BUNDLED = (
    *(
        "diffkit.linear",
        "diffkit.cosine",
        "diffkit.variance-preserving",
        "diffkit.epsilon",
        "diffkit.x_0",
    ),
    *("diffkit.velocity", "diffkit.uniform", "diffkit.none", "diffkit.trailing", "diffkit.leading"),
)


def failures(component, seed, **options):
    found = components_under_test(component, **options)
    return [o.message for o in run_checks(found, seed=seed) if o.status == "failed"]


@pytest.mark.parametrize("component", UNUSUAL, ids=lambda component: component.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_unusual_but_right(component, seed):
    assert not failures(component, seed)


@pytest.mark.parametrize("component", ASKERS, ids=lambda component: component.__name__)
def test_unusual_ones_that_ask(component):
    outcomes = list(run_checks(components_under_test(component)))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    assert was_checked(outcomes)


@pytest.mark.parametrize("component", METRICS, ids=lambda component: component.__name__)
def test_metrics_of_pairs_and_of_tokens(component):
    outcomes = list(run_checks(components_under_test(component)))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    passed = {outcome.check.name for outcome in outcomes if outcome.status == "passed"}
    assert {"bad_samples_score_otherwise", "inputs_are_not_written_to"} <= passed


@pytest.mark.parametrize("component", WATCHERS, ids=lambda component: component.__name__)
def test_options_that_act_late(component):
    outcomes = {o.check.name: o for o in run_checks(components_under_test(component))}
    assert not [str(o.message) for o in outcomes.values() if o.status == "failed"]
    assert outcomes["every_option_does_something"].status == "passed"


def test_options_of_what_cannot_be_run_are_not_checked():
    outcomes = {o.check.name: o for o in run_checks(components_under_test(Painting))}
    found = outcomes["every_option_does_something"]
    assert (found.status, found.message[:13]) == ("skipped", "not checked: ")
    assert "Example(inputs=" in found.message


def test_what_is_asked_with_a_shape_that_it_does_not_take_is_told_of_examples():
    told = {str(o.message) for o in run_checks(components_under_test(Flat)) if o.status == "failed"}
    assert told
    assert all("give `examples()`" in message for message in told)


def test_a_branch_beside_a_frozen_run():
    outcomes = list(run_checks(components_under_test(Controlled)))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    passed = {outcome.check.name for outcome in outcomes if outcome.status == "passed"}
    assert {"rows_do_not_see_each_other", "the_spec_makes_it_again", "it_can_be_made"} <= passed


@pytest.mark.parametrize(
    ("component", "config"),
    [
        (Linear, {"steps": 50}),
        (Linear, {"steps": 100, "rescale": False}),
        (Linear, {"steps": 4000}),
        (Cosine, {"steps": 1}),
        (Cosine, {"steps": 2}),
        (Cosine, {"steps": 50}),
        (Cosine, {"offset": 0.1}),
        (UniformLogSNR, {"first": 20.0, "last": 5.0}),
        (UniformLogSNR, {"first": 1e-3, "last": -1e-3}),
    ],
)
def test_right_in_every_configuration(component, config):
    full_id = f"classes.{component.__name__.lower()}"
    assert not failures(component, 0, configurations={full_id: [config]})


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (3, 4, 4), (2, 1)])
@pytest.mark.parametrize("component", [VarianceExploding, RectifiedFlow])
def test_right_in_every_shape(component, shape):
    full_id = f"classes.{component.__name__.lower()}"
    assert not failures(component, 0, fixtures={full_id: Fixtures(shape=shape)})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_ones_at_any_seed(name, seed):
    outcomes = list(run_checks(components_under_test(name), seed=seed))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    assert "passed" in {outcome.status for outcome in outcomes}


def test_the_default_dtype_is_put_back():
    failures(Linear, 0)
    assert torch.get_default_dtype() == torch.float32


def test_a_time_for_each_token_is_run_and_what_is_not_known_of_it_is_said() -> None:
    outcomes = list(run_checks(components_under_test(EachToken)))
    assert not [outcome.message for outcome in outcomes if outcome.status == "failed"]
    assert sum(outcome.status == "passed" for outcome in outcomes) >= 8
    assert any("a time for each token" in str(outcome.message) for outcome in outcomes)
