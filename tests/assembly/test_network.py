"""How a network is run changes how fast it is, and what it says within bfloat16's rounding."""

from __future__ import annotations

import copy

import pytest
import torch

import diffkit
from diffkit.assembly.network import (
    InBfloat16,
    Kept,
    Networks,
    for_sampling,
    for_training,
    resolved_compilation,
    resolved_precision,
)

CPU = torch.device("cpu")
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {
        "id": "unet",
        "config": {"width": 16, "multipliers": [1, 2], "blocks": 1, "groups": 4},
    },
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 8, 8], "range": [-1, 1]},
    "steps": 5,
}


def unet():
    model = diffkit.build(SPEC, device="cpu").parts.model
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def asked(network):
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(x, torch.tensor([10.0, 900.0]), {})


def test_weights_cast_once_give_what_autocast_gives() -> None:
    model = unet()
    before = copy.deepcopy(model.state_dict())
    once = asked(for_sampling(model, "bfloat16", "off", CPU))
    assert torch.equal(once, asked(InBfloat16(model)))
    assert not torch.equal(once, asked(model))
    # The pipeline's own weights are as they were, in float32.
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_bfloat16_differs_by_its_rounding() -> None:
    model = unet()
    exact, half = asked(model), asked(for_sampling(model, "bfloat16", "off", CPU)).float()
    # Eight bits of mantissa, through some twenty layers.
    assert (exact - half).abs().max() < 0.03 * exact.abs().max()


def test_training_in_bfloat16_keeps_weights_and_gradients_in_float32() -> None:
    model = unet().train()
    network = for_training(model, "bfloat16", CPU)
    network(torch.randn(2, 1, 8, 8), torch.tensor([10.0, 900.0]), {}).sum().backward()
    for name, p in model.named_parameters():
        assert p.dtype == torch.float32, name
        assert p.grad is not None
        assert p.grad.dtype == torch.float32, name


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_a_pipeline_trains_and_samples_in_the_precision_of_its_spec(precision, tmp_path) -> None:
    spec = {**SPEC, "data": None, "dataset": "digits", "precision": precision}
    pipeline = diffkit.build(spec, device="cpu")
    pipeline.train(steps=2, batch_size=4, out=tmp_path / "run")
    loaded = diffkit.load(tmp_path / "run", device="cpu")
    assert loaded.spec.precision == precision
    assert torch.equal(loaded.sample(2), pipeline.sample(2))
    checkpoint = next((tmp_path / "run" / "checkpoints").iterdir())
    resolved = resolved_precision(precision, CPU)
    assert f'"precision": "{resolved}"' in (checkpoint / "trainer.json").read_text()
    # Asked for another precision, samples are other ones, and float32 in any case.
    other = "float32" if resolved == "bfloat16" else "bfloat16"
    changed = loaded.sample(2, precision=other)
    assert changed.dtype == torch.float32
    assert not torch.equal(changed, loaded.sample(2))


def test_names() -> None:
    assert resolved_compilation("auto", CPU) == "off"
    assert resolved_compilation("auto", torch.device("cuda")) == "reduce-overhead"
    with pytest.raises(diffkit.SpecError, match="precision"):
        diffkit.build({**SPEC, "precision": "float16"})


def test_what_is_compiled_is_kept_until_weights_change(monkeypatch) -> None:
    compiled = []

    def compile_(network, mode):
        compiled.append(mode)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    networks, model = Networks(), unet()
    first = networks.of(model, "float32", "reduce-overhead", CPU)
    assert networks.of(model, "float32", "reduce-overhead", CPU) is first
    # Graphs write into the same memory at every call, and samplers keep predictions.
    assert isinstance(first, Kept)
    networks.clear()
    assert networks.of(model, "float32", "reduce-overhead", CPU) is not first
    assert compiled == ["reduce-overhead"] * 2
    assert networks.of(model, "float32", "off", CPU) is model


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile_", ["default", "reduce-overhead"])
def test_compiled_samples_on_a_gpu_are_those_of_eager_mode(compile_) -> None:
    pipeline = diffkit.build(SPEC, device="cuda")
    eager = pipeline.sample(4)
    assert torch.allclose(pipeline.sample(4, compile=compile_), eager, atol=1e-3)
