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


def question_problems(classes: Mapping[str, type[Component]], facts: Facts) -> Iterable[str]:
    """Names that are given and not taken, or asked for and not given."""
    if "model" not in classes:
        return
    names = {what: tuple(facts.get(f"model.{what}", ())) for what in ("conditions", *_TAKEN)}
    counts = Counter(name for of in names.values() for name in of)
    if twice := [name for name, count in counts.items() if count > 1]:
        yield (
            f"model: {classes['model'].__name__} declares {', '.join(sorted(twice))} twice among "
            "its conditions, given and times, which reach it in one mapping; give each a name of "
            "its own"
        )
    taken = {name for what in _TAKEN for name in names[what]}
    has = set(facts.get("model.extras", ()))
    for kind in _ASKS:
        asks = classes.get(kind)
        if asks is None or not issubclass(asks, Loss | Sampler | Guidance):
            continue
        if unknown := [name for name in asks.gives if name not in taken]:
            yield (
                f"{kind}: {asks.__name__} tells the network {', '.join(unknown)}, and the model "
                f"{classes['model'].__name__} takes {', '.join(sorted(taken)) or 'nothing'} beside "
                "its conditions; use a model whose facts declare it (given, times)"
            )
        if missing := [name for name in asks.extras if name not in has]:
            yield (
                f"{kind}: {asks.__name__} needs {', '.join(missing)} of the network, and the model "
                f"{classes['model'].__name__} gives {', '.join(sorted(has)) or 'nothing'} beside "
                "its output; use a model whose facts declare it (extras)"
            )
