"""No loop waits for the device: nothing on it is ever read by the host."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import diffkit
from diffkit.assembly.build import training_components
from diffkit.core.noise import SampleNoise
from diffkit.distributed.world import SingleProcess
from diffkit.training.train_step import TrainStep

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "training": {"batch_size": 8},
}
SAMPLERS = [
    "ancestral",
    *({"id": "ddpm", "config": {"variance": v}} for v in ("fixed_small", "fixed_large")),
    *(f"samplers.{name}" for name in ("ddim", "euler", "heun", "plms", "unipc")),
    *(f"samplers.{name}" for name in ("dpmpp-2m", "dpmpp-3m", "dpmpp-2m-sde", "euler-ancestral")),
    {"id": "samplers.ddim", "config": {"eta": 0.5}},
    {"id": "samplers.euler", "config": {"churn": 5.0}},
    {"id": "samplers.heun", "config": {"churn": 5.0}},
]


@pytest.mark.parametrize("parameterization", ["epsilon", "velocity"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_trajectory_reads_nothing(sampler, parameterization) -> None:
    if "samplers." in str(sampler):
        pytest.importorskip("diffkit_samplers")
    # There, every read of a value by the host is an error.
    pipeline = diffkit.build({**SPEC, "parameterization": parameterization}, device="meta")
    states = list(pipeline.trajectory(3, sampler=sampler, steps=6))
    assert len(states) == 7
    assert {state.x.device.type for state in states} == {"meta"}


def test_meta_does_notice_a_read() -> None:
    with pytest.raises(RuntimeError):
        float(torch.ones((), device="meta"))


class Reads(TorchDispatchMode):
    """Notes the dtype of every number that the host reads from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if any(part in name for part in ("_local_scalar_dense", "nonzero", "equal", "unique")):
            self.dtypes += [a.dtype for a in args if isinstance(a, torch.Tensor)]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("times", ["uniform", "importance"])
@pytest.mark.parametrize("nonfinite", [False, True])
def test_an_update_reads_nothing(nonfinite, times) -> None:
    spec = {**SPEC, "times": times}
    pipeline = diffkit.build(spec, device="cpu")
    dataset = pipeline.dataset()
    average = diffkit.build(spec, device="cpu").system
    updates = TrainStep(
        system=pipeline.system,
        averages={"ema": average},
        components=training_components(pipeline._assembly),
        dataset=dataset,
        spec=pipeline.spec.training,
        seed=0,
        world=SingleProcess(),
    )
    if nonfinite:
        next(pipeline.system.parameters()).data.fill_(float("nan"))
    updates.make(0)
    with Reads() as reads:
        updates.make(1)
    # What is on the device is float32; times, coefficients and orders are host numbers.
    assert torch.float32 not in reads.dtypes
    with Reads() as reads:
        float(torch.ones(2).sum())
    assert reads.dtypes == [torch.float32]


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "plms", "unipc", "dpmpp-2m"])
def test_a_deterministic_trajectory_draws_nothing(sampler, monkeypatch) -> None:
    pytest.importorskip("diffkit_samplers")
    pipeline = diffkit.build(SPEC, device="cpu")
    drawn: list[tuple[int, ...]] = []
    real = SampleNoise.normal

    def counted(self, shape):
        drawn.append(tuple(shape))
        return real(self, shape)

    monkeypatch.setattr(SampleNoise, "normal", counted)
    pipeline.sample(2, sampler=f"samplers.{sampler}", steps=6)
    assert len(drawn) == 1, "the start alone is drawn"
