"""What a denoiser keeps for one trajectory is made by `start`, through every guidance."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Conditioning
from diffkit.core.run import Run
from diffkit.errors import ComponentError
from diffkit.testing.oracles import ExactGaussian
from diffkit_guidance.auto import Auto
from diffkit_guidance.classifier import _ByGradient
from diffkit_guidance.classifier_free import ClassifierFree

from .guidance_runs import SPEC

PROCESS = VariancePreserving(schedule=Linear())
TOLD = Conditioning({"mean": torch.ones(2, 1)}, {"mean": torch.zeros(2, 1)}, {})


class Started(Denoiser):
    """Exact, and counts what it is asked before and after it was started."""

    def __init__(self, log, rows, inputs=None):
        self.log, self.rows, self.inputs = log, rows, inputs

    @property
    def process(self):
        return PROCESS

    def start(self, inputs):
        return Started(self.log, self.rows, dict(inputs))

    def check_times(self, times):
        self.log.append(("times", tuple(times)))

    def __call__(self, x_t, t, *, given=None, times=None):
        given = self.inputs or {}
        self.log.append((self.inputs is not None, [len(v) for v in given.values()], len(x_t)))
        return ExactGaussian(PROCESS)(x_t, t)


def asked_by(guided, log):
    """The questions of a trajectory, with what was started for them."""
    x = torch.zeros(2, 1, dtype=torch.float64)
    log.clear()
    started = guided.start({"image": x})
    for t in (0.1, 0.9):
        started(x, t)
    return log


@pytest.mark.parametrize("interval", [None, (0.0, 20.0)])
def test_classifier_free(interval):
    log = []
    guidance = ClassifierFree(scale=3.0, interval=interval)
    guided = guidance.guide(lambda conditioning: Started(log, len(conditioning["mean"])), TOLD)
    found = asked_by(guided, log)
    # In one batch twice as many, and so are the inputs; alone where nothing leads.
    assert found == [(True, [4], 4), (True, [4], 4) if interval is None else (True, [2], 2)]


def test_by_a_classifier():
    log = []
    guided = _ByGradient(Started(log, 2), lambda u, level: u.sum(1), 1.0, None)
    assert asked_by(guided, log) == [(True, [2], 2)] * 2


def test_by_a_worse_run(tmp_path):
    spec = {**SPEC, "encoder": None, "data": {"shape": [1, 8, 8], "range": [-1, 1]}}
    spec |= {"dataset": None, "model": {"id": "mlp", "config": {"width": 8, "depth": 1}}}
    diffkit.build(spec, device="cpu").save(tmp_path / "worse")
    log = []
    guided = Auto(run=Run(tmp_path / "worse"), scale=2.0).guide(
        lambda conditioning: Started(log, 2), TOLD
    )
    x = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    guided.start({"image": x})(x, 0.5)
    assert log == [(True, [2], 2)]


def test_times_are_checked_by_all_that_is_asked(tmp_path):
    """The worse run knows noise up to its own schedule's end, which another trajectory exceeds."""
    spec = {**SPEC, "encoder": None, "dataset": None, "data": {"shape": [1, 8, 8]}}
    spec["model"] = {"id": "mlp", "config": {"width": 8, "depth": 1}}
    short = {"id": "linear", "config": {"beta_last": 0.003}}
    diffkit.build({**spec, "schedule": short}, device="cpu").save(tmp_path / "worse")
    good = diffkit.build(spec, device="cpu")
    lead = {"run": str(tmp_path / "worse"), "scale": 2.0}
    asked = []
    good.system.model.register_forward_pre_hook(lambda *_: asked.append(1))
    with pytest.raises(ComponentError, match=r"auto: the run .*worse: .* never trained"):
        good.sample(1, steps=4, guidance={"id": "auto", "config": lead}, progress=False)
    assert not asked
    within = {"id": "auto", "config": {**lead, "interval": [0.0, 20.0]}}
    good.sample(1, steps=4, guidance=within, progress=False)
    assert asked
    log = []
    guided = ClassifierFree().guide(
        lambda conditioning: Started(log, len(conditioning["mean"])), TOLD
    )
    guided.check_times((1.0, 0.0))
    assert log == [("times", (1.0, 0.0))]
