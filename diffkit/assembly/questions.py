"""What comes with a question to the network, and with its answer: who gives it and who takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from diffkit.core.component import Component, Facts
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Loss
from diffkit.core.sampler import Sampler

_ASKS = ("loss", "sampler", "guidance")
_TAKEN = ("given", "times")


def question_problems(
    model: type[Component] | None, facts: Facts, made: Mapping[str, Component]
) -> Iterable[str]:
    """Names that are given and not taken, or asked for and not given.

    `made` has the loss, the sampler and the guidance, which say what they give and need.
    """
    if model is None:
        return
    names = {what: tuple(facts.get(f"model.{what}", ())) for what in ("conditions", *_TAKEN)}
    counts = Counter(name for of in names.values() for name in of)
    if twice := [name for name, count in counts.items() if count > 1]:
        yield (
            f"model: {model.__name__} declares {', '.join(sorted(twice))} twice among "
            "its conditions, given and times, which reach it in one mapping; give each a name of "
            "its own"
        )
    taken = {name for what in _TAKEN for name in names[what]}
    has = set(facts.get("model.extras", ()))
    for kind in _ASKS:
        asks = made.get(kind)
        if not isinstance(asks, Loss | Sampler | Guidance):
            continue
        name = type(asks).__name__
        if unknown := [n for n in asks.gives if n not in taken]:
            yield (
                f"{kind}: {name} tells the network {', '.join(unknown)}, and the model "
                f"{model.__name__} takes {', '.join(sorted(taken)) or 'nothing'} beside "
                "its conditions; use a model whose facts declare it (given, times)"
            )
        if missing := [n for n in asks.extras if n not in has]:
            yield (
                f"{kind}: {name} needs {', '.join(missing)} of the network, and the model "
                f"{model.__name__} gives {', '.join(sorted(has)) or 'nothing'} beside "
                "its output; use a model whose facts declare it (extras)"
            )
