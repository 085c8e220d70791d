"""All that is wrong is said at once, before anything large is made."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.config.spec import PipelineSpec
from diffkit.core.model import EpsilonModel
from diffkit.core.process import ForwardProcess
from diffkit.core.schedule import NoiseSchedule, as_time

FIVE = {
    "schedule": "linear",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
}


def _problems(spec: dict) -> tuple[str, ...]:
    with pytest.raises(diffkit.SpecError) as caught:
        diffkit.build(spec)
    return caught.value.problems


def test_every_problem_is_reported_together() -> None:
    spec = {
        "schedule": "linaer",
        "process": "variance-preserving",
        "model": {"id": "unet", "config": {"widht": 3, "dropout": 7}},
        "loss": {"id": "simple", "config": {"weighting": "nune"}},
        "sampler": "os.system",
        "training": {"learning_rate": float("nan"), "batch_size": 0},
        "more": 3,
    }
    text = "\n".join(_problems(spec))
    for said in (
        "did you mean 'linear'",
        "model.dropout = 7",
        "model.widht: there is no such key; the keys are shape, width",
        "loss.weighting: no weighting is called 'nune'; did you mean 'none'",
        "no sampler is called 'os.system'",
        "training.learning_rate = nan",
        "training.batch_size = 0",
        "more: there is no such key",
    ):
        assert said in text
    assert len(_problems(spec)) == 8


@pytest.mark.parametrize(
    ("wrong", "keys"),
    [
        ({"data": {"dataset": "digits"}}, "shape, range"),
        ({"training": {"learn": 3}}, "steps, max_seconds"),
        ({"loss": {"id": "simple", "confg": {}}}, "id, config"),
    ],
)
def test_keys_below_the_top_are_listed_too(wrong, keys) -> None:
    (said,) = [p for p in _problems(FIVE | wrong) if "no such key" in p]
    assert f"; the keys are {keys}" in said


def test_missing_names_are_listed() -> None:
    assert {p.split(":")[0] for p in _problems({"schedule": "linear"})} == {
        "process",
        "model",
        "loss",
        "sampler",
    }


def test_the_model_is_not_made_while_anything_is_wrong(monkeypatch) -> None:
    def never(*args, **kwargs):
        raise AssertionError("the model was created")

    monkeypatch.setattr(torch.nn.Linear, "__init__", never)
    assert (
        "fixed_small"
        in _problems({**FIVE, "sampler": {"id": "ddpm", "config": {"variance": "x"}}})[0]
    )


class _ZeroTerminal(NoiseSchedule):
    """log-SNR = log((1 - t)/t)."""

    @property
    def t_min(self) -> float:
        return 1e-3

    def log_snr(self, t):
        return torch.logit(1 - as_time(t))

    def time_at(self, log_snr):
        return torch.sigmoid(-log_snr)


class _Counted(EpsilonModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    @classmethod
    def facts(cls, config):
        return {"steps": 500}

    def forward(self, x, c_noise, condition):
        return x


class _Masking(ForwardProcess):
    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def diffuse(self, x_0, t, epsilon): ...
    def prior(self, shape, noise, condition=None): ...
    def interpret(self, output, x_t, t): ...
    def reverse(self, prediction, x_t, t, s, noise): ...


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": _ZeroTerminal()}, "parameterization: epsilon cannot be turned into x_0"),
        ({"schedule": _ZeroTerminal(), "spacing": "leading"}, "spacing: the spacing 'leading'"),
        ({"model": _Counted()}, "only at multiples of 1/500, and the schedule has 1000 steps"),
        ({"process": _Masking(schedule=_ZeroTerminal())}, "loss: Simple needs a process"),
        ({"process": _Masking(schedule=_ZeroTerminal())}, "sampler: DDPM needs a process"),
        ({"data": {"shape": [2]}, "model": "unet"}, "model: it takes images"),
        ({"model": {"id": "mlp", "config": {"shape": [3]}}}, "model.shape is [3]"),
        ({"schedule": {"id": "linear", "config": {"steps": 20}}}, "take more than 20 steps"),
        ({"dataset": {"id": "idx", "config": {"images": "none"}}}, "dataset: "),
    ],
)
def test_combinations_that_cannot_work_are_refused(change, words) -> None:
    assert any(words in problem for problem in _problems({**FIVE, **change}))


def test_zero_terminal_snr_works_with_velocity() -> None:
    schedule = _ZeroTerminal()
    spec = {
        **FIVE,
        "schedule": schedule,
        "process": VariancePreserving(schedule=schedule),
        "parameterization": "velocity",
    }
    assert torch.isfinite(diffkit.build(spec).sample(2, steps=5)).all()


def test_a_built_spec_builds_the_same_again() -> None:
    first = diffkit.build(FIVE)
    again = diffkit.build(first.spec)
    assert isinstance(first.spec, PipelineSpec)
    assert again.spec == first.spec
    assert torch.equal(again.sample(1, steps=2), first.sample(1, steps=2))


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(diffkit.build({**FIVE, "seed": seed}).system.parameters())

    before = torch.get_rng_state()
    one, same, other = first(1), first(1), first(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_schedule_that_is_made_of_another_says_so() -> None:
    (problem,) = _problems({**FIVE, "schedule": "zero-terminal"})
    assert problem == "schedule: it is made with another schedule; name one in its config"
