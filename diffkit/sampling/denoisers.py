"""The denoiser of a trajectory: the network, guided towards its condition and clipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffkit.assembly.conditions import SampleConditions, encoded_in_place, null_of, rows_of
from diffkit.assembly.system import System
from diffkit.config.spec import ClipSpec
from diffkit.core.clipping import Clipping
from diffkit.core.denoiser import DataRange, Denoiser, Times
from diffkit.core.gaussian_denoiser import GaussianDenoiser, Preconditioning
from diffkit.core.guidance import Conditioning, Guidance
from diffkit.core.model import Condition, Network
from diffkit.core.prediction import Prediction
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError, SpecError


@dataclass(frozen=True)
class Denoisers:
    """Makes the denoisers of a sampling run, one for the rows of each batch."""

    system: System
    process: ForwardProcess
    network: Network
    guidance: Guidance | None
    clipping: Clipping | None

    def preconditioning_table(self, times: Sequence[float]) -> Mapping[float, Preconditioning]:
        """The network's preconditioning at the times of a trajectory."""
        parts = self.system.parts
        trained, sampled = parts.process, self.process
        if not isinstance(trained, GaussianProcess) or not isinstance(sampled, GaussianProcess):
            return {}
        denoiser = GaussianDenoiser(parts.model, parts.parameterization, trained, sampled)
        return denoiser.preconditioning_table(times)

    def make(
        self,
        table: Mapping[float, Preconditioning],
        rows: SampleConditions,
        inputs: Mapping[str, Tensor],
    ) -> Denoiser:
        """The denoiser of these rows of conditions, started with these inputs."""
        prepared = rows.model

        def make_denoiser(condition: Condition) -> Denoiser:
            # Started here too, so that guidance which knows nothing of that loses nothing.
            found = self.system.denoiser(self.process, condition, self.network, table)
            found = found.start(_as_often(inputs, condition))
            return found if early is None else early.of(found)

        first = self.clipping is not None and self.clipping.before_guidance
        early, late = (self.clipping, None) if first else (None, self.clipping)
        encoded = self.system.encoded(prepared)
        if self.guidance is None:
            found = make_denoiser(encoded)
        else:
            conditioning = Conditioning(
                encoded,
                _null(self.system, prepared),
                {**rows.raw, **prepared},
                self.system.parts.encoder,
                lambda raw: encoded_in_place(raw, prepared, self.system, self.system.device),
            )
            found = self.guidance.guide(make_denoiser, conditioning).start(inputs)
        return found if late is None else late.of(found)


class BatchDenoiser(Denoiser):
    """A denoiser for batches of any size: for each it is made with as many rows of its conditions.

    Args:
        make: the denoiser for so many samples.
        shape: of one sample.
        count: how many it is made for at first.
    """

    def __init__(
        self, make: Callable[[int], Denoiser], shape: tuple[int, ...], count: int = 1
    ) -> None:
        self._make, self._shape = make, shape
        self._made: tuple[int, Denoiser] = (count, make(count))

    @property
    def process(self) -> ForwardProcess:
        """That of each."""
        return self._made[1].process

    @property
    def data_range(self) -> DataRange | None:
        """That of each."""
        return self._made[1].data_range

    def check_times(self, times: Sequence[float]) -> None:
        """Raise ComponentError where each does."""
        self._made[1].check_times(times)

    def start(self, inputs: Mapping[str, Tensor]) -> Denoiser:
        """Each, started for one trajectory."""
        return BatchDenoiser(
            lambda count: self._make(count).start(inputs), self._shape, self._made[0]
        )

    def __call__(
        self, x_t: Tensor, t: Time, *, given: Condition | None = None, times: Times | None = None
    ) -> Prediction:
        """The prediction of the one for as many samples; the last one is kept.

        Raises ComponentError for samples of another shape.
        """
        if tuple(x_t.shape[1:]) != self._shape:
            raise ComponentError(
                f"x_t has the shape {list(x_t.shape)}, and samples here have "
                f"{['b', *self._shape]}".replace("'", "")
            )
        if self._made[0] != len(x_t):
            self._made = (len(x_t), self._make(len(x_t)))
        return self._made[1](x_t, t, given=given, times=times)


def _as_often(inputs: Mapping[str, Tensor], condition: Condition) -> Mapping[str, Tensor]:
    """The inputs for as many samples as the condition has rows: a batch may hold each in turn."""
    count = max((len(value) for value in condition.values()), default=0)
    return {
        name: torch.cat([value] * (count // len(value))) if count > len(value) > 0 else value
        for name, value in inputs.items()
    }


def _null(system: System, rows: Condition) -> Condition:
    """What stands for no condition, encoded, for as many samples as these rows."""
    if not rows:
        return {}
    some, encoder, flow = next(iter(rows.values())), system.parts.encoder, system.parts.flow
    told = {} if encoder is None else encoder.null(1)
    null = {name: value.to(some.device) for name, value in told.items()}
    null |= {name: null_of(name, rows[name][:1], flow) for name in flow.passed if name in flow.null}
    null |= {name: torch.zeros_like(rows[name][:1]) for name in flow.added}
    return rows_of(system.encoded(null), len(some))


def clipping_of(
    chosen: bool | ClipSpec | None,
    of_spec: bool | ClipSpec,
    system: System,
    process: ForwardProcess,
) -> Clipping | None:
    """How predictions are clipped; None where they are not.

    The spec's `clip` is of data that have a range, and of Gaussian processes. Raises SpecError
    where clipping was asked for and there is none.
    """
    data_range = system.parts.data_range
    wanted = of_spec if chosen is None else chosen
    if not wanted:
        return None
    if data_range is not None and isinstance(process, GaussianProcess):
        how = wanted if isinstance(wanted, ClipSpec) else ClipSpec()
        return Clipping(data_range, how.dynamic, how.before_guidance)
    if not chosen:
        return None
    if system.parts.latents is not None:
        why = "the samples are latents, which have no range; what they decode to is clipped anyway"
    elif data_range is None:
        why = "the data declare no range to clip to; set data.range"
    else:
        why = f"{type(process).__name__} is no Gaussian process"
    raise SpecError([f"clip is true, and {why}; or leave clip out"])
