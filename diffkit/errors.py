"""What can go wrong that a user can cause. Everything diffkit raises on purpose is a
DiffkitError.
"""

from __future__ import annotations

from collections.abc import Iterable
from signal import Signals

_SHOWN = 50
"""How many problems a message lists; `problems` has them all."""


class DiffkitError(Exception):
    """A mistake that the message explains: what, where, what is allowed, what to do."""


class ComponentError(DiffkitError):
    """A component cannot be found, imported, used as declared, or given these arguments."""


class SpecError(DiffkitError):
    """A spec cannot become a pipeline; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("the spec cannot be built", self.problems))


class DataError(DiffkitError):
    """Data that cannot be read, or that does not fit the pipeline."""


class CheckpointError(DiffkitError):
    """A run directory or one of its files cannot be read or written."""


class TrainingError(DiffkitError):
    """Training cannot go on."""


class TrainingInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came while training, which ended after the update that was under way.

    It is a KeyboardInterrupt, not an error, so that nothing swallows it by accident.
    """

    def __init__(self, signal: Signals, what_remains: str) -> None:
        self.signal = signal
        super().__init__(f"training was ended by {signal.name}. {what_remains}")


def _listed(headline: str, problems: tuple[str, ...]) -> str:
    if len(problems) == 1:
        return f"{headline}: {problems[0]}"
    lines = [f"{headline}, {len(problems)} problems:", *(f"  - {p}" for p in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more")
    return "\n".join(lines)
