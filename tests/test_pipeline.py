"""The pipeline as users meet it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import diffkit
from diffkit.api import make
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.model import EpsilonModel
from diffkit.core.sampler import State, StepSampler

FIVE = {
    "schedule": {"id": "cosine", "config": {"steps": 50}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
}
SMALL = {**FIVE, "data": {"shape": [2]}, "steps": 5}
DIGITS = {**FIVE, "dataset": "digits", "steps": 4}
BRIEF = {"batch_size": 16, "warmup_steps": 2, "log_every": 2}


def test_five_names_make_a_working_pipeline() -> None:
    pipeline = diffkit.build({**FIVE, "model": "mlp"})
    assert pipeline.spec.data is not None
    assert pipeline.spec.data.shape == (3, 32, 32)
    assert pipeline.sample(2, steps=2).shape == (2, 3, 32, 32)


def test_components_are_listed_after_some_are_imported() -> None:
    diffkit.build({**FIVE, "model": "mlp"})
    assert "diffkit.ddpm" in [entry.id for entry in diffkit.components("sampler")]
    assert diffkit.resolve("sampler", "ddpm") is DDPM


def test_the_default_unet_is_the_papers() -> None:
    pipeline = diffkit.build({**FIVE, "model": "unet", "schedule": "linear"}, device="meta")
    assert sum(p.numel() for p in pipeline.system.parameters()) == 35_746_307


@pytest.mark.parametrize("parameterization", ["epsilon", "x_0", "velocity"])
def test_a_saved_pipeline_gives_bit_equal_samples(parameterization, tmp_path) -> None:
    pipeline = diffkit.build({**DIGITS, "parameterization": parameterization})
    pipeline.train(steps=4, **BRIEF)
    expected = pipeline.sample(3, seed=7)
    pipeline.save(tmp_path / "run")
    loaded = diffkit.load(tmp_path / "run")
    assert torch.equal(loaded.sample(3, seed=7), expected)
    assert loaded.spec == pipeline.spec


def test_samples_depend_on_the_seed_and_the_index_alone() -> None:
    pipeline = diffkit.build(SMALL)
    whole = pipeline.sample(5, seed=1)
    # Kernels of different batch sizes may round differently; noise must not differ.
    assert torch.allclose(pipeline.sample(5, seed=1, batch_size=2), whole, atol=1e-5)
    assert torch.allclose(pipeline.sample(2, seed=1), whole[:2], atol=1e-5)
    assert not torch.allclose(pipeline.sample(5, seed=2), whole, atol=1e-2)


def test_sampling_leaves_the_global_generator_alone() -> None:
    pipeline = diffkit.build(SMALL)
    before = torch.get_rng_state()
    pipeline.sample(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_is_repeatable_bit_for_bit() -> None:
    def weights() -> list[torch.Tensor]:
        spec = {**DIGITS, "model": {"id": "unet", "config": _TINY_UNET}, "seed": 3}
        pipeline = diffkit.build(spec).train(steps=3, **BRIEF)
        return list(pipeline.system.state_dict().values())

    torch.manual_seed(1)
    first = weights()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = weights()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


_TINY_UNET = {"width": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, "dropout": 0.5}


def test_resuming_is_exact_in_the_middle_of_an_epoch(tmp_path) -> None:
    spec = {**DIGITS, "model": {"id": "unet", "config": _TINY_UNET}}
    brief = {**BRIEF, "checkpoint_every": 3}
    whole = diffkit.build(spec).train(out=tmp_path / "whole", steps=7, **brief)
    diffkit.build(spec).train(out=tmp_path / "parts", steps=3, **brief)
    resumed = diffkit.load(tmp_path / "parts")
    resumed.train(out=tmp_path / "parts", resume=True, steps=7, **brief)
    for one, two in ((whole.system, resumed.system), (whole.average, resumed.average)):
        assert one is not None
        assert two is not None
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/metrics.jsonl").open()]
    assert steps == sorted(set(steps))


def test_the_average_follows_its_law() -> None:
    # After one update from w0 to w1 with decay min(0.9999, 1/10): 0.1 w0 + 0.9 w1.
    pipeline = diffkit.build(DIGITS)
    before = {k: v.clone() for k, v in pipeline.system.state_dict().items()}
    pipeline.train(steps=1, **BRIEF)
    assert pipeline.average is not None
    for name, average in pipeline.average.state_dict().items():
        expected = 0.1 * before[name] + 0.9 * pipeline.system.state_dict()[name]
        # One float32 rounding of values of order 1.
        assert torch.allclose(average, expected, atol=1e-6), name


def test_training_lowers_the_loss(tmp_path) -> None:
    pipeline = diffkit.build({**DIGITS, "model": {"id": "mlp", "config": {"width": 64}}})
    pipeline.train(out=tmp_path, steps=200, batch_size=64, log_every=20, learning_rate=2e-3)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()]
    # Zero output costs 1; a network that learns anything of digits falls that far quickly.
    assert losses[0] > 0.8
    assert losses[-1] < 0.75


def test_a_time_budget_ends_training() -> None:
    pipeline = diffkit.build(DIGITS).train(steps=10**6, max_seconds=0.3, **BRIEF)
    assert pipeline.average is not None


def test_instances_stand_in_for_specs_and_save_alike(tmp_path) -> None:
    schedule = Linear(steps=40)
    spec = {
        **SMALL,
        "schedule": schedule,
        "process": VariancePreserving(schedule=schedule),
        "sampler": DDPM(variance="fixed_large"),
    }
    pipeline = diffkit.build(spec)
    assert pipeline.parts.schedule is schedule
    assert pipeline.spec.schedule.id == "diffkit.linear"
    assert pipeline.spec.schedule.config["steps"] == 40
    assert pipeline.spec.process.config == {}
    pipeline.save(tmp_path)
    assert torch.equal(diffkit.load(tmp_path).sample(2), pipeline.sample(2))


def test_a_process_with_another_schedule_is_refused() -> None:
    with pytest.raises(diffkit.SpecError, match="a schedule of its own"):
        diffkit.build({**SMALL, "process": VariancePreserving(schedule=Linear())})


class _Local(StepSampler):
    def __init__(self, *, gain: float = 1.0, callback: object = None) -> None:
        self._gain = gain

    def step(self, denoiser, x_t, t, s, noise) -> State:
        return State(self._gain * x_t, s)


def test_an_unregistered_instance_runs_and_cannot_be_saved(tmp_path) -> None:
    pipeline = diffkit.build({**SMALL, "sampler": _Local()})
    assert pipeline.sample(2).shape == (2, 2)
    with pytest.raises(diffkit.SpecError, match="_Local is not registered"):
        pipeline.save(tmp_path)


def test_the_sampler_and_its_steps_swap_without_training() -> None:
    pipeline = diffkit.build(SMALL)
    small = pipeline.sample(4, steps=3)
    large = pipeline.sample(
        4, sampler={"id": "ddpm", "config": {"variance": "fixed_large"}}, steps=3
    )
    leading = pipeline.sample(4, spacing="leading", steps=3)
    assert not torch.equal(small, large)
    assert not torch.equal(small, leading)
    assert torch.equal(pipeline.sample(4, sampler=DDPM(), steps=3), small)


def test_another_schedule_of_the_same_process_is_sampled_with() -> None:
    pipeline = diffkit.build({**SMALL, "schedule": "cosine"})
    assert torch.isfinite(pipeline.sample(2, schedule="linear", steps=10)).all()
    finer = pipeline.sample(2, schedule=Linear(), steps=10)
    assert torch.equal(finer, pipeline.sample(2, schedule="linear", steps=10))


def test_a_noise_level_never_trained_is_refused() -> None:
    pipeline = diffkit.build({**SMALL, "schedule": "linear"})
    with pytest.raises(diffkit.ComponentError, match="never trained at"):
        pipeline.sample(1, schedule="cosine", steps=10)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"sampler": "dppm"}, "did you mean 'ddpm'"),
        ({"sampler": {"id": "ddpm", "config": {"variance": "large"}}}, "fixed_small"),
        ({"steps": 51}, "at most 50"),
        ({"steps": 0}, "at least 1"),
        ({"sampler": Cosine()}, "does not belong"),
    ],
)
def test_a_wrong_choice_for_a_trajectory_says_so(choice, words) -> None:
    with pytest.raises(diffkit.DiffkitError, match=words):
        diffkit.build(SMALL).sample(1, **choice)


def test_trajectory_yields_every_state_from_the_prior() -> None:
    states = list(diffkit.build(SMALL).trajectory(2, seed=1))
    assert [state.t for state in states] == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert states[0].prediction is None
    assert torch.equal(states[-1].x, diffkit.build(SMALL).sample(2, seed=1))
    assert torch.is_grad_enabled()


def test_data_of_another_shape_is_refused() -> None:
    with pytest.raises(diffkit.DataError, match=r"\[1, 8, 8\].*\[2\]"):
        diffkit.build(SMALL).train(diffkit.build(DIGITS).dataset(), steps=1)


def test_a_loss_that_is_not_finite_stops_training() -> None:
    pipeline = diffkit.build(DIGITS)
    with pytest.raises(diffkit.TrainingError, match="learning rate"):
        pipeline.train(steps=50, learning_rate=1e30, clip_norm=None, **BRIEF | {"warmup_steps": 0})


def test_an_existing_run_is_not_overwritten(tmp_path) -> None:
    diffkit.build(DIGITS).train(out=tmp_path, steps=2, **BRIEF)
    with pytest.raises(diffkit.CheckpointError, match="resume"):
        diffkit.build(DIGITS).train(out=tmp_path, steps=2, **BRIEF)


def test_evaluate_gives_the_metric() -> None:
    spec = {
        **DIGITS,
        "metric": {"id": "frechet", "config": {"max_samples": 100, "splits": 1}},
        "features": {"id": "classifier", "config": {"steps": 20}},
    }
    values = diffkit.build(spec).evaluate()
    assert values["frechet_ratio"] > 1.0
    assert math.isfinite(values["frechet_ratio"])


def test_evaluate_on_other_data(tmp_path) -> None:
    """A network that says 0 is wrong by the noise, of which clipping takes half at black."""
    for name, value, size in (("black", 0, 8), ("grey", 128, 8), ("large", 0, 16)):
        np.savez(tmp_path / f"{name}.npz", images=np.full((40, size, size), value, np.uint8))
    pipeline = diffkit.build(DIGITS)
    metric = {"id": "bits-per-dim", "config": {"draws": 4}}
    bits = {}
    for name in ("black", "grey", "large"):
        data = {"id": "npz", "config": {"path": str(tmp_path / f"{name}.npz")}}
        if name == "large":
            with pytest.raises(diffkit.DataError, match="16"):
                pipeline.evaluate(metric=metric, dataset=data)
            continue
        bits[name] = pipeline.evaluate(metric=metric, dataset=data)["bits_per_dim"]
    assert bits["black"] < 0.75 * bits["grey"]
    # A run that is loaded knows what it was for without its dataset.
    loaded = diffkit.load(pipeline.save(tmp_path / "saved"))
    large = {"id": "npz", "config": {"path": str(tmp_path / "large.npz")}}
    with pytest.raises(diffkit.DataError, match=r"built for \[1, 8, 8\]"):
        loaded.evaluate(metric=metric, dataset=large)
    made = make("dataset", {"id": "npz", "config": {"path": str(tmp_path / "grey.npz")}})
    assert pipeline.evaluate(metric=metric, dataset=made)["bits_per_dim"] == bits["grey"]
    without = diffkit.build({**DIGITS, "dataset": None, "data": {"shape": [1, 8, 8]}})
    with pytest.raises(diffkit.SpecError, match="names no dataset"):
        without.evaluate()


def test_saving_never_hides_or_replaces_a_run(tmp_path) -> None:
    pipeline = diffkit.build(DIGITS).train(out=tmp_path / "run", steps=4, **BRIEF)
    with pytest.raises(diffkit.CheckpointError, match="another directory"):
        pipeline.save(tmp_path / "run")
    pipeline.save(tmp_path / "saved")
    pipeline.save(tmp_path / "saved")
    with pytest.raises(diffkit.CheckpointError, match="more updates"):
        diffkit.build(DIGITS).save(tmp_path / "saved")


def test_an_average_that_no_longer_follows_is_dropped() -> None:
    pipeline = diffkit.build(DIGITS).train(steps=2, **BRIEF)
    assert pipeline.average is not None
    assert pipeline.train(steps=2, ema_decay=None, **BRIEF).average is None


class _Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @diffkit.hookimpl
    def diffkit_run_start(self, run) -> None:
        self.seen.append("start")

    @diffkit.hookimpl
    def diffkit_step(self, run, step, metrics) -> None:
        self.seen.append(f"step {step}")

    @diffkit.hookimpl
    def diffkit_checkpoint(self, path) -> None:
        assert (path / "model.safetensors").exists()
        self.seen.append(path.name)

    @diffkit.hookimpl
    def diffkit_run_end(self, step) -> None:
        self.seen.append(f"end {step}")


class _Broken:
    @diffkit.hookimpl
    def diffkit_step(self, step) -> None:
        raise RuntimeError("no")


def test_observers_see_the_run_and_a_broken_one_does_not_stop_it(tmp_path) -> None:
    watcher = _Watcher()
    diffkit.build(DIGITS).train(out=tmp_path, steps=4, observers=[_Broken(), watcher], **BRIEF)
    assert watcher.seen == ["start", "step 2", "step 4", "step-00000004", "end 4"]


class OnTheGrid(EpsilonModel):
    """Looks its noise level up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(51))

    @classmethod
    def facts(cls, config):
        return {"steps": 50}

    def forward(self, x, c_noise, condition):
        return x * self.table[(c_noise * 50 / 1000).round().long()][:, None]


def test_a_model_on_a_grid_is_not_asked_in_between() -> None:
    pipeline = diffkit.build({**SMALL, "model": OnTheGrid()})
    assert pipeline.sample(1).isfinite().all()
    other = {"id": "linear", "config": {"steps": 50}}
    with pytest.raises(diffkit.ComponentError, match="only at multiples of 1/50"):
        pipeline.sample(1, schedule=other)
