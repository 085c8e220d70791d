"""Components that read data: made once they are asked for."""

from __future__ import annotations

from collections.abc import Mapping

from diffkit.assembly.blueprint import raise_if
from diffkit.assembly.build import Assembly, with_others
from diffkit.assembly.choice_facts import filled_in, objections, sources_of
from diffkit.assembly.read import RawChoice
from diffkit.assembly.supply import Made, create
from diffkit.config.spec import COMPONENT_FIELDS
from diffkit.core.component import Component
from diffkit.core.dataset import Dataset
from diffkit.errors import SpecError
from diffkit.plugins.host import Host


class OnDemand:
    """The dataset and the metric that a spec names, kept once they were asked for."""

    def __init__(self) -> None:
        self._made: Made = {}

    def dataset(self, assembly: Assembly) -> Dataset:
        """The dataset. Raises SpecError where the spec names none, or it cannot be made."""
        self._made = create_on_demand(assembly, "dataset", self._made)
        return _dataset_in(self._made)

    def to_measure(
        self, assembly: Assembly, others: Mapping[str, RawChoice | None], host: Host
    ) -> tuple[Component, Dataset]:
        """The metric, and the data to measure on; or others, which are checked and not kept.

        Raises SpecError.
        """
        given = {kind: choice for kind, choice in others.items() if choice is not None}
        made = self._made
        if given:
            assembly = with_others(assembly, given, host)
            # What is supplied with another dataset is another one, too.
            made = {} if "dataset" in given else {k: v for k, v in made.items() if k == "dataset"}
        found = create_on_demand(assembly, "dataset", made)
        found = create_on_demand(assembly, "metric", found)
        if not given:
            self._made = found
        return found["metric"], _dataset_in(found)


def create_on_demand(
    assembly: Assembly, kind: str, made: Made, beneath: tuple[str, ...] = ()
) -> Made:
    """A dataset, a metric or features, with what it is supplied with: `made`, and those.

    `beneath` are those that wait for it. Raises SpecError: it cannot be made.
    """
    found = {**assembly.made, **made}
    if kind in found:
        return found
    choice = assembly.blueprint.choices.get(kind)
    if choice is None:
        raise SpecError([f"the spec names no {kind}; give one to train or eval, or set {kind}"])
    waiting = (*beneath, kind)
    for source in sorted(sources_of(choice) & {*COMPONENT_FIELDS} - {*waiting}):
        found |= create_on_demand(assembly, source, found, waiting)
    facts = assembly.gathered.facts_for(choice)
    config = filled_in(choice, assembly.gathered.seen_by(choice), facts)
    raise_if(objections(choice, config, facts))
    made = dict(found)
    raise_if(create(kind, assembly.blueprint, assembly.gathered, made))
    return made


def _dataset_in(made: Made) -> Dataset:
    dataset = made["dataset"]
    assert isinstance(dataset, Dataset)
    return dataset
