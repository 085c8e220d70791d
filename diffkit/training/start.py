"""From what `Pipeline.train` was asked to a trainer that has looked at everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffkit.assembly.build import Assembly, training_components
from diffkit.assembly.encoded_data import Encoded
from diffkit.assembly.prepared_data import check_conditions, check_data
from diffkit.assembly.system import System
from diffkit.config.spec import PipelineSpec, TrainingSpec
from diffkit.core.dataset import Dataset
from diffkit.core.stream import Stream
from diffkit.distributed.world import World, world_of
from diffkit.errors import SpecError
from diffkit.helpers.lock import sole_writer
from diffkit.plugins.events import Events
from diffkit.plugins.host import Host
from diffkit.storage import fingerprint
from diffkit.storage.initial import take_initial
from diffkit.storage.latents import latents_for
from diffkit.storage.resume import check_changes, checkpoint_to_resume
from diffkit.storage.run_directory import Which
from diffkit.storage.weights import Continuation, Weights
from diffkit.training.in_order import InOrder
from diffkit.training.observed_run import Looking
from diffkit.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingOptions:
    """The arguments of `Pipeline.train` that are no fields of a spec."""

    out: Path | None = None
    resume: bool = False
    checkpoint: Which = "last"
    observers: tuple[object, ...] = ()
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.checkpoint != "last" and not self.resume:
            raise SpecError(["checkpoint: it says where to go on from, and goes with resume"])
        if self.resume and self.out is None:
            raise SpecError(["resume: it needs the run directory to go on in; give it as out=..."])


@contextmanager
def prepared_training(
    weights: Weights,
    assembly: Assembly,
    dataset: Callable[[], Dataset],
    options: TrainingOptions,
    host: Host,
    looking: Looking | None = None,
) -> Iterator[Trainer]:
    """A trainer of these weights; within, the run directory is locked.

    Nothing is written before all processes have agreed but the lock, so that what is refused leaves
    no trace.
    """
    spec, components = assembly.spec, training_components(assembly)
    if options.out is not None:
        assembly.check_saveable()
    parts, world = weights.system.parts, world_of(weights.system.device)
    with ExitStack() as held:
        with world.all_or_none():
            data = dataset()
            check_data(data, parts)
            check_conditions(data, parts)
            goes_on_from = _beginning(held, weights, spec, data, options, world)
            described = fingerprint.described(parts.latents)
            if options.out is not None:
                described |= fingerprint.of_data(data)
            hooks = (*host.load_hooks(), *components.observers.items()) if world.is_main else ()
        world.check_agreement(_to_agree_on(spec, options.out, data))
        data = _as_trained_on(data, weights.system, spec.training, options, world)
        weights.follow(components.tracks())
        yield Trainer(
            weights=weights,
            dataset=data,
            spec=spec,
            components=components,
            directory=options.out,
            world=world,
            events=Events(hooks, options.observers if world.is_main else ()),
            goes_on_from=goes_on_from,
            described=described,
            looking=looking,
        )


def _beginning(
    held: ExitStack,
    weights: Weights,
    spec: PipelineSpec,
    dataset: Dataset,
    options: TrainingOptions,
    world: World,
) -> Path | Continuation | None:
    """What training goes on from, whose weights are now taken; of none, the spec's first ones."""
    found = _checkpoint(held, weights, spec, dataset, options, world) or weights.continuation
    if found is None and spec.training.init is not None and not weights.steps:
        take_initial(weights, spec.training.init)
    return found


def _checkpoint(
    held: ExitStack,
    weights: Weights,
    spec: PipelineSpec,
    dataset: Dataset,
    options: TrainingOptions,
    world: World,
) -> Path | None:
    """The checkpoint in the run's directory, if it is to go on from one; locks the directory."""
    if options.out is None:
        return None
    if world.is_main:
        held.enter_context(sole_writer(options.out))
    chosen = checkpoint_to_resume(options.out, options.resume, options.checkpoint)
    if chosen is not None:
        asked = spec.model_dump(mode="json")
        check_changes(chosen, asked, partial(fingerprint.has_data, chosen, dataset))
        weights.restore(chosen)
    return chosen


def _as_trained_on(
    data: Dataset, system: System, spec: TrainingSpec, options: TrainingOptions, world: World
) -> Dataset:
    """The data by the numbers of their samples, and in latents where there is an autoencoder.

    Those of a stream are computed as its samples come, of each micro-batch at once. Raises
    SpecError where they were to be kept.
    """
    streams = isinstance(data, Stream)
    if isinstance(data, Stream):
        data = InOrder(stream=data, world=world, size=spec.batch_size)
    if system.parts.latents is None:
        return data
    encoded = Encoded(dataset=data, parts=system.parts, device=system.device)
    if not streams:
        return latents_for(encoded, spec.latents, options.out, world, options.progress)
    if spec.latents is not None:
        raise SpecError(
            [
                "training.latents: the data are a stream, whose latents are computed as they come "
                "and kept nowhere; leave it out, or train on a dataset that has a length"
            ]
        )
    return encoded


def _to_agree_on(spec: PipelineSpec, directory: Path | None, dataset: Dataset) -> dict[str, Any]:
    """What has to be the same in all processes of a run."""
    training = {f"training.{k}": v for k, v in spec.training.model_dump(mode="json").items()}
    rest = spec.model_dump(mode="json", exclude={"training", "provenance"})
    where = None if directory is None else str(directory.absolute())
    samples = None if isinstance(dataset, Stream) else len(dataset)
    return {**rest, **training, "out": where, "the number of samples": samples}
