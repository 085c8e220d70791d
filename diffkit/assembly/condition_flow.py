"""Which conditions there are, and who takes them: matched before anything large is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from diffkit.core.component import Component, Facts
from diffkit.core.data import Conditions
from diffkit.core.encoder import MASK, TOKENS, VECTOR, gives_of
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Loss
from diffkit.core.process import ForwardProcess

ADDED = "training.adds"
"""The fact that has the shapes of the conditions that augmentations add, by name."""
Dropout = float | Mapping[str, float] | None
"""How often conditions are dropped: `training.condition_dropout`."""


@dataclass(frozen=True)
class ConditionFlow:
    """The names of conditions, on their way from the dataset to who reads them."""

    declared: Conditions | None = None
    """What the dataset gives; None where it does not say."""
    added: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What augmentations add in training, with its shape; zeros in sampling."""
    encoder: tuple[str, ...] | None = None
    """What the encoder takes; None without one."""
    encoded: tuple[str, ...] = ()
    """What it gives."""
    model: tuple[str, ...] = ()
    """What the model takes."""
    null: Mapping[str, float] = field(default_factory=dict)
    """What fills a condition that the model has as it was given, where it stands for none."""

    @property
    def passed(self) -> tuple[str, ...]:
        """What comes to the model as it was given."""
        return tuple(name for name in self.model if name not in self.encoded)

    @property
    def taken(self) -> tuple[str, ...]:
        """What the network is given of a sample: what the encoder takes, and what passes."""
        own = (name for name in self.passed if name not in self.added)
        return tuple(dict.fromkeys((*(self.encoder or ()), *own)))

    @property
    def droppable(self) -> tuple[str, ...]:
        """What of that has something that stands for none."""
        return tuple(n for n in self.taken if n in (self.encoder or ()) or n in self.null)

    @property
    def offered(self) -> tuple[str, ...] | None:
        """What there is in training; None where the dataset does not say."""
        return None if self.declared is None else (*self.declared, *self.added)


def flow_of(facts: Facts) -> ConditionFlow:
    """The conditions of a pipeline with these facts."""
    encoder = facts.get("encoder.takes")
    own = {name.removeprefix("encoder."): f for name, f in facts.items() if name[:8] == "encoder."}
    model = tuple(facts.get("model.conditions", ()))
    encoded = () if encoder is None else gives_of(own)
    passed = [name for name in model if name not in encoded]
    null = dict(facts.get("model.null") or {})
    return ConditionFlow(
        declared=facts.get("dataset.conditions"),
        added=dict(facts.get(ADDED, {})),
        encoder=None if encoder is None else tuple(encoder),
        encoded=encoded,
        model=model,
        null={name: null[name] for name in passed if name in null},
    )


def flow_problems(flow: ConditionFlow, made: Mapping[str, Component]) -> Iterator[str]:
    """What is taken and not given, and what is given twice.

    `made` has the process, the loss and the guidance, which say what they take.
    """
    yield from _given_twice(flow)
    wanted = takers(flow, made.get("process"), made.get("loss"))
    if problem := missing_problem(wanted, flow):
        yield problem
    if untold := sorted(flow.added.keys() - set(flow.model)):
        yield (
            f"training.augmentations: they add the conditions {', '.join(untold)}, which the model "
            "does not take, so that samples would show what was done to data; take a model that "
            "does, or another augmentation"
        )
    if flow.encoder is not None and flow.model and not set(flow.model) & set(flow.encoded):
        yield (
            f"encoder: it gives {_names(flow.encoded)}, and the model takes {_names(flow.model)}, "
            "so that nothing of what is encoded would reach it; change one of them, or leave the "
            "encoder out"
        )
    elif flow.encoder is not None and not flow.model:
        yield (
            "encoder: the model takes no conditions, so that nothing of what is encoded would "
            "reach it; take a model that does, such as unet, or leave the encoder out"
        )
    if problem := guidance_problem(flow, made.get("guidance")):
        yield problem


def takers(
    flow: ConditionFlow, process: Component | None, loss: Component | None
) -> dict[str, list[str]]:
    """Who takes each condition of the data in training."""
    found: dict[str, list[str]] = {}

    def add(who: str, names: Iterable[str]) -> None:
        for name in names:
            found.setdefault(name, []).append(who)

    add("the model", flow.passed)
    add("the encoder", flow.encoder or ())
    if isinstance(process, ForwardProcess):
        add("the process", process.takes)
    if isinstance(loss, Loss):
        add("the loss", loss.takes)
    return found


def missing_problem(
    wanted: Mapping[str, list[str]], flow: ConditionFlow, offered: Iterable[str] | None = None
) -> str | None:
    """What is taken and nobody gives; None where nothing is, or nobody knows yet."""
    there = flow.offered if offered is None else (*offered, *flow.added)
    if there is None:
        # An encoder is what these names are for: nothing else is expected to give them.
        usual = {VECTOR, TOKENS, MASK} if flow.encoder is not None else set()
        missing, data = [name for name in wanted if name in usual], "nothing that it declares"
    else:
        # An encoder prepares what the dataset gives, before anything is added.
        own = set(there) - set(flow.added)
        missing = [n for n in wanted if n not in (own if n in (flow.encoder or ()) else there)]
        data = _names(own)
    if not missing:
        return None
    who = "; ".join(_take(wanted[name], name) for name in missing)
    encoder = "" if flow.encoder is None else f", and the encoder gives {_names(flow.encoded)}"
    return (
        f"conditions: {who}; the dataset gives {data}{encoder}; configure the dataset so that it "
        "does, name an augmentation that does in training.augmentations, or change what takes them"
    )


def _take(who: list[str], name: str) -> str:
    return f"{' and '.join(who)} {'take' if len(who) > 1 else 'takes'} {name}"


def _given_twice(flow: ConditionFlow) -> Iterator[str]:
    declared, encoder = set(flow.declared or ()), set(flow.encoder or ())
    for name in flow.model:
        if name in flow.encoded and name in declared - encoder:
            yield (
                f"conditions: the model takes {name}, which both the dataset and the encoder give; "
                "rename one of them (the encoder 'renamed' does), so that one is meant"
            )
    for name in flow.added:
        if name in declared:
            yield (
                f"conditions: {name} is given by the dataset and by what changes its batches; "
                "rename one of them"
            )


def guidance_problem(flow: ConditionFlow, guidance: Component | None) -> str | None:
    """Why guidance cannot ask a network without a condition; None where it can."""
    if not isinstance(guidance, Guidance) or not guidance.needs_null:
        return None
    name = type(guidance).__name__
    if not flow.taken:
        return (
            f"guidance: {name} also asks the model without a condition, and this one takes none; "
            "take a model or an encoder that does, or leave the guidance out"
        )
    without = [n for n in flow.taken if n not in flow.droppable]
    if not without:
        return None
    return (
        f"guidance: {name} also asks the model without a condition, and nobody knows what stands "
        f"for no {', '.join(without)}; set encoder, let the model declare it in its fact `null`, "
        "or leave the guidance out"
    )


def dropout_problem(wanted: Dropout, flow: ConditionFlow) -> str | None:
    """Why conditions cannot be dropped so often; None where they can."""
    if not wanted:
        return None
    if isinstance(wanted, Mapping):
        if unknown := [name for name in wanted if name not in flow.droppable]:
            return (
                f"training.condition_dropout names {', '.join(unknown)}; those that are taken, and "
                f"that something stands for the lack of, are {_names(flow.droppable)}"
            )
        return None
    if flow.droppable:
        return None
    return (
        f"training.condition_dropout is {wanted}, and nobody knows what stands for no condition; "
        "set encoder, let the model declare it in its fact `null`, or leave condition_dropout out"
    )


def null_problem(wanted: Dropout, guidance: Component | None, flow: ConditionFlow) -> str | None:
    """Why guidance cannot ask a network that was trained so without a condition; None: it can."""
    if not isinstance(guidance, Guidance) or not guidance.needs_null or wanted is None:
        return None
    if isinstance(wanted, Mapping):
        never = [name for name in flow.droppable if not wanted.get(name)]
        which = f"training.condition_dropout drops no {', '.join(never)}" if never else ""
    else:
        which = "" if wanted else "training.condition_dropout is 0"
    if not which:
        return None
    return (
        f"guidance: {type(guidance).__name__} also asks the model without a condition, and it is "
        f"never trained so where {which}; leave that out (0.1), or the guidance"
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
