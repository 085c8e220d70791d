"""Schedules, processes and exact solutions that the tests share."""

from __future__ import annotations

import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError
from diffkit.functional.gaussian import Scales
from diffkit_samplers.ddim import DDIM
from diffkit_samplers.dpmpp_2m import DPMpp2M
from diffkit_samplers.dpmpp_2m_sde import DPMpp2MSDE
from diffkit_samplers.dpmpp_3m import DPMpp3M
from diffkit_samplers.euler import Euler
from diffkit_samplers.euler_ancestral import EulerAncestral
from diffkit_samplers.heun import Heun
from diffkit_samplers.ode import ODE
from diffkit_samplers.plms import PLMS
from diffkit_samplers.unipc import UniPC

DETERMINISTIC = {
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "dpmpp-2m": DPMpp2M(),
    "dpmpp-3m": DPMpp3M(),
    "dpmpp-2m-sde, eta 0": DPMpp2MSDE(eta=0.0),
    "plms": PLMS(),
    **{
        f"unipc {p} {variant} {corrector}": UniPC(p=p, variant=variant, corrector=corrector)
        for p in (1, 2, 3)
        for variant in ("bh1", "bh2")
        for corrector in (True, False)
    },
}
STOCHASTIC = {
    "ddim, eta 0.5": DDIM(eta=0.5),
    "ddim, eta 1": DDIM(eta=1.0),
    "euler-ancestral": EulerAncestral(),
    "dpmpp-2m-sde": DPMpp2MSDE(),
    "dpmpp-2m-sde, eta 0.3": DPMpp2MSDE(eta=0.3),
    "euler, churn": Euler(churn=2.0),
    "heun, churn": Heun(churn=2.0),
}
TIGHT = ODE(rtol=1e-9, atol=1e-9)


class LogLinear(NoiseSchedule):
    """log-SNR linear in t between finite ends, and a jump to clean data at 0."""

    t_min = 1e-3

    def __init__(self, *, first: float = 8.0, last: float = -6.0) -> None:
        self.first, self.last = first, last

    def log_snr(self, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        line = self.first + t * (self.last - self.first)
        return torch.where(t == 0, torch.inf, line)

    def time_at(self, log_snr):
        t = (log_snr - self.first) / (self.last - self.first)
        if bool((t > 1 + 1e-12).any()) or bool((t < -1e-12).any()):
            raise ComponentError("LogLinear: outside its range")
        return t.clamp(0, 1)


class ContinuousCosine(NoiseSchedule):
    """log-SNR -2 log tan(pi t / 2): zero terminal SNR, exactly. Hoogeboom et al. (2023), eq. 2."""

    t_min = 1e-3

    def log_snr(self, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        inside = -2 * torch.tan(torch.pi * t / 2).log()
        return torch.where(t == 1, -torch.inf, inside)

    def time_at(self, log_snr):
        return torch.atan(torch.exp(-log_snr / 2)) * 2 / torch.pi


class ZeroTerminal(NoiseSchedule):
    """Forty steps, whose last leaves no signal."""

    steps, t_min = 40, 1 / 40

    def log_snr(self, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        signal = (1 - t).square() * torch.where(t > 0, 1 - 1e-4, 1.0)
        return signal.log() - (1 - signal).log()

    def time_at(self, log_snr):
        kept = torch.sigmoid(log_snr)
        return 1 - (kept / (1 - 1e-4)).sqrt()


class _Toy(GaussianProcess):
    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def prior(self, shape, noise, condition=None):
        return self.scales(self.log_snr(1.0)).sigma * noise.normal(shape)


class VarianceExploding(_Toy):
    def scales(self, log_snr):
        return Scales(torch.ones_like(log_snr), torch.exp(-log_snr / 2))


class RectifiedFlow(_Toy):
    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2))


CURVES = [VariancePreserving, VarianceExploding, RectifiedFlow]


class GivenNoise(Noise):
    """Draw j is row j of a list, or the same row at every draw; it counts."""

    def __init__(self, rows=None):
        self.rows, self.draws = rows, 0

    def normal(self, shape):
        self.draws += 1
        if self.rows is None:
            raise AssertionError("a deterministic sampler drew noise")
        row = self.rows[self.draws - 1] if isinstance(self.rows, list) else self.rows
        return row.expand(*shape)

    def uniform(self, shape):
        raise AssertionError("samplers draw normal numbers only")


class Counting(Denoiser):
    """Counts calls, notes times, and may declare a range."""

    def __init__(self, inner, data_range=None):
        self.inner, self.range, self.times = inner, data_range, []

    @property
    def process(self):
        return self.inner.process

    @property
    def data_range(self):
        return self.range

    def __call__(self, x_t, t, *, given=None, times=None):
        self.times.append(t)
        return self.inner(x_t, t)


def even(schedule, steps, end=0.05):
    """Times from 1 to `end`, even in log-SNR."""
    ends = float(schedule.log_snr(1.0)), float(schedule.log_snr(end))
    inner = schedule.time_at(torch.linspace(*ends, steps + 1, dtype=torch.float64)).tolist()
    return (1.0, *inner[1:-1], end)


def end_of(sampler, denoiser, x, times, noise=None):
    *_, last = sampler.trajectory(denoiser, x, times, noise or GivenNoise(), {})
    assert last.t == times[-1]
    return last.x


def marginal(process, t, mean, variance):
    """Mean and standard deviation of x_t, for data N(mean, variance)."""
    alpha, sigma = process.scales(process.log_snr(t))
    return alpha * mean, (alpha.square() * variance + sigma.square()).sqrt()


def carried(process, x, t, s, mean, variance):
    """The probability flow from t to s, exactly, for data N(mean, variance)."""
    (mean_t, std_t), (mean_s, std_s) = (marginal(process, u, mean, variance) for u in (t, s))
    return mean_s + std_s / std_t * (x - mean_t)


def moments(sampler, denoiser, times, mean, variance):
    """Mean and variance at the end of a trajectory from N(mean, variance), exactly.

    Where the denoiser is affine, the end of the trajectory is affine in the start and in every
    noise
    drawn: one batch with a row for each tells all coefficients.
    """
    probes = 2 * len(times)
    x = torch.zeros(probes + 2, 1, dtype=torch.float64)
    x[1] = 1.0
    draws = [torch.zeros_like(x) for _ in range(probes)]
    for j, draw in enumerate(draws):
        draw[2 + j] = 1.0
    end = end_of(sampler, denoiser, x, times, GivenNoise(draws)).flatten()
    offset, slope, on_noise = end[0], end[1] - end[0], end[2:] - end[0]
    ended = slope.square() * variance + on_noise.square().sum()
    return (offset + slope * mean).item(), ended.item()
