"""What the data of a pipeline are: as the spec says, or the dataset, or the model."""

from __future__ import annotations

from typing import Any, cast

from pydantic import ValidationError

from diffkit.assembly.blueprint import Blueprint, Choice, Problem
from diffkit.assembly.choice_facts import asked, filled_in, of_data, own_facts, sources_of
from diffkit.config.signature import explained
from diffkit.config.spec import DataSpec
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Facts
from diffkit.core.dataset import Dataset
from diffkit.errors import ComponentError

_DEFAULT_DATA = DataSpec(shape=(3, 32, 32), range=(-1.0, 1.0))
_FILLED = ("dtype", "vocabulary", "conditions")
"""What a spec that says only the shape and the range of the data has from the dataset."""


def data_of(blueprint: Blueprint) -> tuple[DataSpec, tuple[Problem, ...]]:
    """What the spec says of the data; else the dataset; else the model given; else images."""
    settings = blueprint.settings
    problems: tuple[Problem, ...] = ()
    if settings is not None and settings.data is not None:
        return _completed(settings.data, blueprint.choices.get("dataset")), problems
    dataset = blueprint.choices.get("dataset")
    if dataset is not None and dataset.readable:
        found, problems = asked("dataset", "facts", lambda: _declared(dataset))
        if found is not None:
            return found, problems
    model = blueprint.choices.get("model")
    if "autoencoder" not in blueprint.choices and model is not None and model.given is not None:
        shape = model.given.get("shape")
        if shape is not None:
            return DataSpec(shape=tuple(shape)), problems
    return _DEFAULT_DATA, problems


def _completed(data: DataSpec, dataset: Choice | None) -> DataSpec:
    """The data of a spec, with what it does not say from the dataset, if that can be asked."""
    unsaid = [name for name in _FILLED if name not in data.model_fields_set]
    if not unsaid or dataset is None or not dataset.readable:
        return data
    found, _ = asked("dataset", "facts", lambda: _declared(dataset))
    if found is None:
        # It is asked again, and its problem said, when data are read.
        return data
    return data.model_copy(update={name: getattr(found, name) for name in unsaid})


def _declared(choice: Choice) -> DataSpec:
    """What a dataset says of its samples. Raises ComponentError where that is nothing."""
    if choice.kind in sources_of(choice):
        raise ComponentError("it is made with another dataset; name one in its config")
    if choice.given is not None:
        dataset = cast(Dataset, choice.instance)
        facts: Facts = {name: getattr(dataset, name) for name in DataSpec.model_fields}
    else:
        facts = choice.component.facts(filled_in(choice, _DEFAULT_DATA, {}))
    if "shape" not in facts:
        name = choice.component.__name__
        raise ComponentError(f"{name} says no shape of its samples in its facts; tell its authors")
    told = {name: facts[name] for name in DataSpec.model_fields if name in facts}
    if told.get("conditions") is not None:
        told["conditions"] = dict(told["conditions"])
    try:
        return DataSpec(**{**told, "shape": tuple(facts["shape"])})
    except ValidationError as error:
        wrong = "; ".join(explained(error, "", DataSpec.model_fields))
        raise ComponentError(f"what it declares of its data is wrong: {wrong}") from error


def latents_of(blueprint: Blueprint, data: DataSpec) -> tuple[DataSpec, tuple[Problem, ...]]:
    """What the model works in."""
    choice = blueprint.choices.get("autoencoder")
    if choice is None or not choice.readable:
        return data, ()
    config = filled_in(choice, data, {})
    kind = cast(type[Autoencoder], choice.component)

    def latents() -> DataSpec:
        shape = tuple(kind.latent_shape(config, data.shape))
        return DataSpec(shape=shape, conditions=data.conditions)

    found, problems = asked("autoencoder", "latent_shape", latents)
    return (data if found is None else found), problems


def dataset_facts(blueprint: Blueprint, data: DataSpec) -> dict[str, Any]:
    """What a spec says of the data; and of the dataset's own facts, where one is asked for."""
    found = of_data("dataset", data)
    dataset = blueprint.choices.get("dataset")
    wanted = {
        source
        for choice in blueprint.choices.values()
        for source in sources_of(choice)
        if source.startswith("dataset.") and source not in found
    }
    if not wanted or dataset is None or not dataset.readable:
        return found
    config = filled_in(dataset, data, {})
    own, _ = own_facts(dataset, config)
    return {**{f"dataset.{name}": value for name, value in (own or {}).items()}, **found}
