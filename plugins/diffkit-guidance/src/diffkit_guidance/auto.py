"""Guidance by a worse version of the model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, final

import torch
from annotated_types import Ge
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.guidance import Ask, Guidance, Told
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError
from diffkit_guidance._leading import Interval, Led, gaussian

if TYPE_CHECKING:
    from diffkit.pipeline import Pipeline


@final
class Auto(Guidance):
    """Away from what a worse model says of the same condition: `bad + scale (good - bad)`.

    Karras et al. (2024), eq. 3. The worse one is a run of its own, smaller or trained for less, of
    data of the same shape; it may have another parameterization, schedule and process, since it is
    asked at the same noise level, and its answer brought into the terms of the guided one's.

    Args:
        run: the directory of the worse run.
        scale: how far; 1 is no guidance.
        interval: of the log-SNR, within which to guide; None: everywhere.

    Raises:
        ComponentError: the run is of another shape, or takes other conditions.
        CheckpointError: there is no run in that directory.
    """

    def __init__(
        self,
        *,
        run: str,
        scale: Annotated[float, Ge(0)] = 2.0,
        interval: Interval | None = None,
    ) -> None:
        self._run, self._scale, self._interval = run, scale, interval

    def guide(self, ask: Ask, told: Told) -> Denoiser:
        """The guided denoiser."""
        good = ask(told.condition)
        worse = _loaded(self._run)
        process = good.process
        assert isinstance(process, GaussianProcess)
        system = worse.average or worse.system
        some = next(iter(told.given.values()), None)
        if some is not None:
            worse.to(some.device)
        taken = worse.parts.taken
        if taken and not told.given:
            raise ComponentError(
                f"auto: the run {self._run} takes the conditions {', '.join(taken)}; give them"
            )
        try:
            bad = system.denoiser(process, system.encoded(told.given) if taken else {})
        except KeyError as error:
            raise ComponentError(
                f"auto: the run {self._run} takes the conditions {', '.join(taken)}, prepared "
                "otherwise than the guided one's; give it an encoder of the same kind"
            ) from error
        dtype = next(system.parameters()).dtype
        return _Led(good, bad, self._scale, self._interval, worse.parts.shape, self._run, dtype)


class _Led(Led):
    def __init__(
        self,
        good: Denoiser,
        bad: Denoiser,
        scale: float,
        interval: Interval | None,
        shape: tuple[int, ...],
        run: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(good, interval, idle=scale == 1.0)
        self._scale, self._bad, self._shape, self._run, self._dtype = scale, bad, shape, run, dtype

    def _both(self, x_t: Tensor, t: Time) -> tuple[GaussianPrediction, Tensor]:
        if tuple(x_t.shape[1:]) != tuple(self._shape):
            raise ComponentError(
                f"auto: the run {self._run} is of data of the shape {list(self._shape)}, not "
                f"{list(x_t.shape[1:])}; name one of the same data"
            )
        good, bad = gaussian(self._plain(x_t, t)), gaussian(self._bad(x_t.to(self._dtype), t))
        away = bad.in_terms_of(good.target).to(x_t.dtype)
        return good, torch.lerp(away, good.output, self._scale)


@lru_cache(maxsize=4)
def _loaded(run: str) -> Pipeline:
    import diffkit

    return diffkit.load(run)
