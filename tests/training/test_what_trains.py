"""Optimisers, laws of the learning rate and averages: chosen in a spec, and resumed bit by bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.core import Average, LearningRate, LossRecord, Optimizer
from diffkit.storage import run_directory

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {"batch_size": 16, "log_every": 2, "warmup_steps": 3, "steps": 10},
}
MUON = Path(__file__).parents[2] / "docs" / "examples" / "muon.py"
TRAININGS = {
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": {"id": "sgd", "config": {"nesterov": True}}},
    "sgd without momentum": {"optimizer": {"id": "sgd", "config": {"momentum": 0.0}}},
    "muon": {"optimizer": "local.muon", "learning_rate": 0.02},
    "cosine": {"learning_rate": {"id": "cosine-decay", "config": {"rate": 0.01}}},
    "linear": {"learning_rate": {"id": "linear-decay", "config": {"final": 1e-5}}},
    "inverse-sqrt": {"learning_rate": {"id": "inverse-sqrt", "config": {"decay_steps": 2}}},
    "power": {"averages": {"power": "power"}},
    "several": {"averages": {"short": {"id": "ema", "config": {"decay": 0.5}}, "power": "power"}},
    "none": {"ema_decay": None},
}


@pytest.fixture
def host():
    return diffkit.Host(plugin_files=[MUON])


def built(host, **training):
    return diffkit.build({**SPEC, "training": {**SPEC["training"], **training}}, host=host)


def files(run: Path) -> dict[str, torch.Tensor]:
    last = run_directory.latest_checkpoint(run)
    return {
        f"{path.stem}/{name}": value
        for path in sorted(last.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_resuming_is_bit_exact(name, host, tmp_path) -> None:
    """Every file of the last checkpoint, of a run that was ended by its time in between."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    built(host, **TRAININGS[name]).train(out=once, progress=False)
    first = built(host, checkpoint_every=4, **TRAININGS[name])

    class Ends:
        @diffkit.hookimpl
        def diffkit_checkpoint(self, step) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(out=twice, observers=[Ends()], progress=False)
    assert run_directory.step_of(run_directory.latest_checkpoint(twice)) == 4
    again = diffkit.load(twice, host=host).train(out=twice, resume=True, progress=False)
    assert again.spec.training.steps == 10
    wanted, found = files(once), files(twice)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


def test_short_spellings_mean_components(host) -> None:
    training = built(host, learning_rate=0.5, optimizer="adam", ema_decay=0.75).spec.training
    assert (training.optimizer.id, training.optimizer.config["eps"]) == ("diffkit.adam", 1e-8)
    assert training.learning_rate.model_dump() == {
        "id": "diffkit.constant",
        "config": {"rate": 0.5},
    }
    assert training.averages["ema"].model_dump() == {"id": "diffkit.ema", "config": {"decay": 0.75}}
    with pytest.raises(diffkit.SpecError, match="ema_decay is short for averages"):
        built(host, ema_decay=0.5, averages={})
    changed = built(host).train(ema_decay=None, learning_rate=0.25, steps=1, progress=False).spec
    assert not changed.training.averages
    assert changed.training.learning_rate.config == {"rate": 0.25}


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"learning_rate": math.nan}, r"training.learning_rate = nan: a learning rate is a finite"),
        ({"learning_rate": 0}, "training.learning_rate = 0"),
        ({"learning_rate": "1e-3"}, "training.learning_rate = '1e-3': it is a text"),
        ({"optimizer": "nadam"}, "training.optimizer: no optimizer is called 'nadam'"),
        (
            {"optimizer": {"id": "adamw", "config": {"betas": [0.9, 1.0]}}},
            "training.optimizer.betas",
        ),
        ({"averages": {"model": "ema"}}, "an average cannot be called so"),
        ({"averages": {"../x": "ema"}}, "training.averages"),
        ({"averages": {"p": {"id": "power", "config": {"lengths": [0.4]}}}}, "lengths.0 = 0.4"),
        ({"averages": {"p": {"id": "power", "config": {"lengths": [0.1, 0.1]}}}}, "same twice"),
        ({"optimizer": {"id": "sgd", "config": {"nesterov": True, "momentum": 0.0}}}, "momentum 0"),
    ],
)
def test_what_is_wrong_is_said_before_anything(training, words, host, tmp_path) -> None:
    with pytest.raises(diffkit.SpecError, match=words):
        built(host, **training).train(out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


class Partial(Optimizer):
    def make(self, named_parameters):
        return torch.optim.SGD([weight for _, weight in named_parameters[1:]], lr=1.0)


class Twice(Optimizer):
    def make(self, named_parameters):
        weights = [weight for _, weight in named_parameters]
        return torch.optim.SGD([*weights, weights[0]], lr=1.0)


class Foreign(Optimizer):
    def make(self, named_parameters):
        weights = [weight for _, weight in named_parameters]
        return torch.optim.SGD([*weights, torch.nn.Parameter(torch.zeros(3))], lr=1.0)


class Natural(Optimizer):
    def make(self, named_parameters):
        return torch.optim.Adam([weight for _, weight in named_parameters], lr=1e-3)


class NoOptimizer(Optimizer):
    def make(self, named_parameters):
        return dict(named_parameters)


class Fails(Optimizer):
    def make(self, named_parameters):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (Partial(), r"Partial leaves out model\.\S+; give every weight to a group"),
        (Twice(), r"Twice takes model\.\S+ twice"),
        (Foreign(), r"Foreign takes tensors that are no weights .* \[3\]"),
        (Natural(), r"Natural makes groups with lr 0.001; .* make it with lr=1.0"),
        (NoOptimizer(), "NoOptimizer makes a dict, and not a torch.optim.Optimizer"),
        (Fails(), "Fails cannot be made for these weights: ValueError: no"),
    ],
)
def test_an_optimiser_of_other_weights_is_refused(optimizer, words, host) -> None:
    pipeline = built(host)
    before = [weight.detach().clone() for weight in pipeline.system.parameters()]
    with pytest.raises(diffkit.ComponentError, match=words):
        pipeline.train(optimizer=optimizer, progress=False)
    after = pipeline.system.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_nothing_is_written_where_an_optimiser_is_refused(tmp_path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import torch\nfrom diffkit.core import Optimizer\n"
        "class Partial(Optimizer):\n    def make(self, named_parameters):\n"
        "        return torch.optim.SGD([w for _, w in named_parameters[1:]], lr=1.0)\n"
    )
    pipeline = built(diffkit.Host(plugin_files=[plugin]), optimizer="local.partial")
    with pytest.raises(diffkit.ComponentError, match="leaves out"):
        pipeline.train(out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "spec.json").exists()


class Written(LearningRate):
    def rate(self, step, steps):
        return "0.1"


def test_a_text_is_no_rate(host) -> None:
    with pytest.raises(diffkit.TrainingError, match=r"Written gives '0\.1' for update 0"):
        built(host, learning_rate=Written()).train(progress=False)


class Until(LearningRate):
    """Right for five updates."""

    def __init__(self, *, then: float = math.nan) -> None:
        self._then = then

    def rate(self, step, steps):
        return 1e-3 if step < 5 else self._then


@pytest.mark.parametrize("then", [math.nan, math.inf, -1e-3])
def test_a_rate_that_is_none_ends_training_with_what_there_is(then, host, tmp_path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from diffkit.core import LearningRate\n"
        "class Until(LearningRate):\n    def rate(self, step, steps):\n"
        f"        return 1e-3 if step < 5 else float('{then}')\n"
    )
    pipeline = built(diffkit.Host(plugin_files=[plugin]), learning_rate="local.until")
    with pytest.raises(diffkit.TrainingError, match=rf"Until gives {then} for update 5 of 10"):
        pipeline.train(out=tmp_path / "run", progress=False)
    assert run_directory.step_of(run_directory.latest_checkpoint(tmp_path / "run")) == 5
    good = built(host, steps=5, learning_rate=1e-3).train(progress=False)
    for one, other in zip(good.system.parameters(), pipeline.system.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_law_is_of_all_updates_of_this_training(host, tmp_path) -> None:
    """Resumed to more updates, and trained once more, the rate is that of the new number."""
    seen = []

    class Law(LearningRate):
        def rate(self, step, steps):
            seen.append((step, steps))
            return 1e-3

    pipeline = built(host, steps=3, log_every=100)
    pipeline.train(learning_rate=Law(), progress=False)
    pipeline.train(steps=2, progress=False)
    assert dict.fromkeys(seen) == dict.fromkeys([(0, 3), (1, 3), (2, 3), (3, 5), (4, 5)])
    law = {"id": "cosine-decay", "config": {"rate": 1.0}}
    built(host, steps=4, learning_rate=law).train(out=tmp_path / "run", progress=False)
    diffkit.load(tmp_path / "run").train(out=tmp_path / "run", resume=True, steps=8, progress=False)
    rates = {m["step"]: m["learning_rate"] for m in run_directory.read_metrics(tmp_path / "run")}
    assert rates[4] == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 4)))
    assert rates[8] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


@pytest.mark.parametrize("optimizer", ["local.muon", "sgd", "adam"])
def test_an_update_that_is_not_finite_changes_nothing(optimizer, host) -> None:
    """Whether the optimiser knows of it or not; and the next one is made."""
    spec = {**SPEC, "loss": Breaks()}
    spec["training"] = {**SPEC["training"], "optimizer": optimizer, "nonfinite": "skip"}
    pipeline = diffkit.build(spec, host=host).train(steps=1, progress=False)
    held = []
    for _ in range(2):
        before = [weight.detach().clone() for weight in pipeline.system.parameters()]
        held.append(pipeline._weights.continuation.optimizer)
        pipeline.train(steps=1, progress=False)
        same = map(torch.equal, before, pipeline.system.parameters())
        assert all(same) is (len(held) == 1)
    one, other = (state.tensors for state in held)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Breaks(Simple):
    """Not finite in the second update."""

    def __call__(self, batch, context):
        record = super().__call__(batch, context)
        scale = math.nan if context.step == 1 else 1.0
        return LossRecord(record.values * scale, record.t)


class Switch(Average):
    """Switch EMA: every third update the weights become their average. Li et al. (2024)."""

    writes_weights = True

    def decay(self, step, track):
        return 0.5

    def update(self, averages, weights, step):
        super().update(averages, weights, step)
        if step % 3 == 2:
            for weight, average in zip(weights, averages[""], strict=True):
                weight.copy_(average)


def test_an_average_may_write_the_weights(host) -> None:
    pipeline = built(host, steps=3)
    pipeline.train(averages={"switch": Switch()}, progress=False)
    average = pipeline.average.parameters()
    assert all(map(torch.equal, pipeline.system.parameters(), average))


def test_samples_are_drawn_with_the_average_that_is_named(host, tmp_path) -> None:
    pipeline = built(host, averages={"ema": "ema", "power": "power"}, warmup_steps=0)
    pipeline.train(out=tmp_path / "run", progress=False)
    names = ("ema", "power-0.05", "power-0.1", "latest")
    drawn = {name: pipeline.sample(2, average=name) for name in names}
    assert torch.equal(pipeline.sample(2), drawn["ema"])
    assert torch.equal(pipeline.sample(2, average="power"), drawn["power-0.05"])
    assert len({tuple(x.flatten().tolist()) for x in drawn.values()}) == 4
    for name in names:
        loaded = diffkit.load(tmp_path / "run", average=name)
        assert torch.equal(loaded.sample(2), drawn[name])
    with pytest.raises(diffkit.SpecError, match=r"no 'swa'; the averages are: ema, power-0\.05"):
        pipeline.sample(2, average="swa")
    with pytest.raises(diffkit.SpecError, match="no 'swa'"):
        diffkit.load(tmp_path / "run", average="swa")
