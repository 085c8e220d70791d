"""What `diffkit check` writes for people."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence

from diffkit.testing.check import EXEMPT
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.kit import Outcome
from diffkit.testing.laws import NOT_CHECKED

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}
_INDENT = " " * 9


class Report:
    """The lines for each outcome as it comes; of equal failures only the first is written.

    Args:
        debug: write the traceback of a component's exception.
    """

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        self._subject: ComponentUnderTest | None = None
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._unchecked: Counter[str] = Counter()

    def told(self, outcome: Outcome) -> Iterator[str]:
        """The lines for one more outcome."""
        if outcome.subject != self._subject:
            yield from self.ended()
            self._subject = outcome.subject
            yield f"{outcome.subject.kind} {outcome.subject}"
        explained = tuple(outcome.message.splitlines()[1:])
        if outcome.status == "failed":
            self._seen[explained] += 1
            if self._seen[explained] > 1:
                return
        if outcome.message.startswith(NOT_CHECKED):
            self._unchecked[outcome.message] += 1
        yield f"  {_MARKS[outcome.status]:<7}{outcome.check.law}"
        if outcome.message.startswith(EXEMPT):
            yield f"{_INDENT}{outcome.message}"
        if outcome.status == "failed":
            yield from (f"{_INDENT}{line}" for line in explained)
            if self._debug and outcome.cause is not None:
                text = "".join(traceback.format_exception(outcome.cause))
                yield from (f"{_INDENT}| {line}" for line in text.splitlines())

    def ended(self) -> Iterator[str]:
        """What is left to say of the last component."""
        for explained, count in self._seen.items():
            if count > 1:
                more = "1 more check fails" if count == 2 else f"{count - 1} more checks fail"
                yield f"  FAILED {more} in the same way: {explained[0]}"
        for message, count in self._unchecked.items():
            laws = "1 law was" if count == 1 else f"{count} laws were"
            yield f"  -      {laws} {message}"
        self._seen.clear()
        self._unchecked.clear()


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many passed, in one line."""
    count = Counter(outcome.status for outcome in outcomes)
    components = len({(o.subject.kind, str(o.subject)) for o in outcomes})
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"\n{components} checked: {count['passed']} passed, {count['failed']} failed, "
        f"{count['skipped']} not applicable, in {seconds:.1f} s"
    )
