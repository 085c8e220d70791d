"""Building: every problem at once, and nothing large before there are none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from diffkit.assembly.create import created
from diffkit.assembly.incompatibilities import (
    dropout_problem,
    incompatibilities,
    null_problem,
    schedule_facts,
    training_problems,
)
from diffkit.assembly.latents import LatentSpace
from diffkit.assembly.provenance import MOST_NESTED, configuration, provenance_of, references
from diffkit.assembly.spec_reader import RawSpec, Reading
from diffkit.assembly.system import Parts
from diffkit.config.signature import Signature, alike, explained, signature_of, validated
from diffkit.config.spec import COMPONENT_FIELDS, ComponentSpec, DataSpec, PipelineSpec
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Component, arguments_of
from diffkit.core.data import FACTS
from diffkit.core.dataset import Dataset
from diffkit.core.metric import SampleMetric
from diffkit.core.noise import mix
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.seeded import seeded
from diffkit.errors import ComponentError, DiffkitError, SpecError
from diffkit.plugins.host import Host
from diffkit.plugins.isolation import cause_of

_DEFAULT_DATA = DataSpec(shape=(3, 32, 32), range=(-1.0, 1.0))
_SHAPE = "data.shape"
# In this order: what others are supplied with first, what is large last.
_SMALL = (
    "schedule",
    "process",
    "parameterization",
    "times",
    "spacing",
    "loss",
    "sampler",
    "guidance",
)
_WEIGHTS = ("encoder", "model")
_CREATED = (*_SMALL, *_WEIGHTS)
_LATENT = "autoencoder"
_LARGE = (*_WEIGHTS, _LATENT)
_OF_SAMPLES = (_LATENT, "dataset", "features")
"""What meets samples as they are, even where the rest works in their latents."""


_Answer = TypeVar("_Answer")


def _declared(facts: Mapping[str, Any]) -> DataSpec:
    """What a dataset says of its samples. Raises ComponentError where that is nothing."""
    try:
        return DataSpec(shape=tuple(facts["shape"]), range=facts.get("range"))
    except ValidationError as error:
        wrong = "; ".join(explained(error, "", DataSpec.model_fields))
        raise ComponentError(f"what it declares of its data is wrong: {wrong}") from error


class Assembler:
    """Turns one raw spec into components, collecting what is wrong on the way."""

    def __init__(self, raw: RawSpec, host: Host) -> None:
        host.load_hooks()
        self.host = host
        self._reading = Reading(raw, host)
        self._problems = list(self._reading.problems)
        self._cause: Exception | None = None
        self.instances: dict[str, Component] = dict(self._reading.given)
        self._classes: dict[str, type[Component]] = {}
        self._signatures: dict[str, Signature] = {}
        self._configs: dict[str, BaseModel] = {}
        self._facts: dict[str, Any] = {}
        self._data = self._inner = _DEFAULT_DATA

    @property
    def unsaveable(self) -> list[str]:
        """Why no file can describe the pipeline; empty where one can."""
        return self._reading.unsaveable

    @property
    def spec(self) -> PipelineSpec:
        """The spec as it was given."""
        assert self._reading.spec is not None
        return self._reading.spec

    def assemble(self) -> Parts:
        """The parts. Raises SpecError with every problem; the model is created last."""
        for field in COMPONENT_FIELDS:
            self._check(field)
        self._data = self._find_data()
        self._inner = self._find_latents()
        self._create("schedule")
        if "schedule" in self.instances:
            self._consult(cast(NoiseSchedule, self.instances["schedule"]))
        for field in _SMALL:
            self._create(field)
        self._agree_on_the_schedule()
        self._stop_if_wrong()
        # Each from a seed of its own, so that the model's weights are the same with the others and
        # without.
        for field, name in (("model", "weights"), ("encoder", "encoder"), (_LATENT, _LATENT)):
            with seeded(mix(self.spec.seed, name)):
                self._create(field)
        self._stop_if_wrong()
        latent = cast(Autoencoder | None, self.instances.get(_LATENT))
        made: dict[str, Any] = {name: self.instances.get(name) for name in _CREATED}
        conditions = tuple(self._facts.get("model.conditions", ()))
        sample = (self._data.shape, self._data.range)
        return Parts(
            shape=self._inner.shape,
            data_range=self._inner.range,
            sample_shape=sample[0],
            sample_range=sample[1],
            latents=None if latent is None else LatentSpace(latent, *sample),
            conditions=conditions,
            taken=tuple(self._facts.get("encoder.takes", conditions)),
            model_steps=self._facts.get("model.steps"),
            learned_variance=bool(self._facts.get("model.learned_variance", False)),
            **made,
        )

    def full_spec(self) -> PipelineSpec:
        """The spec with full ids, every default and the provenance written out."""
        changes: dict[str, Any] = {"data": self._data}
        for field, config in self._configs.items():
            entry = self.host.find(field, getattr(self.spec, field).id)
            written = configuration(config, self._signatures[field], self.host)
            changes[field] = ComponentSpec(id=entry.id, config=written)
        spec = self.spec.model_copy(update=changes)
        return spec.model_copy(update={"provenance": provenance_of(spec, self.host)})

    def create(self, field: str) -> Component:
        """One of the components that are made on demand: the dataset, the metric.

        Raises:
            SpecError: it cannot be made.
        """
        if field in self.instances:
            return self.instances[field]
        sources = [s for s in self._signatures[field].supplied.values() if s in COMPONENT_FIELDS]
        for wanted in (*sources, field):
            if problems := self._required(wanted, self._known(wanted)):
                raise SpecError(problems)
            self._create(wanted)
        problems, self._problems = self._problems, []
        if problems:
            raise SpecError(problems) from self._cause
        return self.instances[field]

    # -- checking ------------------------------------------------------------------------------

    def _check(self, field: str) -> None:
        """Resolve and validate one component, without creating it."""
        if field in self._reading.given:
            self._classes[field] = type(self._reading.given[field])
            return
        reference = self._reading.reference(field)
        if reference is not None:
            self._check_reference(field, field, reference)

    def _check_reference(
        self, kind: str, path: str, reference: ComponentSpec, depth: int = 0
    ) -> None:
        if depth > MOST_NESTED:
            self._problems.append(f"{path}: over {MOST_NESTED} components within one another")
            return
        at_top = depth == 0
        try:
            component = self.host.resolve(kind, reference.id)
            signature = signature_of(component, self.host)
        except ComponentError as error:
            self._problems.append(f"{path}: {error}{self._how_to_get(kind, reference.id)}")
            return
        self._compare_file(kind, reference.id)
        config, problems = validated(signature, reference.config, path)
        self._problems += problems
        if at_top:
            self._classes[kind], self._signatures[kind] = component, signature
        if config is None:
            return
        if at_top:
            self._configs[kind] = config
        for nested_path, nested in references(config, path):
            self._check_reference(str(nested.kind), nested_path, nested, depth + 1)

    def _how_to_get(self, kind: str, full_id: str) -> str:
        """Where a missing component of a saved spec came from."""
        spec = self._reading.spec
        source = None if spec is None else spec.provenance.get(full_id)
        if source is None or self.host.knows(kind, full_id):
            return ""
        if source.sha256 is not None:
            return f". It came from the file {source.distribution}: name it as a plugin file"
        return (
            f". It came from {source.distribution} {source.version}, which is not here: "
            f"pip install '{source.distribution}=={source.version}'"
        )

    def _compare_file(self, kind: str, name: str) -> None:
        """Warn where a plugin file is not the one that the saved spec was made with."""
        entry, spec = self.host.find(kind, name), self._reading.spec
        source = None if spec is None else spec.provenance.get(entry.id)
        if source is not None and source.sha256 != entry.origin.sha256:
            warnings.warn(
                f"{kind} '{entry.id}' comes from {entry.origin}, which has changed since this "
                "spec was saved: samples may differ",
                stacklevel=2,
            )

    def _find_data(self) -> DataSpec:
        """What the spec says of the data; else the dataset; else the model given; else images."""
        spec = self._reading.spec
        if spec is not None and spec.data is not None:
            return spec.data
        given = self._reading.given
        if "dataset" in given:
            dataset = cast(Dataset, given["dataset"])
            declared = {"shape": dataset.shape, "range": dataset.range}
            found = self._ask("dataset", "declaration", lambda: _declared(declared))
            if found is not None:
                return found
        if "dataset" in self._configs:
            kind, config = self._classes["dataset"], cast(Any, self._configs["dataset"])
            found = self._ask("dataset", "facts", lambda: _declared(kind.facts(config)))
            if found is not None:
                return found
        latent = _LATENT in self._classes
        if not latent and "model" in given and "shape" in arguments_of(given["model"]):
            return DataSpec(shape=tuple(arguments_of(given["model"])["shape"]))
        return _DEFAULT_DATA

    def _find_latents(self) -> DataSpec:
        """What the model and the trajectory see: latents, of which no range is known, or the
        data.
        """
        config = self._known(_LATENT) if _LATENT in self._classes else None
        if config is None:
            return self._data
        kind, shape = cast(type[Autoencoder], self._classes[_LATENT]), self._data.shape
        latent = self._ask(
            _LATENT,
            "latent_shape",
            lambda: DataSpec(shape=tuple(kind.latent_shape(config, shape))),
        )
        return self._data if latent is None else latent

    def _seen_by(self, field: str) -> DataSpec:
        """The data as this component meets them: as they are, or as latents."""
        of_samples = field in _OF_SAMPLES or (
            field == "metric" and issubclass(self._classes.get(field, object), SampleMetric)
        )
        return self._data if of_samples else self._inner

    def _facts_for(self, field: str) -> dict[str, Any]:
        seen = self._seen_by(field)
        return {**self._facts, _SHAPE: seen.shape, "data.range": seen.range}

    def _consult(self, schedule: NoiseSchedule) -> None:
        """Gather every component's facts, then collect every component's objections."""
        self._facts = {_SHAPE: self._inner.shape, "data.range": self._inner.range}
        found = self._ask("schedule", "log_snr", lambda: schedule_facts(schedule))
        self._facts.update(found or {})
        known = {}
        # The encoder comes before the model, which is supplied with what it gives.
        for field in (_LATENT, *_CREATED):
            config = self._known(field) if field in self._classes else None
            if config is not None:
                known[field] = config
                facts = self._facts_of(field, config)
                self._facts.update({f"{field}.{name}": value for name, value in facts.items()})
        for field, config in known.items():
            self._problems += self._required(field, config)
            shape, seen = getattr(config, "shape", None), self._seen_by(field).shape
            if shape is not None and tuple(shape) != seen:
                whose = "data's" if seen == self._data.shape else "latents'"
                self._problems.append(
                    f"{field}.shape is {list(shape)}, but the {whose} is {list(seen)}; leave it "
                    "out, and it is supplied"
                )
        self._problems += incompatibilities(self._classes, self._facts)
        if self._reading.spec is not None:
            training = self._reading.spec.training
            dropout = training.condition_dropout
            about_null = (
                dropout_problem(dropout, "encoder" in self._classes),
                null_problem(dropout, self._classes.get("guidance")),
            )
            self._problems += [problem for problem in about_null if problem]
            self._problems += training_problems(
                training, _LATENT in self._classes, self._data.shape
            )

    def _facts_of(self, field: str, config: Any) -> dict[str, Any]:
        kind = self._classes[field]
        return self._ask(field, "facts", lambda: dict(kind.facts(config))) or {}

    def _required(self, field: str, config: Any) -> list[str]:
        """What a component says of the others; or why it cannot say, as where it reads files."""
        kind, facts = self._classes[field], self._facts_for(field)
        before = len(self._problems)
        found = self._ask(field, "requires", lambda: list(kind.requires(config, facts))) or []
        failed, self._problems = self._problems[before:], self._problems[:before]
        return [*failed, *(f"{field}: {problem}" for problem in found)]

    def _ask(self, field: str, what: str, question: Callable[[], _Answer]) -> _Answer | None:
        """What a component answers; where it raises, a problem, and None."""
        try:
            return question()
        except DiffkitError as error:
            self._problems.append(f"{field}: {error}")
        except Exception as error:  # noqa: BLE001 - it is its author's code
            self._cause = error
            self._problems.append(f"{field}: its {what} raised {cause_of(error)}; tell its authors")
        return None

    def _agree_on_the_schedule(self) -> None:
        """A process may bring its schedule; it must be the pipeline's."""
        process, schedule = self.instances.get("process"), self.instances.get("schedule")
        held = None if process is None else arguments_of(process).get("schedule")
        if held is None or schedule is None or held is schedule:
            return
        if alike(held, schedule, self.host):
            self.instances["schedule"] = held
            return
        self._problems.append(
            f"process: it holds a schedule of its own, {type(held).__name__}, that is not the "
            "pipeline's; make it with the instance that you give as the schedule, or leave it out"
        )

    def _known(self, field: str) -> Any:
        """The configuration of a component, with what the pipeline supplies of the data."""
        if field in self._reading.given:
            return SimpleNamespace(**arguments_of(self._reading.given[field]))
        config = self._configs.get(field)
        if config is None:
            return None
        values = {name: getattr(config, name) for name in type(config).model_fields}
        for name, source in self._signatures[field].supplied.items():
            if values[name] is None and source == _SHAPE:
                values[name] = self._seen_by(field).shape
            elif values[name] is None and source in FACTS:
                values[name] = self._facts.get(source)
        return SimpleNamespace(**values)

    def _stop_if_wrong(self) -> None:
        if self._problems:
            raise SpecError(dict.fromkeys(self._problems)) from self._cause

    # -- creating ------------------------------------------------------------------------------

    def _create(self, field: str) -> None:
        if field in self.instances or field not in self._configs:
            return
        try:
            self.instances[field] = created(
                self._classes[field],
                self._configs[field],
                self._signatures[field],
                partial(self._supply, field),
                self.host,
            )
        except DiffkitError as error:
            # What is wrong with a nested part, or was said by `requires`, is said already.
            if not self._problems:
                self._problems.append(f"{field}: {error}")
        except Exception as error:  # noqa: BLE001 - it is its author's code, or torch's
            # What torch says of sizes that no memory holds, or no integer; its first line says it.
            self._cause = error
            said = cause_of(error) if not str(error) else str(error).splitlines()[0]
            hint = " (if that is about a size, give it smaller sizes)" if field in _LARGE else ""
            self._problems.append(
                f"{field}: {self._classes[field].__name__} cannot be created with this "
                f"configuration: {said}{hint}"
            )

    def _supply(self, field: str, source: str) -> Any:
        if source == _SHAPE:
            return self._seen_by(field).shape
        if source in FACTS:
            return self._facts.get(source)
        if source not in self.instances:
            raise ComponentError(f"it needs a {source}, which the pipeline does not have")
        return self.instances[source]
