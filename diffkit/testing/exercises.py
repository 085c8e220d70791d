"""Using a component of any kind once, the same way every time: what went in, what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.processes.gaussian import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import GaussianDenoiser
from diffkit.core.encoder import Encoder
from diffkit.core.guidance import Guidance, Told
from diffkit.core.loss import Batch, Loss, LossContext
from diffkit.core.metric import FeatureExtractor, Metric, ModelMetric, SampleMetric
from diffkit.core.model import EpsilonModel
from diffkit.core.noise import BatchNoise, SampleNoise
from diffkit.core.parameterization import Parameterization
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.core.times import DrawnTimes, TimesState, TrainingTimes
from diffkit.core.weighting import Weighting
from diffkit.errors import ComponentError
from diffkit.testing.conditions import asking, means, raw_conditions
from diffkit.testing.laws import NotApplicable
from diffkit.testing.networks import facts_of
from diffkit.testing.reference import Points, UniformLogSNR
from diffkit.testing.subject import Subject
from diffkit.testing.walks import Watched, mixture, states_of

_COUNT = 4
_LOSSES, _STEP = 30_000, 7919
"""How many losses a law of times is given at once: thirty for each time of a grid of 1000."""


@dataclass
class Exercise:
    """What a component was given, with copies from before, and what it gave back."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    _given: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def give(self, name: str, value: Tensor) -> Tensor:
        """The value, with a copy kept."""
        self._given[name] = (value, value.clone())
        return value

    def changed(self) -> list[str]:
        """The names of the inputs that were written to."""
        return [name for name, (now, then) in self._given.items() if not torch.equal(now, then)]


def exercise(subject: Subject, component: Any, dtype: torch.dtype = torch.float32) -> Exercise:
    """Use a component once. The same component gives the same outputs, whatever was before.

    Raises:
        NotApplicable: it needs something that the kit does not have.
    """
    done = Exercise()
    _EXERCISES[subject.kind](subject, component, done, dtype)
    return done


def _schedule(subject: Subject, schedule: NoiseSchedule, done: Exercise, _: torch.dtype) -> None:
    # To both ends: the clipping of some schedules touches their last step alone.
    t = done.give("t", torch.linspace(0.0, 1.0, 41, dtype=torch.float64)[1:])
    log_snr = done.give("log_snr", schedule.log_snr(t).detach().clone())
    done.outputs["log_snr"] = schedule.log_snr(t)
    done.outputs["time_at"] = schedule.time_at(log_snr)
    done.outputs["snap"] = schedule.snap(t)
    done.outputs["t_min"] = torch.tensor(schedule.t_min)


def _process(subject: Subject, process: ForwardProcess, done: Exercise, dtype: torch.dtype) -> None:
    if not isinstance(process, GaussianProcess):
        raise NotApplicable("the kit has no data for processes that are not Gaussian")
    noise = _noise(subject, dtype)
    shape = (_COUNT, *subject.bench.shape)
    x_0 = done.give("x_0", _samples(subject, dtype))
    epsilon = process.draw(shape, noise)
    x_t = done.give("x_t", process.diffuse(x_0, 0.6, epsilon).detach())
    prediction = process.interpret(done.give("output", epsilon.clone()), x_t, 0.6)
    done.outputs["draw"] = epsilon
    done.outputs["diffuse"] = process.diffuse(x_0, 0.3, epsilon)
    done.outputs["prior"] = process.prior(shape, noise)
    done.outputs["x_0"] = prediction.x_0
    done.outputs["reverse"] = process.reverse(prediction, x_t, 0.6, 0.4, noise)
    done.outputs["posterior"] = process.posterior(x_0, x_t, 0.6, 0.4).mean


def _model(subject: Subject, model: EpsilonModel, done: Exercise, dtype: torch.dtype) -> None:
    x = done.give("x", _samples(subject, dtype))
    c_noise = done.give("c_noise", torch.tensor([1.0, 250.0, 600.0, 1000.0]))
    offered = subject.bench.condition(_COUNT)
    taken = [name for name in facts_of(subject).get("conditions", ()) if name in offered]
    condition = {name: done.give(name, _cast(offered[name], dtype)) for name in taken}
    weights = _shaken(model.to(dtype), subject)
    for mode in (False, True):
        # Dropout draws from the global generator, as all of torch's layers do in training.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(7)
            done.outputs[f"forward, training {mode}"] = model.train(mode)(x, c_noise, condition)
    model.load_state_dict(weights)
    model.train()


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _shaken(model: nn.Module, subject: Subject) -> dict[str, Tensor]:
    """Move every weight a little, since a layer that starts at 0 hides what is before it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = subject.generator("shake")
    with torch.no_grad():
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.02 * step.to(parameter.dtype))
    return before


class _Fixed(EpsilonModel):
    """A smooth function of the sample and the noise level, far from exact."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, c_noise: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        level = (c_noise / 1000).to(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
        return torch.sin(self.scale.to(x.dtype) * x + level)


class _FixedWithVariance(_Fixed):
    """The same, and in as many channels again where the reverse variance lies."""

    def forward(self, x: Tensor, c_noise: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        output = super().forward(x, c_noise, condition)
        return torch.cat([output, 0.5 * output], dim=1)


def _loss(subject: Subject, loss: Loss, done: Exercise, dtype: torch.dtype) -> None:
    process = VariancePreserving(schedule=Linear())
    if not isinstance(process, loss.process_class):
        raise NotApplicable(f"it needs a process of the class {loss.process_class.__name__}")
    uniform = torch.linspace(0.05, 0.95, _COUNT, dtype=torch.float64)
    drawn = Uniform().draw(uniform, process.schedule)

    def draw_times(count: int) -> DrawnTimes:
        return DrawnTimes(done.give("t", drawn.t), done.give("weight", drawn.weight))

    rows = range(_COUNT)
    noise = BatchNoise(
        seed=subject.seed_for("exercise"), step=0, rows=rows, total=_COUNT, dtype=dtype
    )
    context = LossContext(
        denoiser=GaussianDenoiser(
            _FixedWithVariance(),
            Epsilon(),
            process,
            data_range=(-1.0, 1.0),
            learned_variance=True,
        ),
        process=process,
        noise=noise,
        draw_times=draw_times,
        step=10,
    )
    record = loss(Batch(done.give("x_0", _samples(subject, dtype))), context)
    done.outputs["values"] = record.values
    done.outputs.update({f"term {name}": value for name, value in record.terms.items()})


def _sampler(subject: Subject, sampler: Sampler, done: Exercise, dtype: torch.dtype) -> None:
    if sampler.inputs or not issubclass(GaussianProcess, sampler.process_class):
        raise NotApplicable("the kit has neither its inputs nor an exact answer for its process")
    process = VariancePreserving(schedule=Linear())
    times = Trailing().times(8, process.schedule)
    for name, data_range in (("free", None), ("ranged", (-1.0, 1.0))):
        noise = _noise(subject, dtype)
        x = done.give("x", process.prior((_COUNT, 2), noise))
        denoiser = Watched(mixture(process), data_range)
        try:
            walk = list(states_of(sampler, denoiser, x, times, noise))
        except ComponentError as refused:
            # A sampler may insist on clipping, and refuse where there is nothing to clip to.
            if data_range is None:
                continue
            raise NotApplicable(str(refused)) from refused
        done.outputs.update({f"{name}, t = {state.t:.3g}": state.x for state in walk})


def _parameterization(
    subject: Subject, parameterization: Parameterization, done: Exercise, _: torch.dtype
) -> None:
    process = VariancePreserving(schedule=UniformLogSNR())
    t = done.give("t", torch.linspace(0.01, 0.99, 9, dtype=torch.float64))
    log_snr = done.give("log_snr", process.log_snr(t))
    scales = process.scales(log_snr)
    for name, value in zip(("alpha", "sigma"), scales, strict=True):
        done.give(name, value)
    target = parameterization.target(scales)
    done.outputs["on_x_0"], done.outputs["on_epsilon"] = target
    done.outputs["c_in"] = parameterization.c_in(scales)
    done.outputs["c_noise"] = parameterization.c_noise(t, log_snr)


def _times(subject: Subject, times: TrainingTimes, done: Exercise, _: torch.dtype) -> None:
    uniform = done.give("uniform", torch.linspace(0, 0.999, 50, dtype=torch.float64))
    done.outputs["every"] = torch.tensor(times.every)
    for schedule in (Linear(), UniformLogSNR()):
        name = type(schedule).__name__
        try:
            state = times.init(schedule)
        except ComponentError:
            continue  # Some are defined on a grid only.
        done.outputs[f"t, {name}"], done.outputs[f"weight, {name}"] = times.draw(uniform, schedule)
        for number in range(2 if state else 0):
            for key, value in state.items():
                done.give(f"{key} {number}, {name}", value)
            t, values = losses_of(times, schedule, state)
            given = (done.give(f"{n} {number}, {name}", v) for n, v in (("t", t), ("loss", values)))
            state = times.update(state, *given)
            drawn = times.draw_with(uniform, schedule, state)
            done.outputs[f"t {number}, {name}"], done.outputs[f"weight {number}, {name}"] = drawn
            done.outputs.update({f"{k} {number}, {name}": v for k, v in state.items()})


def losses_of(
    times: TrainingTimes, schedule: NoiseSchedule, state: TimesState
) -> tuple[Tensor, Tensor]:
    """Losses that grow with t and over training, at times drawn with `state` and so weighted."""
    even = (torch.arange(_LOSSES, dtype=torch.float64) + 0.5) / _LOSSES
    # Neighbours in training are not neighbours in time: a step that shares no factor with them.
    mixed = even[(torch.arange(_LOSSES) * _STEP) % _LOSSES]
    t, weight = times.draw_with(mixed, schedule, state)
    return t, weight * (0.5 + t) * (1.0 + 0.5 * even)


def _weighting(subject: Subject, weighting: Weighting, done: Exercise, _: torch.dtype) -> None:
    log_snr = done.give("log_snr", torch.linspace(-12, 12, 25, dtype=torch.float64))
    done.outputs["weight"] = weighting.weight(log_snr)
    scales = VariancePreserving(schedule=Linear()).scales(log_snr)
    levels = (log_snr, scales, Velocity().target(scales))
    done.outputs["of output"] = weighting.of_output(*levels)


def _spacing(subject: Subject, spacing: Spacing, done: Exercise, _: torch.dtype) -> None:
    for schedule in (Linear(), UniformLogSNR()):
        try:
            times = spacing.times(10, schedule)
        except ComponentError:
            continue  # Some are defined on discrete schedules only.
        done.outputs[type(schedule).__name__] = torch.tensor(times, dtype=torch.float64)


def _autoencoder(
    subject: Subject, autoencoder: Autoencoder, done: Exercise, dtype: torch.dtype
) -> None:
    x = done.give("x", _samples(subject, torch.float32))
    with torch.no_grad():
        z = done.give("z", autoencoder.eval().encode(x))
        done.outputs["encode"] = z
        done.outputs["decode"] = autoencoder.decode(z)


def _dataset(subject: Subject, dataset: Dataset, done: Exercise, _: torch.dtype) -> None:
    indices: Sequence[int] = [i % len(dataset) for i in (0, 3, 1, 0)]
    batch = dataset.batch(indices)
    done.outputs["x_0"] = batch.x_0
    done.outputs.update({f"condition {name}": v for name, v in batch.condition.items()})
    done.outputs["length"] = torch.tensor(len(dataset))
    done.outputs["shape"] = torch.tensor(dataset.shape)
    done.outputs["range"] = torch.tensor(dataset.range or ())


def _features(subject: Subject, features: FeatureExtractor, done: Exercise, _: torch.dtype) -> None:
    data = Points(shape=subject.bench.shape, count=64)
    samples = done.give("samples", _samples(subject, torch.float32))
    done.outputs["features"] = features.fit(data, subject.seed)(samples)


def _metric(subject: Subject, metric: Metric, done: Exercise, _: torch.dtype) -> None:
    if isinstance(metric, ModelMetric):
        _model_metric(subject, metric, done)
        return
    assert isinstance(metric, SampleMetric)
    data = Points(shape=subject.bench.shape, count=64)
    count = min(metric.samples_needed(data), 256)
    samples = done.give("samples", _samples(subject, torch.float32, count))
    measured = metric.measure(samples, data, subject.seed)
    done.outputs.update({name: torch.as_tensor(value) for name, value in measured.items()})
    done.outputs["samples needed"] = torch.tensor(metric.samples_needed(data))


def _model_metric(subject: Subject, metric: ModelMetric, done: Exercise) -> None:
    process = VariancePreserving(schedule=Linear(steps=50, rescale=False))
    denoiser = GaussianDenoiser(
        _FixedWithVariance(), Epsilon(), process, data_range=(-1.0, 1.0), learned_variance=True
    )
    data = Points(shape=subject.bench.shape, count=16)
    measured = metric.measure_model(lambda _: denoiser, data, subject.seed, torch.device("cpu"))
    done.outputs.update({name: torch.as_tensor(v) for name, v in measured.values.items()})
    done.outputs.update({f"curve {name}": curve for name, curve in measured.curves.items()})


def _noise(subject: Subject, dtype: torch.dtype) -> SampleNoise:
    return SampleNoise(seed=subject.seed_for("exercise"), indices=range(_COUNT), dtype=dtype)


def _samples(subject: Subject, dtype: torch.dtype, count: int = _COUNT) -> Tensor:
    shape = (count, *subject.bench.shape)
    return 0.8 * torch.randn(shape, generator=subject.generator("samples")).to(dtype)


def _encoder(subject: Subject, encoder: Encoder, done: Exercise, _: torch.dtype) -> None:
    raw = {name: done.give(name, v) for name, v in raw_conditions(subject, _COUNT).items()}
    weights = _shaken(encoder, subject)
    prepared = encoder.prepare(raw)
    done.outputs.update({f"prepared {name}": value for name, value in prepared.items()})
    for what, told in (("conditions", prepared), ("null", encoder.null(_COUNT))):
        given = {name: done.give(f"{what} {name}", value) for name, value in told.items()}
        with torch.no_grad():
            encoded = encoder.eval()(given)
        done.outputs.update({f"{what} {name}": value for name, value in encoded.items()})
    encoder.load_state_dict(weights)
    encoder.train()


def _guidance(subject: Subject, guidance: Guidance, done: Exercise, dtype: torch.dtype) -> None:
    offered = subject.bench.condition(_COUNT)
    if missing := [name for name in guidance.takes if name not in offered]:
        raise NotApplicable(f"the bench has no {', '.join(missing)}, which it takes")
    condition, null = (means(subject, _COUNT, purpose) for purpose in ("conditions", "null"))
    given = {name: done.give(name, offered[name]) for name in guidance.takes}
    for name, value in (*condition.items(), *null.items()):
        done.give(name, value)
    x_t = done.give("x_t", _samples(subject, dtype))
    guided = guidance.guide(asking([]), Told(condition, null, {**condition, **given}))
    # From almost nothing but data to almost nothing but noise: some guide in between alone.
    for t in (0.02, 0.2, 0.5, 0.8, 0.98):
        done.outputs[f"x_0 at t = {t}"] = guided(x_t, t).x_0


_EXERCISES: Mapping[str, Callable[[Subject, Any, Exercise, torch.dtype], None]] = {
    "schedule": _schedule,
    "process": _process,
    "model": _model,
    "loss": _loss,
    "sampler": _sampler,
    "parameterization": _parameterization,
    "times": _times,
    "weighting": _weighting,
    "spacing": _spacing,
    "encoder": _encoder,
    "guidance": _guidance,
    "autoencoder": _autoencoder,
    "dataset": _dataset,
    "features": _features,
    "metric": _metric,
}
