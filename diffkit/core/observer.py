"""Observer: what is told of a run, and may look on."""

from __future__ import annotations

from typing import Any, ClassVar

import pluggy

from diffkit.core.component import Component

HOOK = "diffkit_"
"""Begins the name of every hook."""
_marked = pluggy.HookimplMarker("diffkit")


class Observer(Component):
    """An observer with a configuration, named in `training.observers`.

    Its methods are the hooks, by their names: `diffkit_run_start(run)`, `diffkit_step(run, step,
    metrics)`, `diffkit_checkpoint(run, step, path)`, `diffkit_log(run, step, name, value)`,
    `diffkit_run_end(run, step)`; each takes the arguments that it wants. One that raises is left
    out from then on, and the run goes on. A spec that names an observer that is not installed is
    read all the same, with a warning.
    """

    kind: ClassVar[str] = "observer"

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for name, value in list(vars(cls).items()):
            if name.startswith(HOOK) and callable(value) and not hasattr(value, "diffkit_impl"):
                setattr(cls, name, _marked(value))
