"""Using what a pipeline is trained with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffkit.assembly.choice_facts import SHAPE
from diffkit.assembly.facts import LATENTS
from diffkit.assembly.training import TrainingComponents
from diffkit.bundled.learning_rates.constant import Constant
from diffkit.config.signature import signature_of, validated
from diffkit.core.augmentation import Augmentation
from diffkit.core.average import Average
from diffkit.core.component import Config
from diffkit.core.learning_rate import LearningRate
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise, mix
from diffkit.core.observer import Observer
from diffkit.core.optimizer import Optimizer
from diffkit.plugins.events import Events
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable
from diffkit.testing.usages.record import Usage
from diffkit.training.optimizer import Updates

SHAPES = {"matrix": (4, 3), "vector": (4,), "kernel": (4, 2, 3, 3), "scalar": ()}
ROWS, BATCH_SIZE = 6, 8
PICTURE = "map"


def named_weights(subject: ComponentUnderTest) -> dict[str, nn.Parameter]:
    """Weights of the shapes that networks have; the same at every call."""
    generator = subject.generator("weights of an optimiser")
    return {
        f"model.{name}": nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in SHAPES.items()
    }


def updates_of(optimizer: Optimizer, named: dict[str, nn.Parameter], rate: float) -> Updates:
    """The trainer's, at a constant rate."""
    components = TrainingComponents(optimizer=optimizer, learning_rate=Constant(rate=rate))
    return Updates(components, named, warmup_steps=0)


def one_update(updates: Updates, named: dict[str, nn.Parameter], step: int) -> None:
    """On gradients that depend on the weights and on the step."""
    for place, weight in enumerate(named.values()):
        shift = torch.full_like(weight, 0.1 * (step + place + 1))
        weight.grad = weight.detach() + shift
    updates.set_rate(step, 100)
    updates.apply(torch.ones(()))


def use_optimizer(
    subject: ComponentUnderTest, optimizer: Optimizer, done: Usage, _: torch.dtype
) -> None:
    """Three updates of weights of several shapes."""
    named = named_weights(subject)
    updates = updates_of(optimizer, named, 0.1)
    for step in range(3):
        one_update(updates, named, step)
    done.outputs.update({name: weight.detach().clone() for name, weight in named.items()})


def use_learning_rate(
    subject: ComponentUnderTest, law: LearningRate, done: Usage, _: torch.dtype
) -> None:
    """The rates of short and long trainings."""
    for steps in (1, 10, 1000, 1_000_000):
        asked = sorted({int(share * (steps - 1)) for share in (0, 0.05, 0.3, 0.5, 0.9, 1)})
        rates = [law.rate(step, steps) for step in asked]
        done.outputs[f"of {steps}"] = torch.tensor(rates, dtype=torch.float64)


def use_average(subject: ComponentUnderTest, average: Average, done: Usage, _: torch.dtype) -> None:
    """Updates early and late in training."""
    generator = subject.generator("weights of an average")
    tracks = average.tracks()
    held = {track: [torch.zeros(3), torch.zeros(2, 2)] for track in tracks}
    for step in (0, 1, 2, 7, 10, 16, 40, 64, 100, 1000, 1001, 1100, 1200, 2500, 100_000, 1_000_000):
        weights = [torch.randn(3, generator=generator), torch.randn(2, 2, generator=generator)]
        average.update(held, weights, step)
        for track, tensors in held.items():
            done.outputs[f"{track} after {step}"] = torch.cat([t.flatten() for t in tensors])
        # Of one that writes weights, these show what some of its options do.
        done.outputs[f"weights after {step}"] = torch.cat([w.flatten() for w in weights])


def picture_batch(subject: ComponentUnderTest, rows: int = ROWS) -> Batch:
    """Samples in [-1, 1], a condition that is the same picture, and a label."""
    shape = (rows, *subject.fixtures.shape)
    x_0 = 2.0 * torch.rand(shape, generator=subject.generator("pictures")) - 1.0
    return Batch(x_0, {PICTURE: x_0.clone(), "label": torch.arange(rows)})


def augmented_rows(
    subject: ComponentUnderTest, augmentation: Augmentation, batch: Batch, rows: range, step: int
) -> Batch:
    """The batch of these rows, of as many as `BATCH_SIZE`."""
    noise = BatchNoise(
        seed=mix(subject.seed, "augmentation"), step=step, rows=rows, total=BATCH_SIZE
    )
    pictures = (PICTURE,) if batch.x_0.ndim == 4 else ()
    return augmentation(batch, noise, pictures)


def declared_facts(subject: ComponentUnderTest) -> dict[str, Any]:
    """What a component so configured offers."""
    config, _ = validated(signature_of(subject.cls, subject.host), subject.config, subject.entry.id)
    return {} if config is None else dict(subject.cls.facts(cast(Config, config)))


def refuse_unfit(subject: ComponentUnderTest) -> None:
    """Raise NotApplicable where an augmentation is not for samples of the fixtures' shape."""
    config, _ = validated(signature_of(subject.cls, subject.host), subject.config, subject.entry.id)
    facts = {SHAPE: subject.fixtures.shape, "data.range": (-1.0, 1.0), LATENTS: False}
    problems = [] if config is None else list(subject.cls.requires(cast(Config, config), facts))
    if problems:
        raise NotApplicable(f"it is not for samples of {subject.fixtures.shape}: {problems[0]}")


def use_augmentation(
    subject: ComponentUnderTest, augmentation: Augmentation, done: Usage, _: torch.dtype
) -> None:
    """A few batches of a few rows."""
    refuse_unfit(subject)
    batch = picture_batch(subject)
    given = {name: done.give(name, value) for name, value in batch.condition.items()}
    read = Batch(done.give("x_0", batch.x_0), given)
    for step in range(4):
        found = augmented_rows(subject, augmentation, read, range(ROWS), step)
        done.outputs[f"x_0 {step}"] = found.x_0
        named = found.condition.items()
        done.outputs.update({f"condition {name} {step}": value for name, value in named})


class _AnyValue(dict[str, float]):
    """The values of a metric, of which the kit does not know the names."""

    def __missing__(self, name: str) -> float:
        return self["value"]


_EVENTS, _FALLS = 120, 40
"""Of a training that is watched; the loss falls over the first, and then stays: long enough for an
observer that looks now and then to lose its patience."""


def _falling(number: int) -> float:
    return 1.0 / min(max(number, 1), _FALLS)


class NotedRun:
    """A run without a directory, or with one, that notes what an observer asks of it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory, self.spec = directory, {"training": {"steps": 1000 * _EVENTS}}
        self.system: nn.Module = nn.LayerNorm(2)
        self.average: nn.Module | None = None
        self.asked: list[tuple[str, float]] = []
        self.step, self.stopped = 0, False

    def sample(self, num: int, *, seed: int = 0, **options: Any) -> Tensor:
        """Grey pictures."""
        self.asked.append(("sample", float(num)))
        return torch.zeros(num, 1, 8, 8)

    def evaluate(self, metric: Any = None, *, seed: int = 0, **options: Any) -> dict[str, float]:
        """What falls as the loss does, by whatever name it is asked for."""
        self.asked.append(("evaluate", float(self.step)))
        return _AnyValue(value=_falling(self.step // 1000))

    def log(self, name: str, value: float | Tensor) -> None:
        """Noted."""
        self.asked.append((f"log {name}", float(torch.as_tensor(value).double().mean())))

    def stop(self, reason: str) -> None:
        """Noted, with the step; it is the last."""
        self.asked.append(("stop", float(self.step)))
        self.stopped = True


def watched(observer: Observer, run: NotedRun) -> Events:
    """A training of which an observer is told, until it stops it; the loss falls and then stays."""
    events = Events([("observer", observer)])
    events.run_start(run)
    for number in range(1, _EVENTS + 1):
        run.step, value = 1000 * number, _falling(number)
        found = {"step": run.step, "loss": value, "grad_norm": 1.0}
        metrics = {**found, "learning_rate": 1e-3}
        events.step(run, run.step, {**metrics, "seconds": float(number)})
        events.log(run, run.step, "number", value)
        if number % 4 == 0:
            events.checkpoint(run, run.step, Path("checkpoints") / f"step-{run.step:08d}")
        if run.stopped:
            break
    events.log(run, run.step, "picture", torch.zeros(1, 8, 8))
    events.run_end(run, run.step)
    return events


def use_observer(
    subject: ComponentUnderTest, observer: Observer, done: Usage, _: torch.dtype
) -> None:
    """A whole training without a directory, and one with; what it asked for, and wrote."""
    with tempfile.TemporaryDirectory() as folder:
        for where in (None, Path(folder)):
            run = NotedRun(where)
            watched(observer, run)
            for place, (what, value) in enumerate(run.asked):
                asked = f"{place} {what}, {'with' if where else 'without'} a directory"
                done.outputs[asked] = torch.tensor(value, dtype=torch.float64)
        # Not what is in them: many note the time of day.
        written = [path for path in Path(folder).rglob("*") if path.is_file()]
        done.outputs["files"] = torch.tensor(len(written))
        done.outputs["lines"] = torch.tensor(sum(map(_lines, written)))


def _lines(file: Path) -> int:
    try:
        return len(file.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        return 0
