"""Networks that torch itself allows: they work, or a sentence says what to do."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import diffkit
from diffkit.assembly.modules import module_problems, twin
from diffkit.bundled.losses.simple import Simple
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch

SOURCE = """
import threading
import torch
from torch import nn
from diffkit.core.model import EpsilonModel

class _Base(EpsilonModel):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)
    def forward(self, x, c_noise, condition):
        return self.b(torch.tanh(self.a(torch.cat([x, c_noise[:, None] / 1000], 1))))

class Tied(_Base):
    def __init__(self):
        super().__init__()
        self.again = self.a
        self.c = nn.Linear(3, 8, bias=False)
        self.c.weight = self.a.weight

class OldWeightNorm(_Base):
    def __init__(self):
        super().__init__()
        self.a = nn.utils.weight_norm(self.a)

class NewWeightNorm(_Base):
    def __init__(self):
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(self.a)

class Expanded(_Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(1, 1).expand(4, 4))

class Views(_Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(16.0).reshape(2, 8))
        self.register_buffer("row", self.table[0])

class ComplexBuffer(_Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(4), torch.arange(4.0)))

class Keeps(_Base):
    def forward(self, *given):
        self.last = super().forward(*given)
        return self.last

class Counts(_Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
    def forward(self, x, c_noise, condition):
        if self.training:
            self.calls += 1
            self.ready.fill_(True)
        return super().forward(x, c_noise, condition) * (2.0 if self.ready else 1.0)

class TensorExtra(_Base):
    def __init__(self):
        super().__init__()
        self.extra = 0
    def get_extra_state(self):
        return torch.tensor(self.extra)
    def set_extra_state(self, state):
        self.extra = int(state)

class PartlyFrozen(_Base):
    def __init__(self):
        super().__init__()
        self.a.requires_grad_(False)

class AllFrozen(_Base):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)

class NoWeights(EpsilonModel):
    def forward(self, x, c_noise, condition):
        return x

class Lazy(_Base):
    def __init__(self):
        super().__init__()
        self.a = nn.LazyLinear(8)

class ComplexWeight(_Base):
    def __init__(self):
        super().__init__()
        self.spectral = nn.Parameter(torch.randn(2, dtype=torch.cfloat))

class OtherExtra(_Base):
    def get_extra_state(self):
        return {"version": 2}
    def set_extra_state(self, state):
        pass

class Locked(_Base):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
"""
WORK = (
    *("tied", "old_weight_norm", "new_weight_norm", "expanded", "views", "complex_buffer"),
    *("keeps", "counts", "tensor_extra", "partly_frozen"),
)


class Points(Dataset):
    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __len__(self) -> int:
        return 16

    def batch(self, indices) -> Batch:
        return Batch(torch.linspace(-1, 1, 32).reshape(16, 2)[list(indices)])


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> diffkit.Host:
    path: Path = tmp_path_factory.mktemp("plugin") / "kinds.py"
    path.write_text(SOURCE)
    return diffkit.Host(plugin_files=[path])


def build(name: str, host: diffkit.Host) -> diffkit.Pipeline:
    spec = {
        "schedule": {"id": "cosine", "config": {"steps": 20}},
        "process": "variance-preserving",
        "model": f"local.{name}",
        "loss": "simple",
        "sampler": "ddpm",
        "data": {"shape": [2]},
        "steps": 2,
        "training": {"batch_size": 8, "warmup_steps": 0, "checkpoint_every": 2, "ema_decay": 0.9},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's of its older weight norm
        return diffkit.build(spec, host=host, device="cpu")


def state(pipeline: diffkit.Pipeline) -> dict[str, torch.Tensor]:
    systems = {"model": pipeline.system, "ema": pipeline.average}
    return {f"{n}/{k}": v.clone() for n, s in systems.items() for k, v in s.state_dict().items()}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", WORK)
def test_it_trains_samples_loads_and_goes_on_exactly(name, host, tmp_path) -> None:
    whole = build(name, host).train(Points(), steps=4, progress=False)
    halves = build(name, host).train(Points(), steps=2, out=tmp_path, progress=False)
    loaded = diffkit.load(tmp_path, host=host, device="cpu")
    assert torch.equal(loaded.sample(3, progress=False), halves.sample(3, progress=False))
    assert loaded.sample(2, precision="bfloat16", progress=False).shape == (2, 2)
    loaded.train(Points(), steps=4, out=tmp_path, resume=True, progress=False)
    ours, theirs = state(loaded), state(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_counts_and_flags_reach_the_average(host) -> None:
    pipeline = build("counts", host).train(Points(), steps=3, progress=False)
    assert int(pipeline.average.model.calls) == int(pipeline.system.model.calls) == 3
    assert bool(pipeline.average.model.ready)


def test_nothing_to_train_is_an_error_and_sampling_works(host) -> None:
    for name in ("all_frozen", "no_weights"):
        pipeline = build(name, host)
        with pytest.raises(diffkit.TrainingError, match="no weights that train"):
            pipeline.train(Points(), steps=1, progress=False)
        assert pipeline.sample(2, progress=False).shape == (2, 2)
        assert pipeline.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lazy", r"a\.weight is of a lazy module"),
        ("complex_weight", "spectral is a complex weight"),
        ("other_extra", "extra state that is no tensor"),
    ],
)
def test_what_cannot_be_used_is_refused_at_build(name, words, host) -> None:
    with pytest.raises(diffkit.SpecError, match=words):
        build(name, host)


def test_what_cannot_be_copied_trains_without_an_average(host) -> None:
    pipeline = build("locked", host)
    with pytest.raises(diffkit.ComponentError, match=r"cannot be copied.*ema_decay null"):
        pipeline.train(Points(), steps=1, progress=False)
    pipeline.train(Points(), steps=1, ema_decay=None, progress=False)


def test_a_twin_shares_nothing_and_ties_what_was_tied() -> None:
    module = nn.Module()
    module.one = nn.Linear(2, 2)
    module.other = module.one
    module.seen = module.one(torch.ones(1, 2))
    module.held = threading.get_ident()
    copied = twin(module)
    assert copied.one is copied.other
    assert copied.one.weight is not module.one.weight
    assert copied.seen.grad_fn is None
    assert torch.equal(copied.seen, module.seen)
    assert not list(module_problems(copied, "it"))


class Projects(Simple):
    """Forgets that it has to be a module."""

    def __init__(self, *, where: str = "line", frozen: bool = False) -> None:
        super().__init__()
        line = nn.Linear(1, 1).requires_grad_(not frozen)
        setattr(self, where, {"line": line, "lines": [line], "table": {"a": line.weight}}[where])


@pytest.mark.parametrize("where", ["line", "lines", "table"])
def test_weights_that_nobody_would_train_are_refused(where) -> None:
    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "mlp", "config": {"width": 8}},
        "loss": Projects(where=where),
        "sampler": "ddpm",
        "data": {"shape": [2]},
    }
    words = rf"weights in {where} .* class Projects\(nn.Module, Simple"
    with pytest.raises(diffkit.SpecError, match=words):
        diffkit.build(spec)
    diffkit.build({**spec, "loss": Projects(where=where, frozen=True)})
