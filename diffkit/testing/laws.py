"""How a check says what went wrong."""

from __future__ import annotations

from statistics import NormalDist
from unittest import SkipTest

import torch
from torch import Tensor

FALSE_ALARM = 1e-9
"""The probability with which one statistical check fails a component that is right."""


class LawBroken(AssertionError):
    """A law that a component does not keep, with the numbers that show it."""

    def __init__(self, what: str, *, measured: object, expected: object, why: str = "") -> None:
        self.what = what
        self.measured = str(measured)
        self.expected = str(expected)
        self.why = why
        self.subject = ""
        self.law = ""
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"{self.subject}: {self.law}"] if self.law else []
        lines += [self.what, f"  measured: {self.measured}", f"  expected: {self.expected}"]
        if self.why:
            lines.append(f"  because: {self.why}")
        return "\n".join(lines)


class NotApplicable(SkipTest):
    """A law that says nothing about this component. Test runners count it as skipped."""


NOT_CHECKED = "not checked: "
"""Begins the message of a law that could not be measured."""


class NotChecked(NotApplicable):
    """A law that may or may not hold: the kit lacks what it takes to measure it."""

    def __init__(self, lacking: str) -> None:
        super().__init__(f"{NOT_CHECKED}{lacking}")


def require(holds: bool, what: str, *, measured: object, expected: object, why: str = "") -> None:
    """Raise LawBroken unless it holds."""
    if not holds:
        raise LawBroken(what, measured=measured, expected=expected, why=why)


def within(
    what: str,
    measured: Tensor | float,
    expected: Tensor | float,
    tolerance: float,
    why: str,
) -> None:
    """Raise LawBroken where a number is further than `tolerance` from what it should be.

    Shapes must agree; numbers that are not finite must be the same on both sides.
    """
    found = torch.as_tensor(measured).detach().double().cpu()
    wanted = torch.as_tensor(expected).detach().double().cpu()
    require(
        found.shape == wanted.shape or wanted.ndim == 0,
        f"{what}: the shapes differ",
        measured=tuple(found.shape),
        expected=tuple(wanted.shape),
    )
    wanted = wanted.expand(found.shape)
    apart = torch.where(found == wanted, 0.0, (found - wanted).abs()).flatten()
    if apart.numel() == 0:
        return
    # NaN compares false with everything, so it counts as the worst.
    worst = int(torch.where(apart.isnan(), torch.inf, apart).argmax())
    if not bool(apart[worst] <= tolerance):
        place = f" (worst of {apart.numel()} numbers, at position {worst})"
        raise LawBroken(
            what + (place if apart.numel() > 1 else ""),
            measured=f"{found.flatten()[worst].item():.9g}",
            expected=f"{wanted.flatten()[worst].item():.9g} within {tolerance:.3g}",
            why=why,
        )


def normal_limit(comparisons: int = 1, false_alarm: float = FALSE_ALARM) -> float:
    """How many standard errors a right answer stays within, in so many comparisons together.

    The two-sided normal quantile with Bonferroni's correction, so that all of them together
    fail a right component with probability `false_alarm` at most.
    """
    return NormalDist().inv_cdf(1.0 - false_alarm / (2 * comparisons))


def by_chance(sizes: str, comparisons: int = 1) -> str:
    """The reason of a statistical tolerance, in words."""
    return (
        f"{normal_limit(comparisons):.1f} standard errors of {sizes}: a right component fails "
        f"with probability {FALSE_ALARM:g} at most"
    )
