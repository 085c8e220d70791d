"""What several kinds' checks measure with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from diffkit.assembly.facts import schedule_facts
from diffkit.config.signature import signature_of, validated
from diffkit.core.component import Config
from diffkit.core.noise import Noise
from diffkit.core.schedule import NoiseSchedule, Time, as_time
from diffkit.errors import ComponentError
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import FALSE_ALARM, LawBroken, NotApplicable, require, within


def float64(*values: float) -> Tensor:
    """A vector."""
    return torch.tensor(values, dtype=torch.float64)


def relatively(
    what: str, measured: Tensor, expected: Tensor, tolerance: float, why: str, size: float = 0.0
) -> None:
    """As `within`; the tolerance is a share of each expected number, or of `size` if larger."""
    found, wanted = measured.double(), expected.double().expand(measured.shape)
    apart = (found - wanted).abs() / wanted.abs().clamp(min=max(size, 1e-300))
    apart = torch.where(found == wanted, 0.0, torch.where(apart.isnan(), torch.inf, apart))
    worst = int(apart.argmax())
    limit = tolerance * max(abs(float(wanted.flatten()[worst])), size)
    within(what, found.flatten()[worst], wanted.flatten()[worst], limit, why)


def distinct(values: Tensor) -> Tensor:
    """The different ones among the values, ascending."""
    ordered = values.flatten().sort().values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered.diff() > 0
    return ordered[first]


def refused(what: str, call: Callable[..., object], *arguments: object) -> None:
    """Raise LawBroken unless the call with these arguments raises ComponentError."""
    try:
        given = call(*arguments)
    except ComponentError:
        return
    except Exception as error:
        raise LawBroken(
            f"{what} raises the wrong exception",
            measured=f"{type(error).__name__}: {error}",
            expected="a ComponentError that says what is allowed",
        ) from error
    require(False, f"{what} is accepted", measured=f"gives {given}", expected="a ComponentError")


def plain(what: str, result: Tensor, shape: Sequence[int]) -> None:
    """Raise LawBroken unless the result is float64, on the host and of this shape."""
    require(
        result.dtype == torch.float64 and result.device.type == "cpu",
        f"the numbers of {what}",
        measured=f"{result.dtype} on {result.device}",
        expected="torch.float64 on cpu",
        why="noise levels are host numbers in float64, cast once where they meet samples",
    )
    require(
        result.shape == torch.Size(shape),
        f"the shape of {what}",
        measured=tuple(result.shape),
        expected=tuple(shape),
    )


def in_double_precision(what: str, values: Tensor) -> None:
    """Raise LawBroken where most of many different numbers are float32 numbers to 13 digits.

    Of numbers that were computed in float64, one in a million happens to be.
    """
    values = distinct(values[values.isfinite()])
    if values.numel() < 16:
        return
    single = (values.float().double() - values).abs() <= 1e-13 * values.abs()
    share = float(single.double().mean())
    require(
        share < 0.5,
        f"{what}: float64 numbers that are also float32 numbers",
        measured=f"{share:.0%} of {values.numel()}",
        expected="next to none",
        why="they show that it was computed or kept in single precision",
    )


class ImpulseNoise(Noise):
    """Noise that is 0, but for the call with the number `call`, which gives ones."""

    def __init__(self, call: int | None, dtype: torch.dtype = torch.float64) -> None:
        self._call, self._dtype, self.calls = call, dtype, 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Zeros or ones."""
        value = 1.0 if self.calls == self._call else 0.0
        self.calls += 1
        return torch.full(tuple(shape), value, dtype=self._dtype)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Halves; no Gaussian draw needs them."""
        return torch.full(tuple(shape), 0.5, dtype=self._dtype)


class ZeroTerminalSNR(NoiseSchedule):
    """`l(t) = 2 log((1 - t) / t)`: rectified flow's, without signal at t = 1."""

    @property
    def t_min(self) -> float:
        """A thousandth."""
        return 1e-3

    def log_snr(self, t: Time) -> Tensor:
        """From +inf to -inf."""
        t = as_time(t)
        return 2 * (torch.log1p(-t) - torch.log(t))

    def time_at(self, log_snr: Tensor) -> Tensor:
        """Its inverse, for every log-SNR."""
        return torch.sigmoid(-log_snr.double() / 2)


def accepted(
    subject: ComponentUnderTest, schedules: Mapping[str, NoiseSchedule]
) -> Iterator[tuple[str, NoiseSchedule]]:
    """The schedules to which the component's `requires` has no objection.

    Raises:
        NotApplicable: it objects to all of them.
    """
    config, problems = validated(
        signature_of(subject.cls, subject.host), subject.config, subject.entry.id
    )
    if config is None:
        raise ComponentError("; ".join(problems))
    found = False
    for name, schedule in schedules.items():
        if not list(subject.cls.requires(cast(Config, config), schedule_facts(schedule))):
            found = True
            yield name, schedule
    if not found:
        raise NotApplicable("it takes none of the schedules that it is tried with")


def chi_square_limits(count: int, comparisons: int = 1) -> tuple[float, float]:
    """Between which the mean of `count` squared standard normal numbers lies but by chance.

    Laurent & Massart (2000), lemma 1: the tails are below `exp(-x)`, at any count.
    """
    x = math.log(2 * comparisons / FALSE_ALARM)
    return max(0.0, 1 - 2 * math.sqrt(x / count)), 1 + 2 * math.sqrt(x / count) + 2 * x / count
