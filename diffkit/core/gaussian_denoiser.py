"""The denoiser of a network that was trained under a Gaussian process."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffkit.core.denoiser import (
    DataRange,
    Declared,
    Denoiser,
    Times,
    answer_of,
    per_sample,
)
from diffkit.core.model import Condition, Network
from diffkit.core.parameterization import Parameterization
from diffkit.core.prediction import GaussianPrediction, Target
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time, as_time
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import Number, as_float, as_tensor, broadcast_right
from diffkit.functional.gaussian import Scales

if TYPE_CHECKING:
    from jaxtyping import Float


class Preconditioning(NamedTuple):
    """What goes into a network at one time, and what its output stands for.

    Karras et al. (2022), EDM, eq. 7, has c_in and c_noise; `target` has what c_skip and c_out are
    made of: `output = A x_0 + B epsilon`.
    """

    c_in: Number
    c_noise: Number
    target: Target[Number]
    scales: Scales[Number]
    """Of the process that is sampled from."""


class GaussianDenoiser(Denoiser):
    """A network trained under one Gaussian process, asked about samples of another.

    At sampling time t with log-SNR l it finds the trained time u with the same l, and asks the
    network at `c_in alpha_trained(l)/alpha_sampling(l) x_t` and `c_noise(u, l)`. The rescaled
    sample is exactly a sample of the trained process, since equal l means equal `x_0` and
    `epsilon`, so nothing is approximated.

    With `learned_variance` the second half of the output's channels, -1 to 1, becomes the
    prediction's `variance_fraction`, 0 to 1. Nichol & Dhariwal (2021), eq. 15. A network with a
    `grid` T can be asked at multiples of 1/T only. `declared` are the names of what may come with a
    question. Everything can be differentiated in x_t, and in times `[b]`, in forward mode too.

    Raises:
        ComponentError: it is asked at a noise level that the network was never trained at; or the
            processes have one for each coordinate, and no trained time has these together.
    """

    def __init__(
        self,
        model: Network,
        parameterization: Parameterization,
        trained: GaussianProcess,
        sampling: GaussianProcess | None = None,
        *,
        condition: Condition | None = None,
        data_range: DataRange | None = None,
        table: Mapping[float, Preconditioning] | None = None,
        learned_variance: bool = False,
        grid: int | None = None,
        declared: Declared | None = None,
    ) -> None:
        self._network, self._grid = model, grid
        self._learned_variance = learned_variance
        self._parameterization = parameterization
        self._trained = trained
        self._sampling = trained if sampling is None else sampling
        self._table = table or {}
        self._condition = dict(condition or {})
        self._data_range = data_range
        self._declared = declared or Declared()

    @property
    def process(self) -> GaussianProcess:
        return self._sampling

    @property
    def data_range(self) -> DataRange | None:
        return self._data_range

    def __call__(
        self,
        x_t: Float[Tensor, "b *data"],
        t: Time,
        *,
        given: Condition | None = None,
        times: Times | None = None,
    ) -> GaussianPrediction:
        preconditioning = self._preconditioning(t)
        inside = scaled(preconditioning.c_in, x_t)
        c_noise = per_sample(preconditioning.c_noise, x_t)
        condition = self._condition
        if given or times or self._declared.times:
            condition = {**condition, **self._told(given or {}, times or {}, c_noise, x_t)}
        output, extras = answer_of(self._network(inside, c_noise, condition), x_t)
        self._check(output, x_t)
        output, fraction = output.to(x_t.dtype), None
        if self._learned_variance:
            output, placed = output.chunk(2, dim=1)
            fraction = 0.5 * (placed + 1.0)
        return GaussianPrediction(
            output, x_t, preconditioning.target, preconditioning.scales, fraction, extras=extras
        )

    def _told(
        self, given: Condition, times: Times, c_noise: Tensor, x_t: Tensor
    ) -> dict[str, Tensor]:
        """What comes with a question; a second time as the noise level that the network is told."""
        levels = {name: self._second_level(name, r) for name, r in times.items()}
        return self._declared.told(given, levels, c_noise, x_t)

    def _second_level(self, name: str, r: Time) -> Number:
        """`c_noise` of a second time. Unlike t, it may be 0, where data are."""
        r = as_time(r)
        log_snr, u = self._sampling.log_snr(r), r
        if self._sampling is not self._trained:
            noisy = r > 0.0
            inside = torch.where(noisy, r, 1.0)
            u = torch.where(noisy, self._matched(inside, self._sampling.log_snr(inside)), 0.0)
        c_noise = self._parameterization.c_noise(u, log_snr)
        if c_noise.ndim > r.ndim or not bool(c_noise.isfinite().all()):
            raise ComponentError(
                f"times.{name}: {type(self._parameterization).__name__} tells the network no "
                f"finite number at {_where(r).removeprefix('at ')}; ask at a time with noise, or "
                "use a parameterization that tells it the time, such as 'flow'"
            )
        return as_float(c_noise)

    def _check(self, output: object, x_t: Tensor) -> None:
        """Raise ComponentError for an output that would be broadcast or rounded, or is none."""
        shape = list(x_t.shape)
        if self._learned_variance:
            shape[1] *= 2
        if not isinstance(output, Tensor) or list(output.shape) != shape:
            found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ComponentError(
                f"model: for samples of the shape {list(x_t.shape)} it gives {found}, and should "
                f"give {shape}; twice the channels are for a model that declares learned_variance"
            )
        if not output.is_floating_point():
            found = str(output.dtype).removeprefix("torch.")
            raise ComponentError(f"model: it gives {found}, and should give floating-point numbers")

    def preconditioning_table(self, times: Sequence[float]) -> Mapping[float, Preconditioning]:
        """The network's preconditioning at each of these times, computed in one pass.

        For `table`, of denoisers of the same processes: whoever plans a trajectory knows its
        times. At others, as an adaptive solver chooses them, each question is computed by itself.
        """
        asked = [t for t in times if t != 0.0]
        log_snrs = [level.log_snr for level in self._sampling.levels(asked)]
        each = self._sampling.has_coordinates or self._trained.has_coordinates
        if not asked or each or any(isinstance(log_snr, Tensor) for log_snr in log_snrs):
            return {t: self._preconditioning_at(t) for t in asked}
        log_snr = torch.tensor(log_snrs, dtype=torch.float64)
        at = self._preconditioning_at(torch.tensor(asked, dtype=torch.float64), log_snr)
        columns = (at.c_in, at.c_noise, *at.target, *at.scales)
        if any(as_tensor(column).requires_grad for column in columns):
            return {t: self._preconditioning_at(t) for t in asked}
        lists = (as_tensor(column).expand(len(asked)).tolist() for column in columns)
        return {
            t: Preconditioning(c_in, c_noise, Target(a, b), Scales(alpha, sigma))
            for t, c_in, c_noise, a, b, alpha, sigma in zip(asked, *lists, strict=True)
        }

    def at_times(self, times: Sequence[float]) -> GaussianDenoiser:
        """The same, with its preconditioning at these times computed in one pass."""
        found = copy.copy(self)
        found._table = self.preconditioning_table(times)
        return found

    def _preconditioning(self, t: Time) -> Preconditioning:
        found = None if isinstance(t, Tensor) else self._table.get(t)
        return self._preconditioning_at(t) if found is None else found

    def _preconditioning_at(self, t: Time, log_snr: Tensor | None = None) -> Preconditioning:
        log_snr = self._sampling.log_snr(t) if log_snr is None else log_snr
        trained = self._trained.scales(log_snr)
        sampling = self._sampling.scales(log_snr)
        c_in = self._parameterization.c_in(trained)
        if self._sampling is not self._trained:
            # Equal l makes both ratios equal; take the one whose terms are not vanishing.
            by_alpha, by_sigma = trained.alpha / sampling.alpha, trained.sigma / sampling.sigma
            c_in = c_in * torch.where(log_snr > 0, by_alpha, by_sigma)
        c_noise = self._parameterization.c_noise(self._trained_time(t, log_snr), log_snr)
        if c_noise.ndim > as_time(t).ndim:
            raise ComponentError(
                f"{type(self._parameterization).__name__}: it tells the network one log-SNR a "
                "sample, and the process has one for each coordinate; use a parameterization that "
                "tells it the time, such as 'epsilon' or 'velocity'"
            )
        on_x_0, on_epsilon = self._parameterization.target(trained)
        return Preconditioning(
            as_float(c_in),
            as_float(c_noise),
            Target(as_float(on_x_0), as_float(on_epsilon)),
            Scales(as_float(sampling.alpha), as_float(sampling.sigma)),
        )

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where a trajectory over these times leaves the trained noise levels,
        or the grid that the network can be asked on.
        """
        for t in times:
            if t == 0.0:
                continue
            u = self._trained_time(t, self._sampling.log_snr(t))
            grid = self._grid
            if grid is not None and float((u * grid - (u * grid).round()).abs().max()) > 1e-3:
                where = f"at t = {t:.6g}"
                if self._sampling is not self._trained:
                    where += f", which has the noise level of the trained time {float(u):.6g}"
                raise ComponentError(
                    f"the model is asked {where}, and it can be asked only at multiples of "
                    f"1/{grid}; sample with the schedule that it was trained with, by steps of its "
                    "grid"
                )

    def _trained_time(self, t: Time, log_snr: Tensor) -> Tensor:
        """The trained time with this log-SNR. Raises ComponentError where there is none."""
        schedule = self._trained.schedule
        u = as_time(t) if self._sampling is self._trained else self._matched(t, log_snr)
        # Half a per mille covers grids that agree but for rounding. Times are on the host.
        if u.device.type == "cpu" and bool((u < 0.9995 * schedule.t_min).any()):
            raise ComponentError(
                f"{_unseen(t)}: it has less noise than the smallest trained time, "
                f"{schedule.t_min:.6g} (log-SNR {schedule.log_snr(schedule.t_min).item():.6g}); "
                f"steps that are even in time may be {int(1.0 / schedule.t_min + 1e-9)} at most"
            )
        return u

    def _matched(self, t: Time, log_snr: Tensor) -> Tensor:
        """The trained time at which all coordinates have the log-SNR that they have at `t`."""
        each = log_snr.ndim > as_time(t).ndim
        wanted = self._sampling.schedule.log_snr(t) if each else log_snr
        try:
            u = self._trained.schedule.time_at(wanted)
        except ComponentError as error:
            raise ComponentError(f"{_unseen(t)}: {error}") from error
        found = self._trained.log_snr(u)
        if each or found.ndim > u.ndim:
            _check_coordinates(found, log_snr, t)
        return u


def _check_coordinates(found: Tensor, wanted: Tensor, t: Time) -> None:
    """Raise ComponentError where coordinates have other noise levels than were trained together.

    To rescale each by itself would show the network a sample that no time of the trained process
    has.
    """
    # Inverses of tables are good to 1e-9; a millionth of another level is no rounding.
    alike = torch.isclose(_beside(found, wanted), _beside(wanted, found), rtol=1e-6, atol=1e-6)
    if not bool(alike.all()):
        raise ComponentError(
            "a process with one log-SNR for each coordinate was trained or is sampled from, and no "
            f"trained time has together those of sampling {_where(t)}; sample with the process and "
            "the schedule that the network was trained with"
        )


def _beside(level: Tensor, other: Tensor) -> Tensor:
    """One level a sample, where the other has one for each coordinate too."""
    return level.reshape(-1, *[1] * (other.ndim - 1)) if level.ndim == 1 < other.ndim else level


def scaled(c_in: Number, x_t: Tensor) -> Tensor:
    """`c_in x_t`, or `x_t` itself where the one coefficient is exactly 1."""
    if isinstance(c_in, float) and c_in == 1.0:
        return x_t
    return (broadcast_right(c_in, x_t) * x_t).to(x_t.dtype)


def _where(t: Time) -> str:
    return "at these times" if isinstance(t, Tensor) and t.ndim else f"at t = {float(t):.6g}"


def _unseen(t: Time) -> str:
    return (
        f"the sampling process {_where(t)} has a noise level that the network was never trained "
        "at; sample with a schedule whose log-SNR stays within the trained one's"
    )
