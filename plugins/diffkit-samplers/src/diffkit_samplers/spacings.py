"""Spacings between t = 1 and the schedule's smallest time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, final

import torch
from annotated_types import Gt
from torch import Tensor

from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.errors import ComponentError
from diffkit_samplers._arguments import positive

if TYPE_CHECKING:
    from jaxtyping import Float64

Path = Callable[["Float64[Tensor, ' n']", float, float], "Float64[Tensor, ' n']"]
"""Times at shares of the way, from 0 to 1, between a first and a last time."""


@final
class Quadratic(Spacing):
    """`t_i = (1 + i/(S-1) (sqrt(t_min) - 1))^2`, i = 0..S-1, and then 0.

    Song et al. (2021), DDIM, section D.2, space times so for their smaller images, there from a
    time below 1; here the trajectory starts at t = 1, where the prior is. On a discrete schedule,
    times are rounded to its grid; those that would meet on one grid time move apart.
    """

    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times from 1 to 0. Raises ComponentError for impossible `steps`."""

        def path(share: Tensor, first: float, last: float) -> Tensor:
            return torch.square(first**0.5 + share * (last**0.5 - first**0.5))

        return _spaced("quadratic", steps, schedule, path, 1.0)


@final
class UniformLogSNR(Spacing):
    """Even steps in log-SNR from t = 1 to the schedule's smallest time, and then 0.

    Lu et al. (2022), DPM-Solver, section 3.4. With zero terminal SNR the trajectory starts at t =
    1, and even steps begin at `1 - t_min`, the last grid time but one of a discrete schedule; of
    two steps, the one time between is halfway from there to the smallest. On a grid, times are
    rounded to it; those that would meet on one grid time move apart.
    """

    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times from 1 to 0. Raises ComponentError for impossible `steps`."""

        def path(share: Tensor, first: float, last: float) -> Tensor:
            ends = schedule.log_snr(first), schedule.log_snr(last)
            return _times_at(schedule, torch.lerp(*ends, share), first, last)

        return _spaced("uniform-log-snr", steps, schedule, path, _noisiest_finite(schedule))


@final
class Karras(Spacing):
    """`sigma'_i = (sigma'_max^(1/rho) + i/(S-1) (sigma'_min^(1/rho) - sigma'_max^(1/rho)))^rho`.

    `sigma' = sigma / alpha = exp(-log_snr / 2)`, i = 0..S-1, and then t = 0. Karras et al. (2022),
    EDM, eq. 5. With zero terminal SNR the trajectory starts at t = 1, and `sigma'_max` is that at
    `1 - t_min`, the last grid time but one of a discrete schedule; of two steps, the one time
    between is halfway from there to the smallest. On a grid, times are rounded to it; those that
    would meet on one grid time move apart.

    Args:
        rho: how much shorter steps become towards the data; 1 makes them even in `sigma'`.
    """

    def __init__(self, *, rho: Annotated[float, Gt(0)] = 7.0) -> None:
        self._rho = positive("samplers.karras", "rho", rho)

    def times(self, steps: int, schedule: NoiseSchedule) -> tuple[float, ...]:
        """`steps + 1` times from 1 to 0. Raises ComponentError for impossible `steps`."""

        def path(share: Tensor, first: float, last: float) -> Tensor:
            # log_snr = -2 log sigma', so sigma'^(1/rho) = exp(-log_snr / (2 rho)); the largest,
            # at the first time, is factored out, or it would overflow for a small rho.
            at_first, at_last = schedule.log_snr(first), schedule.log_snr(last)
            fall = torch.expm1((at_first - at_last) / 2 / self._rho)
            log_snr = at_first - 2 * (self._rho * torch.log1p(share * fall))
            return _times_at(schedule, log_snr, first, last)

        return _spaced("karras", steps, schedule, path, _noisiest_finite(schedule))


def _noisiest_finite(schedule: NoiseSchedule) -> float:
    return 1.0 if bool(torch.isfinite(schedule.log_snr(1.0))) else 1.0 - schedule.t_min


def _times_at(schedule: NoiseSchedule, log_snr: Tensor, first: float, last: float) -> Tensor:
    # Rounding must not leave the schedule's range.
    inside = log_snr.clamp(schedule.log_snr(first), schedule.log_snr(last))
    return schedule.time_at(inside).clamp(last, first)


def _spaced(
    name: str, steps: int, schedule: NoiseSchedule, path: Path, first: float
) -> tuple[float, ...]:
    """The time 1, then the times along the path from `first` to the smallest time, then 0."""
    grid = schedule.steps
    if steps < 1 or (grid is not None and steps > grid):
        most = "" if grid is None else f" and at most {grid}, the schedule's number of steps"
        raise ComponentError(f"{name}: steps must be at least 1{most}, not {steps}")
    if steps == 1:
        return (1.0, 0.0)
    count = steps if first == 1.0 else steps - 1
    share = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    # A single time between zero terminal SNR and the data lies halfway.
    inner = path(share if count > 1 else torch.full_like(share, 0.5), first, schedule.t_min)
    times = [*([] if first == 1.0 else [1.0]), *inner.tolist(), 0.0]
    times[0] = 1.0
    if count > 1:
        times[-2] = schedule.t_min
    if grid is not None:
        return _on_grid(times[:-1], grid)
    if not all(t > s for t, s in pairwise(times)):
        raise ComponentError(
            f"{name}: {steps} steps are too many for this schedule: neighbouring times are equal "
            "in float64; take fewer steps"
        )
    return tuple(times)


def _on_grid(times: list[float], grid: int) -> tuple[float, ...]:
    """The nearest grid times that are all different, and then 0."""
    indices = [round(t * grid) for t in times]
    least = 1
    for i in reversed(range(len(indices))):
        indices[i] = max(indices[i], least)
        least = indices[i] + 1
    most = grid
    for i in range(len(indices)):
        indices[i] = min(indices[i], most)
        most = indices[i] - 1
    return (*(k / grid for k in indices), 0.0)
