"""Adaptive integration with a step size for every sample, by torchode."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Field = Callable[["Float64[Tensor, ' b']", "Float[Tensor, 'b n']"], "Float[Tensor, 'b n']"]
"""The derivative of y: the place of each sample is on the host, y on its device."""

_MISSING = "it needs the package torchode; pip install 'diffkit-samplers[ode]'"
_MAX_STEPS = 1000
_TRIALS = 100
"""The first step is tried at this part of the way; the right size is found within a few."""


def solver_missing() -> Iterable[str]:
    """The problem of an environment without the solver; nothing is imported."""
    if importlib.util.find_spec("torchode") is None:
        yield _MISSING


@final
@dataclass(frozen=True)
class Tolerance:
    """What a step may miss, in the name of whom."""

    name: str
    relative: float
    absolute: float
    longest: float
    """The longest step; error estimates of longer ones mean nothing."""


def integrate(
    field: Field, y: Tensor, start: float, stops: Sequence[float], tolerance: Tolerance
) -> Iterator[Tensor]:
    """The values of y at the stops, which follow one another from `start` on, up or down.

    Dormand & Prince (1980), of order 5, with an error estimate of order 4. Every sample has an
    error norm (root mean square over its coordinates) and a step size of its own, so it does not
    depend on its batch. Between the steps of a sample its path is interpolated, of order 4; the
    last stop ends a step. All samples are asked together: as often as the slowest needs.

    The host reads one small tensor a step: which samples accept it, and their next sizes.

    Raises:
        ComponentError: torchode is missing, a thousand steps are not enough, or y is not finite.
    """
    solver = _Solver(field, y, start, stops[-1], tolerance)
    distances = [abs(stop - start) for stop in stops]
    reached = [torch.empty_like(y) for _ in stops[:-1]]
    ready = 0
    while ready < len(reached):
        if distances[ready] <= solver.least:
            yield reached[ready]
            ready += 1
            continue
        solver.step(distances[:-1], reached)
    while not solver.done:
        solver.step(distances[:-1], reached)
    yield solver.y


@final
class _Solver:
    """The state of one integration over the distance from its start, at least 0."""

    def __init__(
        self, field: Field, y: Tensor, start: float, end: float, tolerance: Tolerance
    ) -> None:
        try:
            torchode: Any = importlib.import_module("torchode")
        except ImportError as error:
            raise ComponentError(f"{tolerance.name}: {_MISSING}") from error
        self._tolerance = tolerance
        self._sign, self._length = (1.0 if end >= start else -1.0), abs(end - start)
        self.y = y
        count = y.shape[0]
        self._at = torch.zeros(count, dtype=torch.float64)
        self._size = torch.full_like(self._at, self._length / _TRIALS)
        self._places: Iterator[Tensor] = iter([start + self._sign * self._at])
        self._start = start

        def slope(_: Tensor, y: Tensor) -> Tensor:
            # Where a stage is, is known here already; reading its tensor would stop the device.
            return self._sign * field(next(self._places), y)

        self._term = torchode.ODETerm(slope, with_stats=False)
        self._method = torchode.Dopri5()
        self._control = torchode.IntegralController(
            tolerance.absolute, tolerance.relative, dt_max=tolerance.longest
        )
        zeros = torch.zeros(count, dtype=torch.float64, device=y.device)
        problem = torchode.InitialValueProblem(y, zeros, zeros + self._length)
        order = self._method.convergence_order()
        nothing: dict[str, Any] = {"stats": {}, "args": None}
        _, self._memory, first = self._control.init(
            self._term, problem, order, zeros + self._length / _TRIALS, **nothing
        )
        self._state = self._method.init(self._term, problem, first, **nothing)
        self._running = torch.ones(count, dtype=torch.bool, device=y.device)
        self._taken = 0

    @property
    def least(self) -> float:
        """How far the slowest sample has come."""
        return float(self._at.min())

    @property
    def done(self) -> bool:
        """Whether all samples are at the end."""
        return self.least >= self._length

    def step(self, distances: Sequence[float], reached: Sequence[Tensor]) -> None:
        """Try one step of every sample, and note y at the distances that are passed."""
        self._taken += 1
        if self._taken > _MAX_STEPS:
            raise ComponentError(
                f"{self._tolerance.name}: {_MAX_STEPS} steps did not reach the end; "
                "allow a larger error (rtol, atol), or ask a smoother network"
            )
        nodes = self._method.tableau.c[1:]
        size = torch.minimum(self._size, self._length - self._at)
        inside = (self._at + node * size for node in nodes)
        self._places = iter([self._start + self._sign * place for place in inside])
        device = self.y.device
        at, on_device = (v.to(device, non_blocking=True) for v in (self._at, size))
        nothing: dict[str, Any] = {"stats": {}, "args": None}
        result, path, state, _ = self._method.step(
            self._term, self._running, self.y, at, on_device, self._state, **nothing
        )
        accept, following, memory, status = self._control.adapt_step_size(
            at, on_device, self.y, result, self._memory, {}
        )
        accepted, next_size, wrong = torch.stack(
            [accept.double(), following, status.double()]
        ).cpu()
        if bool(wrong.any()):
            raise ComponentError(
                f"{self._tolerance.name}: the error of a step is not a finite number; the denoiser "
                "gives predictions that are not finite, or that no step size can follow"
            )
        self._memory = memory
        self._state = self._method.merge_states(accept, state, self._state)
        self.y = torch.where(accept[:, None], result.y, self.y)
        before, self._at = self._at, self._arrived(accepted.bool(), size)
        self._size = torch.where(self._at < self._length, next_size, 0.0)
        self._interpolate(self._method.build_interpolation(path), before, distances, reached)

    def _arrived(self, accepted: Tensor, size: Tensor) -> Float64[Tensor, " b"]:
        ends = size >= self._length - self._at
        # The end is met exactly, whatever the sum rounds to.
        return torch.where(accepted, torch.where(ends, self._length, self._at + size), self._at)

    def _interpolate(
        self, path: Any, before: Tensor, distances: Sequence[float], reached: Sequence[Tensor]
    ) -> None:
        device = self.y.device
        for distance, y in zip(distances, reached, strict=True):
            if distance > float(self._at.max()) or distance < float(before.min()):
                continue
            passed = (before <= distance) & (distance <= self._at) & (before < self._at)
            if not bool(passed.any()):
                continue
            rows = passed.nonzero()[:, 0].to(device, non_blocking=True)
            where = torch.full((len(rows),), distance, dtype=torch.float64, device=device)
            y[rows] = path.evaluate(where, rows)
