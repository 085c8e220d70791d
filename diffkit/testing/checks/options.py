"""The law that no option of a component is ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffkit.errors import ComponentError, DataError
from diffkit.testing.check import check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NOT_CHECKED, NotApplicable, NotChecked, require
from diffkit.testing.usages import use
from diffkit.testing.variations import variations


@check
def every_option_does_something(subject: ComponentUnderTest) -> None:
    """Every argument of `__init__`, changed alone, changes what the component does."""
    found = [(name, list(configs)) for name, configs in variations(subject)]
    if not found:
        raise NotApplicable("it has no argument with other values to choose from")
    _require_use(subject)
    # Some options matter only beside others: those are tried from the other configurations.
    contexts = [subject.config, *(configs[0] for _, configs in found)]
    idle = [name for name, configs in found if not _has_effect(subject, name, configs, contexts)]
    require(
        not idle,
        "arguments that change nothing",
        measured=", ".join(idle),
        expected="none",
        why="an option must never be ignored silently",
    )


def _require_use(subject: ComponentUnderTest) -> None:
    """Raise NotChecked where nothing can be observed of it, so that no option could show."""
    try:
        use(subject, subject.make())
    except NotApplicable as reason:
        lacking = str(reason).removeprefix(NOT_CHECKED)
        raise NotChecked(f"nothing of it could be observed: {lacking}") from reason


def _has_effect(
    subject: ComponentUnderTest,
    name: str,
    configs: Sequence[Mapping[str, Any]],
    contexts: Sequence[Mapping[str, Any]],
) -> bool:
    """Whether a change of `name` shows in any context; where nothing could be tried, True."""
    tried = False
    for context in contexts:
        base = _outputs(subject, context)
        for config in configs:
            changed = _outputs(subject, {**context, name: config[name]})
            if base is None or changed is None or context.get(name) == config[name]:
                continue
            tried = True
            if not _equal(changed, base):
                return True
    return not tried


def _outputs(subject: ComponentUnderTest, config: Mapping[str, Any]) -> Mapping[str, Tensor] | None:
    """What a component so configured gives; None where it refuses what the schema cannot."""
    try:
        return use(subject, subject.make(config)).outputs
    except (ComponentError, DataError, NotApplicable):
        return None
    except (RuntimeError, ValueError, IndexError):
        # What an example gives is of the form that its own configuration takes.
        if config == subject.config or not subject.fixtures.gives_forms:
            raise
        return None


def _equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(value, wanted[name]) for name, value in found.items()
    )
