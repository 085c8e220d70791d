"""Mistakes of noise schedules."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.schedule import NoiseSchedule, as_time
from diffkit.errors import ComponentError
from diffkit.testing.reference import UniformLogSNR

from .mutant import Mutant


class Learned(nn.Module, NoiseSchedule):
    """A right one, whose two ends are trained."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(8.0, dtype=torch.float64))
        self.fall = nn.Parameter(torch.tensor(16.0, dtype=torch.float64))

    t_min = 1e-3

    def log_snr(self, t):
        t = as_time(t)
        return torch.where(t == 0, torch.inf, self.first - self.fall * t)

    def time_at(self, log_snr):
        t = torch.where(torch.isposinf(log_snr), 0.0, (self.first - log_snr) / self.fall)
        if bool((t > 1 + 1e-12).any()):
            raise ComponentError("learned: no such noisy time")
        return t.clamp(0.0, 1.0)


class Kept(nn.Module, NoiseSchedule):
    """A right one, a module without parameters, around one that is none."""

    def __init__(self):
        super().__init__()
        self._inner = Linear()

    @property
    def steps(self):
        return self._inner.steps

    @property
    def t_min(self):
        return self._inner.t_min

    def log_snr(self, t):
        return self._inner.log_snr(t)

    def time_at(self, log_snr):
        return self._inner.time_at(log_snr)

    def snap(self, t):
        return self._inner.snap(t)


class Retabled(Linear):
    """`betas` as they are, and a table made otherwise."""

    @cached_property
    def _table(self):
        signal = self._signal(self.betas)
        noise = 1 - signal
        return super()._table._replace(
            signal=signal, noise=noise, log_snr=torch.log(signal) - torch.log(noise)
        )


def kept(betas):
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


class TableOffByOne(Retabled):
    def _signal(self, betas):
        return torch.cat([torch.ones(1, dtype=torch.float64), kept(betas)[:-1]])


class WithoutFirstBeta(Retabled):
    def _signal(self, betas):
        return kept(torch.cat([betas[1:], betas[-1:]]))


class AlphaBarInHalf(Retabled):
    def _signal(self, betas):
        return kept(betas).half().double()


class AlphaBarInSingle(Retabled):
    def _signal(self, betas):
        return kept(betas).float().double()


class NotCumulated(Retabled):
    def _signal(self, betas):
        return torch.cat([torch.ones(1, dtype=torch.float64), 1 - betas])


class AlphaBarClipped(Retabled):
    def _signal(self, betas):
        return kept(betas).clamp(min=1e-3)


class BetasInSingle(Linear):
    @property
    def betas(self):
        return super().betas.float()


class TruncatesIndex(Linear):
    def log_snr(self, t):
        return super().log_snr((as_time(t) * self.steps).floor() / self.steps)


class RoundsIndex(Linear):
    def log_snr(self, t):
        return super().log_snr((as_time(t) * self.steps).round() / self.steps)


class TruncatingSnap(Linear):
    def snap(self, t):
        return (t * self.steps).floor().clamp(min=1) / self.steps


class SnapsToZero(Linear):
    def snap(self, t):
        return (t * self.steps).round() / self.steps


class SnapsNowhere(Linear):
    def snap(self, t):
        return t.clamp(min=self.t_min)


class TimeAtOneStepOff(Linear):
    def time_at(self, log_snr):
        return (super().time_at(log_snr) - 1 / self.steps).clamp(min=0)


class TimeAtOnTheGrid(Linear):
    def time_at(self, log_snr):
        return self.snap(super().time_at(log_snr))


class TimeAtClamps(Linear):
    def time_at(self, log_snr):
        return super().time_at(log_snr.clamp(min=self.log_snr(1.0)))


class AlphaOverSigma(Linear):
    def log_snr(self, t):
        return super().log_snr(t) / 2

    def time_at(self, log_snr):
        return super().time_at(2 * log_snr)


class TakesAnyTime(Cosine):
    def log_snr(self, t):
        return super().log_snr(torch.as_tensor(t, dtype=torch.float64).clamp(0, 1))


class Growing(UniformLogSNR):
    def log_snr(self, t):
        return -super().log_snr(t)

    def time_at(self, log_snr):
        return super().time_at(-log_snr)


class Wavy(UniformLogSNR):
    def log_snr(self, t):
        return super().log_snr(t) + 0.5 * torch.sin(40 * as_time(t))


class FiniteAtZero(UniformLogSNR):
    def log_snr(self, t):
        return torch.lerp(*self._ends(as_time(t)), as_time(t))


class EndsInNaN(UniformLogSNR):
    def log_snr(self, t):
        t = as_time(t)
        return super().log_snr(t) + (1 - t).log() * (1 - t).sign()

    def time_at(self, log_snr):
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return low


class ForVectors(UniformLogSNR):
    def log_snr(self, t):
        return torch.atleast_1d(super().log_snr(t))


class InSingle(UniformLogSNR):
    def log_snr(self, t):
        return super().log_snr(t).float()


class TimesInSingle(UniformLogSNR):
    def log_snr(self, t):
        return super().log_snr(as_time(t).float())


class DefaultDtype(UniformLogSNR):
    def log_snr(self, t):
        offset = torch.tensor(0.1).double()
        return super().log_snr(t) + offset

    def time_at(self, log_snr):
        return super().time_at(log_snr - torch.tensor(0.1).double())


class AskedAtZero(UniformLogSNR):
    t_min = 0.0


class TrainedBelowTheGrid(Linear):
    t_min = 1e-5


class TableInABuffer(Kept):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.tensor(1 / 3, dtype=torch.float64))

    def log_snr(self, t):
        return super().log_snr(t) + self.shift.double()

    def time_at(self, log_snr):
        return super().time_at(log_snr - self.shift.double())


class SingleTableInABuffer(Kept):
    def __init__(self):
        super().__init__()
        grid = torch.arange(1001, dtype=torch.float64) / 1000
        self.register_buffer("signal", torch.sigmoid(self._inner.log_snr(grid)).float())

    def log_snr(self, t):
        position = as_time(t) * 1000
        below = position.floor().clamp(max=999).long()
        signal = self.signal.double()
        return torch.logit(torch.lerp(signal[below], signal[below + 1], position - below))


class Detached(Learned):
    def log_snr(self, t):
        return super().log_snr(t).detach()


RIGHT = (Learned, Kept)
MUTANTS = (
    Mutant(TableOffByOne, "the table's row k holds alpha-bar of k - 1"),
    Mutant(WithoutFirstBeta, "betas are cumulated without the first"),
    Mutant(NotCumulated, "1 - beta where their product belongs"),
    Mutant(AlphaBarInHalf, "alpha-bar kept in float16"),
    Mutant(AlphaBarInSingle, "alpha-bar kept in float32"),
    Mutant(AlphaBarClipped, "alpha-bar clipped from below, so that late times are one noise level"),
    Mutant(BetasInSingle, "betas in float32"),
    Mutant(TruncatesIndex, "the index is int(t T)"),
    Mutant(RoundsIndex, "log-SNR in stairs: the index is rounded"),
    Mutant(TruncatingSnap, "snap goes down"),
    Mutant(SnapsToZero, "snap rounds, to t = 0 too"),
    Mutant(SnapsNowhere, "a discrete schedule that snaps to no grid"),
    Mutant(TimeAtOneStepOff, "time_at is one step early"),
    Mutant(TimeAtOnTheGrid, "time_at goes up to the grid"),
    Mutant(TimeAtClamps, "time_at gives 1 for more noise than there is"),
    Mutant(AlphaOverSigma, "log(alpha / sigma) for the log-SNR, half of it"),
    Mutant(TakesAnyTime, "times outside [0, 1] are clamped"),
    Mutant(Growing, "log-SNR grows with t: time runs from noise to data"),
    Mutant(Wavy, "log-SNR that is not monotone"),
    Mutant(FiniteAtZero, "some noise at t = 0"),
    Mutant(EndsInNaN, "0 times log 0 at t = 1"),
    Mutant(ForVectors, "a number's log-SNR is a vector of one"),
    Mutant(InSingle, "log-SNR in float32"),
    Mutant(TimesInSingle, "times rounded to float32 on the way"),
    Mutant(DefaultDtype, "a constant made in torch's default dtype"),
    Mutant(AskedAtZero, "t_min is 0"),
    Mutant(TrainedBelowTheGrid, "t_min below the first grid time"),
    Mutant(TableInABuffer, "numbers of the schedule in a buffer, which .to(bfloat16) rounds"),
    Mutant(SingleTableInABuffer, "alpha-bar as a float32 buffer"),
    Mutant(Detached, "the learned log-SNR is detached"),
)
