"""Mistakes that a component of any kind can make."""

from __future__ import annotations

import random
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.core.loss import LossRecord
from diffkit.core.weighting import Weighting
from diffkit.errors import ComponentError
from diffkit.functional.betas import cosine_betas
from diffkit.functional.coefficients import broadcast_right

from .mutant import Mutant


class CannotBeBorn(Weighting):
    def __init__(self, *, power: float = 1.0):
        raise ComponentError("power has to be given")

    def weight(self, log_snr):
        return torch.exp(-log_snr.abs())


class DefaultOutOfRange(Weighting):
    def __init__(self, *, power: Annotated[float, Ge(1)] = 0.5):
        self._power = power

    def weight(self, log_snr):
        return torch.exp(-self._power * log_snr.abs())


class TakesAnything(Weighting):
    def __init__(self, **options):
        self._power = options.get("power", 1.0)

    def weight(self, log_snr):
        return torch.exp(-self._power * log_snr.abs())


class RandomAtBirth(Weighting):
    def __init__(self):
        self._power = random.Random().random()

    def weight(self, log_snr):
        return torch.exp(-self._power * log_snr.abs())


class CountsItsCalls(Weighting):
    def __init__(self):
        self._calls = 0

    def weight(self, log_snr):
        self._calls += 1
        return torch.full_like(log_snr, 1.0 / self._calls)


class ClampsInPlace(Weighting):
    def weight(self, log_snr):
        return log_snr.clamp_(-5, 5).neg().exp()


class DrawsGlobally(Simple):
    def __call__(self, batch, context):
        record = super().__call__(batch, context)
        return LossRecord(record.values * (1 + 0.01 * torch.rand(())), record.t)


class AlwaysSingle(Simple):
    def __call__(self, batch, context):
        record = super().__call__(batch, context)
        return LossRecord(record.values.float(), record.t)


class ScalesInPlace(Simple):
    def __call__(self, batch, context):
        batch.x_0.mul_(broadcast_right(torch.tensor(0.5, dtype=torch.float64), batch.x_0))
        return super().__call__(batch, context)


class OffsetIgnored(Cosine):
    @property
    def betas(self):
        return cosine_betas(self._steps, 0.0, self._largest)


class SharedTable(Cosine):
    """A cache of tables for all instances, which forgets to look at the offset."""

    tables: ClassVar[dict[int, torch.Tensor]] = {}

    @property
    def betas(self):
        return self.tables.setdefault(self._steps, super().betas)


class ExemptFromNothing(Weighting):
    exempt: ClassVar = {"it_is_beautiful": "it was late"}

    def weight(self, log_snr):
        return torch.exp(-log_snr.abs())


class ExemptForNoReason(Weighting):
    exempt: ClassVar = {"every_option_does_something": " "}

    def weight(self, log_snr):
        return torch.exp(-log_snr.abs())


class ExemptFromBeingMade(Weighting):
    exempt: ClassVar = {"it_can_be_made": "it is only an idea"}

    def __init__(self):
        raise ComponentError("not yet")

    def weight(self, log_snr):
        return log_snr


MUTANTS = (
    Mutant(CannotBeBorn, "defaults that cannot be used"),
    Mutant(DefaultOutOfRange, "a default outside its own range"),
    Mutant(TakesAnything, "arguments taken by **options"),
    Mutant(RandomAtBirth, "a random number drawn on creation"),
    Mutant(CountsItsCalls, "hidden state between calls"),
    Mutant(ClampsInPlace, "the input clamped in place"),
    Mutant(DrawsGlobally, "a loss that draws from the global generator"),
    Mutant(AlwaysSingle, "a loss always in float32"),
    Mutant(ScalesInPlace, "the data scaled in place"),
    Mutant(OffsetIgnored, "cosine without its offset"),
    Mutant(ExemptFromNothing, "exempt from a law that there is not"),
    Mutant(ExemptForNoReason, "exempt without a reason"),
    Mutant(ExemptFromBeingMade, "exempt from being made"),
    Mutant(SharedTable, "a cache shared by all configurations"),
)
