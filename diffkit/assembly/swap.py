"""Other components for a trajectory, checked like those of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffkit.assembly.build import Assembler
from diffkit.assembly.provenance import UNREGISTERED
from diffkit.assembly.system import Parts
from diffkit.core.component import Component
from diffkit.core.dataset import Dataset
from diffkit.core.process import ForwardProcess
from diffkit.errors import SpecError

_OF_SAMPLING = ("sampler", "spacing", "schedule", "process", "guidance")


def swapped(
    assembler: Assembler, parts: Parts, choices: Mapping[str, Any]
) -> dict[str, Component | None]:
    """The components of a trajectory, with these choices in place of the pipeline's; a guidance if
    any.

    A new schedule goes into the process too, which is made again with it. `parts` are those that
    are sampled with, the average's where there is one: a learned schedule has an average too.

    Raises:
        SpecError: with everything that is wrong with the choices.
    """
    own: dict[str, Component] = {"schedule": parts.schedule, "process": parts.process}
    if not choices:
        return {kind: own.get(kind, assembler.instances.get(kind)) for kind in _OF_SAMPLING}
    # What is not chosen is reused as it stands: the model above all is not made again.
    raw: dict[str, Any] = assembler.spec.model_dump(mode="json")
    raw.update({**assembler.instances, **own})
    raw.update(choices)
    chosen = choices.get("process")
    if isinstance(chosen, ForwardProcess) and "schedule" not in choices:
        raw["schedule"] = chosen.schedule
    if "schedule" in choices and "process" not in choices:
        process = assembler.spec.process
        if process.id.startswith(UNREGISTERED):
            raise SpecError(
                [
                    "process: it was given as an instance of a class that is not registered, so "
                    "it cannot be made again with another schedule; give the process too"
                ]
            )
        raw["process"] = process.model_dump(mode="json")
    made = Assembler(raw, assembler.host).assemble()
    return {kind: getattr(made, kind) for kind in _OF_SAMPLING}


def chosen_to_measure(
    assembler: Assembler, metric: Any | None, dataset: Any | None
) -> tuple[Component, Dataset]:
    """The metric, and the data to measure on: the spec's, or others, checked against the same
    pipeline.

    Raises:
        SpecError: with everything that is wrong with them.
    """
    if metric is not None or dataset is not None:
        raw: dict[str, Any] = assembler.spec.model_dump(mode="json")
        raw.update(assembler.instances)
        raw.update({"metric": metric} if metric is not None else {})
        raw.update({"dataset": dataset} if dataset is not None else {})
        assembler = Assembler(raw, assembler.host)
        assembler.assemble()
    return assembler.create("metric"), dataset_of(assembler)


def dataset_of(assembler: Assembler) -> Dataset:
    """The dataset that the spec names. Raises SpecError where it names none."""
    if assembler.spec.dataset is None and "dataset" not in assembler.instances:
        raise SpecError(["the spec names no dataset; give one to train or eval, or set dataset"])
    dataset = assembler.create("dataset")
    assert isinstance(dataset, Dataset)
    return dataset
