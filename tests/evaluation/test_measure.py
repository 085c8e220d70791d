"""Measures of the network see what sampling sees: the same clipping, the same look at the data."""

from __future__ import annotations

import math

import pytest
import torch
from click.testing import CliRunner

import diffkit
from diffkit.cli.main import cli
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.metric import SampleMetric
from diffkit.core.sampler import State, StepSampler

BITS = {"id": "bits-per-dim", "config": {"max_samples": 8}}
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "metric": BITS,
}


class Bytes(Dataset):
    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 8, 8)

    def __len__(self) -> int:
        return 16

    def batch(self, indices) -> Batch:
        return Batch(torch.full((len(indices), 1, 8, 8), 200.0))


def test_the_clipping_of_the_run_is_that_of_the_bound() -> None:
    clipped, free = (diffkit.build({**SPEC, "clip": clip}).evaluate() for clip in (True, False))
    # An untrained network's predictions leave the range by far.
    assert free["bits_per_dim"] > clipped["bits_per_dim"] + 1


def test_data_beyond_the_range_are_not_measured() -> None:
    with pytest.raises(diffkit.DataError, match="the value 200"):
        diffkit.build({**SPEC, "data": {"shape": [1, 8, 8], "range": [-1, 1]}}).evaluate(
            dataset=Bytes()
        )


def test_one_datum_has_no_error() -> None:
    metric = {"id": "bits-per-dim", "config": {"max_samples": 2}}
    assert math.isfinite(diffkit.build(SPEC).evaluate(metric=metric)["standard_error"])


def test_what_is_not_finite_ends_otherwise(tmp_path) -> None:
    pipeline = diffkit.build({**SPEC, "clip": False})
    with torch.no_grad():
        for weight in pipeline.system.parameters():
            weight.mul_(1e30)
    result = CliRunner().invoke(cli, ["eval", str(pipeline.save(tmp_path / "run"))])
    assert result.exit_code == 1
    assert "bits_per_dim" in result.output
    assert "not finite" in result.output


class Paired(SampleMetric):
    """Looks for what samples were made of, and does not ask whether that is known."""

    def samples_needed(self, dataset):
        return 2

    def measure(self, samples, dataset, seed, of):
        return {"error": float((samples - of.condition["low"]).square().mean())}


@pytest.mark.parametrize(
    ("of", "told"),
    [(None, "no conditions"), (Batch(torch.zeros(2, 1, 8, 8), {"label": torch.zeros(2)}), "label")],
)
def test_a_metric_of_pairs_says_what_it_lacks(of, told) -> None:
    pipeline = diffkit.build({**SPEC, "metric": Paired()})
    samples = torch.zeros(2, 1, 8, 8)
    with pytest.raises(diffkit.ComponentError, match=rf"metric Paired .* made of {told} \(`of`\)"):
        pipeline.evaluate(samples=samples, of=of)


class Pastes(StepSampler):
    """Every sample is the picture that it is given."""

    inputs = ("image",)

    def trajectory(self, denoiser, x, times, noise, inputs):
        for t in times[1:]:
            yield State(inputs["image"].expand_as(x), t)

    def step(self, denoiser, x_t, t, s, noise):
        raise NotImplementedError


class Kept(SampleMetric):
    """How far samples are from the picture that they were made of."""

    def samples_needed(self, dataset):
        return 3

    def measure(self, samples, dataset, seed, of):
        assert len(of.given["image"]) == len(samples)
        return {"error": float((samples - of.given["image"]).abs().max())}


@pytest.mark.parametrize("rows", [1, 3])
def test_a_metric_is_given_the_inputs_of_the_sampler(rows) -> None:
    pipeline = diffkit.build({**SPEC, "metric": Kept(), "sampler": Pastes()})
    image = torch.rand(rows, 1, 8, 8)
    assert pipeline.evaluate(inputs={"image": image}, steps=2) == {"error": 0.0}
