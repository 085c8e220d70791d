"""Distances between distributions of times, and how far chance leads."""

from __future__ import annotations

import math

import torch

from diffkit.core.noise import SampleNoise

FALSE_ALARM = 1e-9


def drawn(times, schedule, count=100_000, seed=0):
    """So many times and weights, as one batch."""
    noise = SampleNoise(seed=seed, indices=[0], dtype=torch.float64)
    return times.draw(noise.uniform((1, count))[0], schedule)


def limit(count, false_alarm=FALSE_ALARM):
    """Massart (1990): the largest distance of an empirical distribution from the true one."""
    return math.sqrt(math.log(2 / false_alarm) / (2 * count))


def distance(t, distribution):
    """Kolmogorov's: the largest difference of `P(T <= t)`, for continuous laws and for others."""
    t = t.sort().values
    # Of equal ones the last has the share of those at or below it; the first of those below.
    upper = torch.searchsorted(t, t, right=True).double() / len(t)
    lower = torch.searchsorted(t, t, right=False).double() / len(t)
    expected, before = distribution(t), distribution(t - 1e-6)
    return float(torch.maximum((upper - expected).abs(), (lower - before).abs()).max())


def on_the_grid(distribution, steps):
    """The distribution of what is snapped up to the next `k / T`."""

    def snapped(t):
        return distribution(((t * steps + 1e-9).floor() / steps).clamp(0, 1))

    return snapped


def esser(location, scale):
    """The integral of Esser et al. (2024), eq. 19: `Phi((logit t - m) / s)`."""
    return lambda t: torch.special.ndtr((torch.logit(t.clamp(0, 1)) - location) / scale)
