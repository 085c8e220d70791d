"""Bits a dimension against the entropy of what they count."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner

import diffkit
from diffkit.bundled.metrics.bits_per_dim import BitsPerDim, _Distribution
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.cli.main import cli
from diffkit.core.dataset import Dataset
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch
from diffkit.testing.oracles import ExactGaussian, OracleModel

CPU = torch.device("cpu")
ENTROPY = 0.5 * math.log2(2.0 * math.pi * math.e)


class Normal(Dataset):
    """Draws of N(0, 1), or of 16 levels of it."""

    def __init__(self, *, count: int = 300, size: int = 20, deviation: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self._x = deviation * torch.randn(count, size, generator=generator)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._x.shape[1:])

    def __len__(self) -> int:
        return len(self._x)

    def batch(self, indices) -> Batch:
        return Batch(self._x[torch.as_tensor(indices)])


def exact(process: VariancePreserving, size: int, deviation: float = 1.0):
    denoiser = ExactGaussian(process, torch.zeros(size, dtype=torch.float64), deviation**2)
    model = OracleModel(denoiser=denoiser, parameterization=Epsilon())
    whole = GaussianDenoiser(model, Epsilon(), process)
    return lambda _: whole


@pytest.mark.parametrize("draws", [None, 20])
def test_a_normal_variable_takes_its_entropy(draws) -> None:
    """With variance beta_t the bound of N(0, 1) is tight at every T."""
    process = VariancePreserving(schedule=Linear(steps=100))
    metric = BitsPerDim(levels=None, variance="fixed_large", draws=draws)
    data = Normal()
    found = metric.measure_model(exact(process, 20), data, 0, CPU).values
    assert abs(found["bits_per_dim"] - ENTROPY) < 5.0 * found["standard_error"]
    assert 0.0 < found["standard_error"] < 0.1


def test_a_few_terms_are_as_good_as_all_but_for_noise() -> None:
    process = VariancePreserving(schedule=Linear(steps=200))
    data = Normal(deviation=0.5)
    whole, part = (
        BitsPerDim(levels=None, draws=draws).measure_model(exact(process, 20, 0.5), data, 0, CPU)
        for draws in (None, 10)
    )
    # Noise is drawn otherwise, so that errors add up; five of them.
    error = math.hypot(whole.values["standard_error"], part.values["standard_error"])
    assert abs(whole.values["bits_per_dim"] - part.values["bits_per_dim"]) < 5.0 * error
    assert whole.curves["terms"].shape == (200, 2)
    assert float(part.values["standard_error"]) < 2.0 * float(whole.values["standard_error"])


@pytest.mark.parametrize("draws", [1, 7, 60, 99])
def test_every_term_counts_once_whatever_is_drawn(draws) -> None:
    """The expectation of weights over the places of a draw is 1 for each of k = 2 to T."""
    law, fine = _Distribution.of(100, draws), 20_000
    places = (torch.arange(draws * fine, dtype=torch.float64) + 0.5) / fine
    k, weight = law.draw(places)
    assert k.dtype == torch.float64
    counted = torch.zeros(101, dtype=torch.float64).index_add(0, k.long(), weight / fine)
    assert counted[:2].tolist() == [0.0, 0.0]
    # Parts begin and end within one place of the fine grid; the largest weight is 2 * 99 / draws.
    assert torch.allclose(counted[2:], torch.ones(99).double(), rtol=0, atol=400 / draws / fine)
    assert float(weight.max()) <= 2.0 * 99 / draws
    if draws == 99:
        assert k.reshape(99, fine).unique(dim=1).flatten().tolist() == list(range(2, 101))


def test_the_curve_adds_up_to_the_bound() -> None:
    process = VariancePreserving(schedule=Linear(steps=50))
    measured = BitsPerDim(levels=None, draws=None).measure_model(
        exact(process, 20), Normal(), 0, CPU
    )
    curve = measured.curves["terms"]
    assert curve[:, 0].tolist() == pytest.approx([(k + 1) / 50 for k in range(50)])
    whole = float(curve[:, 1].sum()) + measured.values["prior"]
    assert whole == pytest.approx(measured.values["bits_per_dim"], rel=1e-5)
    assert measured.values["decoder"] == pytest.approx(float(curve[0, 1]))


SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1, "learned_variance": True}},
    "loss": "hybrid",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {"batch_size": 8, "steps": 5},
}


def test_from_the_command_line(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    run, plot = tmp_path / "run", tmp_path / "terms.png"
    diffkit.build(SPEC, device="cpu").train(out=run, progress=False)
    metric = "{id: bits-per-dim, config: {levels: 17, max_samples: 20, draws: 5}}"
    arguments = ["eval", str(run), "--metric", metric, "--plot", str(plot)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "bits_per_dim" in result.output
    assert plot.stat().st_size > 1000
    written = json.loads((run / "eval.json").read_text())
    assert written["metric"]["id"] == "diffkit.bits-per-dim"
    assert written["metric"]["config"]["levels"] == 17
    assert written["dataset"]["id"] == "diffkit.digits"
    assert len(written["curves"]["terms"]) > 5


def test_samples_are_not_what_it_measures() -> None:
    pipeline = diffkit.build({**SPEC, "metric": "bits-per-dim"}, device="cpu")
    with pytest.raises(diffkit.SpecError, match="takes no samples"):
        pipeline.evaluate(torch.zeros(2, 1, 8, 8))
    assert set(pipeline.evaluate()) >= {"bits_per_dim", "standard_error", "prior"}


def test_a_variance_that_nobody_predicts_is_refused() -> None:
    spec = {**SPEC, "model": "mlp", "loss": "simple"}
    choice = {"id": "bits-per-dim", "config": {"variance": "learned_range"}}
    with pytest.raises(diffkit.SpecError, match="the model predicts no variance"):
        diffkit.build(spec, device="cpu").evaluate(metric=choice)
