"""Guidance by a worse version of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, final

import torch
from annotated_types import Ge
from torch import Tensor

from diffkit.core.denoiser import Denoiser, Times
from diffkit.core.guidance import Conditioning, Guidance, MakeDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import GaussianProcess
from diffkit.core.run import Run
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError
from diffkit_guidance._leading import Interval, Led, check_interval, gaussian


@final
class Auto(Guidance):
    """Away from what a worse model says of the same condition: `bad + scale (good - bad)`.

    Karras et al. (2024), eq. 3. The worse one is a run of its own, smaller or trained for less, of
    data of the same shape; it may have another parameterization, schedule and process, since it is
    asked at the same noise level, and its answer brought into the terms of the guided one's.

    Args:
        run: the worse run; a spec names its directory. It is read once, when it is first asked.
        scale: how far; 1 is no guidance.
        interval: of the log-SNR, within which to guide; None: everywhere.

    Raises:
        ComponentError: the interval is none; the run is of another shape, or takes other
            conditions, or the same prepared otherwise.
        CheckpointError: there is no run in that directory.
    """

    def __init__(
        self,
        *,
        run: Run,
        scale: Annotated[float, Ge(0)] = 2.0,
        interval: Interval | None = None,
    ) -> None:
        check_interval("auto", interval)
        self._run, self._scale, self._interval = run, scale, interval

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The guided denoiser."""
        good = make_denoiser(conditioning.condition)
        process = good.process
        assert isinstance(process, GaussianProcess)
        self._check_conditions(conditioning)
        bad = self._run.denoiser(conditioning.given, process=process)
        return _Led(good, bad, self._run, self._scale, self._interval)

    def _check_conditions(self, conditioning: Conditioning) -> None:
        """Raise ComponentError where the worse run would read the conditions otherwise."""
        worse = self._run.pipeline.parts
        taken, theirs = worse.taken, worse.encoder
        if not taken:
            return
        if not conditioning.given:
            raise ComponentError(
                f"auto: the run {self._run.directory} takes the conditions {', '.join(taken)}; "
                "give them"
            )
        ours = conditioning.encoder
        if theirs is None or ours is None:
            alike = theirs is ours and conditioning.given.keys() >= set(taken)
        else:
            alike = type(ours) is type(theirs) and _equal(ours.null(1), theirs.null(1))
        if not alike:
            raise ComponentError(
                f"auto: the run {self._run.directory} takes the conditions {', '.join(taken)}, "
                "prepared otherwise than the guided one's; give it an encoder of the same kind, "
                "with the same classes, length or tokenizer"
            )


class _Led(Led):
    def __init__(
        self,
        good: Denoiser,
        bad: Denoiser,
        run: Run,
        scale: float,
        interval: Interval | None,
    ) -> None:
        super().__init__(good, interval, idle=scale == 1.0)
        self._scale, self._bad, self._run = scale, bad, run

    def start(self, inputs: Mapping[str, Tensor]) -> Led:
        good, bad = self.wrapped.start(inputs), self._bad.start(inputs)
        return _Led(good, bad, self._run, self._scale, self._interval)

    def check_times(self, times: Sequence[float]) -> None:
        super().check_times(times)
        asked = [t for t in times if t > 0.0 and bool(self._active(t).any())]
        try:
            self._bad.check_times(asked)
        except ComponentError as error:
            raise ComponentError(f"auto: the run {self._run.directory}: {error}") from error

    def _both(
        self, x_t: Tensor, t: Time, given: Condition, times: Times
    ) -> tuple[GaussianPrediction, Tensor]:
        worse = self._run.pipeline
        shape = worse.parts.shape
        if tuple(x_t.shape[1:]) != tuple(shape):
            raise ComponentError(
                f"auto: the run {self._run.directory} is of data of the shape {list(shape)}, not "
                f"{list(x_t.shape[1:])}; name one of the same data"
            )
        if worse.device != x_t.device:
            worse.to(x_t.device)
        weights = worse.system.parameters()
        dtype = next((weight.dtype for weight in weights), x_t.dtype)
        good = gaussian(self.wrapped(x_t, t, given=given, times=times))
        # A worse network may know less; it is told what it takes.
        known = worse.parts.declared
        told = {name: value for name, value in given.items() if name in known.given}
        second = {name: r for name, r in times.items() if name in known.times}
        bad = gaussian(self._bad(x_t.to(dtype), t, given=told, times=second))
        away = bad.as_target(good.target).to(x_t.dtype)
        return good, torch.lerp(away, good.output, self._scale)


def _equal(one: Condition, other: Condition) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[n].cpu(), other[n].cpu()) for n in one
    )
