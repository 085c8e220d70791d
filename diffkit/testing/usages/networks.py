"""Using networks, and what asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.denoiser import Declared
from diffkit.core.encoder import Encoder
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Batch, Loss, LossContext
from diffkit.core.model import Condition, EpsilonModel, Output
from diffkit.core.noise import BatchNoise
from diffkit.core.times import DrawnTimes
from diffkit.testing.beside import extras_for
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.conditions import asking, conditioning, means, raw_conditions
from diffkit.testing.laws import NotChecked
from diffkit.testing.networks import facts_of, output_of
from diffkit.testing.processes import gaussian_for, without_signal
from diffkit.testing.usages.not_gaussian import use_loss_of
from diffkit.testing.usages.record import COUNT, Usage, rows_of, samples_for, uniform_numbers


def use_model(
    subject: ComponentUnderTest, model: EpsilonModel, done: Usage, dtype: torch.dtype
) -> None:
    """Ask once in eval mode and once in training mode, with weights that hide nothing."""
    x = done.give("x", samples_for(subject, dtype))
    c_noise = done.give("c_noise", torch.tensor([1.0, 250.0, 600.0, 1000.0]))
    offered = subject.fixtures.condition(COUNT)
    taken = [name for name in facts_of(subject).get("conditions", ()) if name in offered]
    condition = {name: done.give(name, _cast(offered[name], dtype)) for name in taken}
    condition |= {n: done.give(n, 0.5 * c_noise) for n in facts_of(subject).get("times", ())}
    weights = shaken(model.to(dtype), subject)
    for mode in (False, True):
        # Dropout draws from the global generator, as all of torch's layers do in training.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(7)
            found = model.train(mode)(x, c_noise, condition)
            done.outputs[f"forward, training {mode}"] = output_of(found)
    model.load_state_dict(weights)
    model.train()


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def shaken(model: nn.Module, subject: ComponentUnderTest) -> dict[str, Tensor]:
    """Move every weight a little, since a layer that starts at 0 hides what is before it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = subject.generator("shake")
    with torch.no_grad():
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.02 * step.to(parameter.dtype))
    return before


def use_encoder(subject: ComponentUnderTest, encoder: Encoder, done: Usage, _: torch.dtype) -> None:
    """Prepare conditions, and encode them and what stands for none."""
    raw = {name: done.give(name, v) for name, v in raw_conditions(subject, COUNT).items()}
    weights = shaken(encoder, subject)
    prepared = encoder.prepare(raw)
    done.outputs.update({f"prepared {name}": value for name, value in prepared.items()})
    for what, told in (("conditions", prepared), ("null", encoder.null(COUNT))):
        given = {name: done.give(f"{what} {name}", value) for name, value in told.items()}
        with torch.no_grad():
            encoded = encoder.eval()(given)
        done.outputs.update({f"{what} {name}": value for name, value in encoded.items()})
    encoder.load_state_dict(weights)
    encoder.train()


def use_guidance(
    subject: ComponentUnderTest, guidance: Guidance, done: Usage, dtype: torch.dtype
) -> None:
    """Ask the guided denoiser at noise levels from end to end."""
    offered = subject.fixtures.condition(COUNT)
    if missing := [name for name in guidance.takes if name not in offered]:
        raise NotChecked(f"the fixtures have no {', '.join(missing)}, which it takes")
    condition, null = (means(subject, COUNT, purpose) for purpose in ("conditions", "null"))
    given = {name: done.give(name, offered[name]) for name in guidance.takes}
    for name, value in (*condition.items(), *null.items()):
        done.give(name, value)
    x_t = done.give("x_t", samples_for(subject, dtype))
    guided = guidance.guide(asking([]), conditioning(condition, null, given))
    # From almost nothing but data to almost nothing but noise: some guide in between alone.
    for t in (0.02, 0.2, 0.5, 0.8, 0.98):
        done.outputs[f"x_0 at t = {t}"] = guided(x_t, t).x_0


def use_autoencoder(
    subject: ComponentUnderTest, autoencoder: Autoencoder, done: Usage, dtype: torch.dtype
) -> None:
    """Encode and decode."""
    x = done.give("x", samples_for(subject, torch.float32))
    with torch.no_grad():
        z = done.give("z", autoencoder.eval().encode(x))
        done.outputs["encode"] = z
        done.outputs["decode"] = autoencoder.decode(z)


class _Fixed(EpsilonModel):
    """A smooth function of the sample and of all that it is told, far from exact."""

    def __init__(self, extras: Mapping[str, Callable[[int], Tensor]] | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self._extras = extras or {}

    def output(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        """What it gives beside its extras."""
        level = c_noise / 1000
        for told in condition.values():
            # Second times, which are one number a sample, and tensors of whatever shape.
            number = told / 1000 if told.ndim == 1 else told.flatten(1).mean(1)
            level = level + 0.3 * number.to(level.dtype)
        level = level.to(x.dtype).reshape(*level.shape, *[1] * (x.ndim - level.ndim))
        return torch.sin(self.scale.to(x.dtype) * x + level)

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        output = self.output(x, c_noise, condition)
        return Output(output, extras_for(self._extras, x)) if self._extras else output


class FixedWithVariance(_Fixed):
    """The same, with double the output channels, of which the second half is the variance's."""

    def output(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        output = super().output(x, c_noise, condition)
        return torch.cat([output, 0.5 * output], dim=1)


def use_loss(subject: ComponentUnderTest, loss: Loss, done: Usage, dtype: torch.dtype) -> None:
    """Compute it for a batch and a network that is far from exact."""
    subject.require_extras(loss.extras)
    if isinstance(loss, nn.Module):
        loss.to(dtype)
    process = gaussian_for(subject, loss.process_class)
    if process is None:
        use_loss_of(subject, loss, done, dtype)
        return
    uniform = torch.linspace(0.05, 0.95, COUNT, dtype=torch.float64)
    drawn = Uniform().draw(uniform, process.schedule)

    def draw_times(count: int) -> DrawnTimes:
        t, weight = (rows_of(whole, count) for whole in (drawn.t, drawn.weight))
        return DrawnTimes(done.give("t", t), done.give("weight", weight))

    rows = range(COUNT)
    noise = BatchNoise(
        seed=subject.seed_for("exercise"), step=0, rows=rows, total=COUNT, dtype=dtype
    )
    context = LossContext(
        denoiser=GaussianDenoiser(
            FixedWithVariance({name: subject.fixtures.extras[name] for name in loss.extras}),
            Velocity() if without_signal(process.schedule) else Epsilon(),
            process,
            data_range=(-1.0, 1.0),
            learned_variance=True,
            declared=Declared(given=loss.gives, times=loss.gives),
        ),
        process=process,
        noise=noise,
        draw_times=draw_times,
        step=10,
        draw_uniform=uniform_numbers(uniform.flip(0)),
    )
    record = loss(Batch(done.give("x_0", samples_for(subject, dtype))), context)
    done.outputs["values"] = record.values
    done.outputs.update({f"term {name}": value for name, value in record.terms.items()})
