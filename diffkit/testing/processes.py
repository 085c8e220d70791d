"""The Gaussian processes that samplers and losses are tried on: of the class that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.config.signature import signature_of
from diffkit.core.component import arguments_of
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotChecked
from diffkit.testing.reference import UniformLogSNR

Curve = Callable[[NoiseSchedule], GaussianProcess]
"""Makes a process that follows a schedule; the same one where it is asked for the same curve."""


def _vp(schedule: NoiseSchedule) -> GaussianProcess:
    return VariancePreserving(schedule=schedule)


def _ve(schedule: NoiseSchedule) -> GaussianProcess:
    return VarianceExploding(schedule=schedule)


def _flow(schedule: NoiseSchedule) -> GaussianProcess:
    return RectifiedFlow(schedule=schedule)


_BUNDLED: tuple[tuple[type[GaussianProcess], Curve], ...] = (
    (VariancePreserving, _vp),
    (VarianceExploding, _ve),
    (RectifiedFlow, _flow),
)


def curves_for(subject: ComponentUnderTest, wanted: type[ForwardProcess]) -> tuple[Curve, ...]:
    """How to make processes of the class that a component needs: those that come with diffkit.

    Where that class is narrower: the example's, else one that is installed, made by its own spec.
    Raises NotChecked where there is none, or none of which exact answers are known.
    """
    if issubclass(GaussianProcess, wanted):
        return tuple(curve for _, curve in _BUNDLED)
    own = own_process(subject, wanted)
    found: tuple[Curve, ...]
    if own is not None:
        found = (_like(subject, own),)
    else:
        bundled = tuple(curve for kind, curve in _BUNDLED if issubclass(kind, wanted))
        found = bundled or _installed(subject, wanted)
    _require_known(found[0](UniformLogSNR()))
    return found


def own_process(
    subject: ComponentUnderTest, wanted: type[ForwardProcess]
) -> GaussianProcess | None:
    """The example's process, where it is one of a class that is narrower than any Gaussian one.

    Raises NotChecked where it is of the class and not Gaussian, or exact answers are not known.
    """
    if issubclass(GaussianProcess, wanted) or subject.fixtures.process is None:
        return None
    given = subject.fixtures.process()
    if not isinstance(given, wanted):
        raise NotChecked(
            f"it needs a {wanted.__name__}, and its example gives a {type(given).__name__}"
        )
    return _require_known(given)


def gaussian_for(
    subject: ComponentUnderTest, wanted: type[ForwardProcess]
) -> GaussianProcess | None:
    """One of the class that a component needs; None where exact answers are known of none."""
    try:
        own = own_process(subject, wanted)
        return curves_for(subject, wanted)[0](Linear()) if own is None else own
    except NotChecked:
        return None


def without_signal(schedule: NoiseSchedule) -> bool:
    """Whether nothing but noise is left at the end, from which no x_0 follows by an epsilon."""
    return bool(torch.isneginf(schedule.log_snr(1.0)))


def _require_known(process: ForwardProcess) -> GaussianProcess:
    name = type(process).__name__
    if not isinstance(process, GaussianProcess):
        raise NotChecked(f"it needs a {name}, which is not Gaussian: no exact answer is known")
    if process.has_coordinates:
        raise NotChecked(f"of a {name}, with noise levels by coordinate, no exact answer is known")
    if process.takes:
        taken = ", ".join(process.takes)
        raise NotChecked(f"of a {name}, which takes {taken}, no exact answer is known")
    return process


def _like(subject: ComponentUnderTest, process: GaussianProcess) -> Curve:
    """As this process, of another schedule."""
    return _curve(subject, type(process), process)


def _curve(
    subject: ComponentUnderTest, kind: type[ForwardProcess], like: GaussianProcess | None = None
) -> Curve:
    supplied = signature_of(kind, subject.host).supplied
    arguments = {} if like is None else arguments_of(like)
    asked = {name: source for name, source in supplied.items() if arguments.get(name) is None}
    schedules = [name for name, source in supplied.items() if source == "schedule"]
    if not schedules:
        raise NotChecked(f"a {kind.__name__} takes no schedule, so it cannot be given another")

    def make(schedule: NoiseSchedule) -> GaussianProcess:
        others = {name: subject.supply(source) for name, source in asked.items()}
        given = {**arguments, **others, **dict.fromkeys(schedules, schedule)}
        return _require_known(kind(**given))

    return make


def _installed(subject: ComponentUnderTest, wanted: type[ForwardProcess]) -> tuple[Curve, ...]:
    """The first that can be made: the class itself, or one of those that are found by name."""
    reason = NotChecked(
        f"it needs a process of the class {wanted.__name__}, and none of those that are installed "
        "can be made without arguments; give `Example(process=...)`"
    )
    for kind in classes_of(subject, wanted):
        try:
            curve = _curve(subject, kind)
            curve(UniformLogSNR())
        except (ComponentError, TypeError):
            continue
        except NotChecked as known:
            reason = known
            continue
        return (curve,)
    raise reason


def classes_of(
    subject: ComponentUnderTest, wanted: type[ForwardProcess]
) -> Iterator[type[ForwardProcess]]:
    """The class itself, and those of it that are installed."""
    yield wanted
    for entry in subject.host.components("process"):
        try:
            found = subject.host.load(entry)
        except ComponentError:
            continue
        if issubclass(found, wanted) and found is not wanted:
            yield found
