"""A pipeline's network as a denoiser, and samples of a denoiser without a pipeline."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import diffkit
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.core import GaussianDenoiser, Guidance, GuidedDenoiser
from diffkit.core.sampler import Sampler
from diffkit.errors import ComponentError, SpecError
from diffkit.testing import ExactGaussian

LABELLED = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": diffkit.wrap(nn.Identity(), call=lambda *_: None),
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 5,
    "data": {"shape": [2], "range": [-1.0, 1.0]},
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(4, 2), nn.Linear(2, 2)

    def forward(self, x, c_noise, label):
        return self.layer(x) + self.table(label) + c_noise[:, None] / 1000


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    return diffkit.build({**LABELLED, "model": diffkit.wrap(Net(), conditions=["label"])})


def test_it_is_of_batches_of_any_size_of_one_condition(pipeline) -> None:
    denoiser, x = pipeline.denoiser(condition={"label": 3}), torch.randn(5, 2)
    whole = denoiser(x, 0.5)
    for rows in (slice(0, 1), slice(1, 5)):
        # A product of fewer rows may be summed in another order.
        torch.testing.assert_close(denoiser(x[rows], 0.5).x_0, whole.x_0[rows], rtol=0, atol=1e-6)
    network = pipeline.system.model.network
    wanted = network(x, torch.full((5,), 500.0), torch.full((5,), 3))
    assert torch.equal(whole.epsilon, wanted)


def test_a_condition_for_each_sample(pipeline) -> None:
    denoiser, x = pipeline.denoiser(condition={"label": [1, 2, 3]}), torch.randn(3, 2)
    alone = pipeline.denoiser(condition={"label": 2})(x[1:2], 0.5)
    torch.testing.assert_close(denoiser(x, 0.5).x_0[1:2], alone.x_0, rtol=0, atol=1e-6)
    with pytest.raises(ComponentError, match=r"condition.label has 3 rows, and 2 samples"):
        denoiser(x[:2], 0.5)


def test_gradients_reach_the_sample_and_the_time(pipeline) -> None:
    denoiser = pipeline.denoiser(condition={"label": 0})
    x, t = torch.randn(3, 2, requires_grad=True), torch.full((3,), 0.5).double().requires_grad_()
    denoiser(x, t).x_0.sum().backward()
    assert x.grad.abs().min() > 0
    assert t.grad.abs().min() > 0


def test_guidance_clipping_schedule_and_process_are_chosen(pipeline) -> None:
    class Doubled(GuidedDenoiser):
        def combine(self, predictions, x_t, t):
            return predictions[0].with_output(2 * predictions[0].output)

    class Double(Guidance):
        def guide(self, make_denoiser, conditioning):
            return Doubled(make_denoiser(conditioning.condition))

    x, said = torch.randn(3, 2), {"label": 1}
    plain = pipeline.denoiser(condition=said)(x, 0.5)
    led = pipeline.denoiser(condition=said, guidance=Double())(x, 0.5)
    assert torch.equal(led.epsilon, 2 * plain.epsilon)
    clipped = pipeline.denoiser(condition=said, clip=True)(10 * x, 0.5)
    assert float(clipped.x_0.abs().max()) <= 1.0
    flow = pipeline.denoiser(condition=said, process=RectifiedFlow(schedule=Cosine()))
    assert isinstance(flow.process, RectifiedFlow)
    linear = pipeline.denoiser(condition=said, schedule=Linear())
    assert isinstance(linear.process.schedule, Linear)


def test_what_it_is_not_given_is_told(pipeline) -> None:
    with pytest.raises(SpecError, match=r"the conditions taken are: label; given: none"):
        pipeline.denoiser()


# -- without a pipeline ----------------------------------------------------------------------------


class LowTold(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, told):
        return self.layer(told).sin()


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 64), (8, 8)])
def test_samples_of_another_shape_are_refused(pipeline, shape) -> None:
    asked = pipeline.denoiser(condition={"label": 3})
    with pytest.raises(diffkit.ComponentError, match=rf"shape \[{shape[0]}, .* here have \[b, "):
        asked(torch.zeros(shape), 0.5)


def test_samples_of_an_exact_denoiser_have_the_datas_moments() -> None:
    """Of N(0.5, 1), by ddpm with fixed_large in 50 steps, which ends at a variance of .9942; the
    mean of 4000 within 4 of its errors, and the variance within 4 of its own, sqrt(2 / 4000).
    """
    process = VariancePreserving(schedule=Linear())
    denoiser = ExactGaussian(process, mean=0.5, covariance=1.0)
    sampler = DDPM(variance="fixed_large")
    x = diffkit.sample(denoiser, sampler=sampler, shape=(1,), num=4000, steps=50)
    assert x.shape == (4000, 1)
    assert float(x.mean()) == pytest.approx(0.5, abs=4 / 4000**0.5)
    assert float(x.var()) == pytest.approx(0.9942, abs=4 * (2 / 4000) ** 0.5)


def test_it_gives_the_samples_that_a_pipeline_gives(pipeline) -> None:
    said = {"label": 2}
    alone = diffkit.sample(
        pipeline.denoiser(condition=said, clip=True),
        sampler=DDPM(),
        shape=(2,),
        num=4,
        steps=5,
        seed=7,
    )
    whole = pipeline.sample(4, condition=said, seed=7, steps=5)
    # Coefficients are tabled in one place and computed one by one in the other: float64.
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)


def test_parts_without_a_pipeline() -> None:
    process = VariancePreserving(schedule=Cosine())
    net = diffkit.wrap(nn.Linear(2, 2), call=lambda net, x, c, _: net(x) + 0 * c[:, None])
    denoiser = GaussianDenoiser(net, Epsilon(), process)
    settings = {"sampler": DDPM(), "shape": (2,), "steps": 3}
    x = diffkit.sample(denoiser, num=4, clip=(-1.0, 1.0), **settings)
    assert float(x.abs().max()) <= 1.0
    # Sample i depends on the seed and on i alone.
    few = diffkit.sample(denoiser, num=2, clip=(-1.0, 1.0), **settings)
    torch.testing.assert_close(x[:2], few, rtol=0, atol=1e-6)


class Elsewhere(Sampler):
    process_class = RectifiedFlow

    def trajectory(self, denoiser, x, times, noise, inputs):
        yield


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"sampler": Elsewhere()}, "needs a process of the class RectifiedFlow"),
        ({"sampler": "ddpm"}, "sampler is an instance of a sampler"),
        ({"steps": 0}, "steps"),
        ({"num": 0}, "num"),
        ({"spacing": "trailing"}, "spacing is an instance of a spacing"),
        ({"denoiser": torch.nn.Identity()}, "denoiser is a diffkit.core.Denoiser"),
        ({"inputs": {"mask": torch.zeros(1, 1)}}, "takes the inputs: none; given: mask"),
    ],
)
def test_what_does_not_fit_is_told(choice, words) -> None:
    process = VariancePreserving(schedule=Linear())
    settings = {
        "denoiser": ExactGaussian(process),
        "sampler": DDPM(),
        "shape": (1,),
        "num": 2,
        "steps": 5,
    }
    settings |= choice
    denoiser = settings.pop("denoiser")
    with pytest.raises(SpecError, match=words):
        diffkit.sample(denoiser, **settings)


def test_noise_levels_that_were_never_trained_are_refused() -> None:
    trained = VariancePreserving(schedule=Linear(steps=100))
    sampled = RectifiedFlow(schedule=Rectified())
    net = diffkit.wrap(nn.Linear(2, 2), call=lambda net, x, c, _: net(x) + 0 * c[:, None])
    denoiser = GaussianDenoiser(net, Epsilon(), trained, sampled)
    with pytest.raises(ComponentError, match="never trained"):
        diffkit.sample(denoiser, sampler=DDPM(), shape=(2,), num=2, steps=5)


def test_a_time_for_each_token_goes_through_guidance_and_clipping() -> None:
    pytest.importorskip("diffkit_guidance")

    def call(net, x, c_noise, condition):
        level = c_noise if c_noise.ndim == 2 else c_noise[:, None].expand(x.shape[:2])
        low = condition["low"][:, None, :].expand(*x.shape[:2], 1)
        return net(torch.cat([x, level[..., None] / 1000, low], dim=-1))

    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": diffkit.wrap(LowTold(), call=call, conditions=["low"], null={"low": 0.0}),
        "loss": "simple",
        "sampler": "ddpm",
        "data": {
            "shape": [3, 2],
            "range": [-1, 1],
            "conditions": {"low": {"shape": [1]}},
        },
    }
    asked = diffkit.build(spec).denoiser(
        condition={"low": torch.ones(1, 1)},
        guidance={"id": "guidance.classifier-free", "config": {"scale": 3.0, "interval": [-2, 9]}},
        clip={"before_guidance": True},
    )
    x, t = torch.randn(4, 3, 2), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    together = asked(x, t.expand(4, 3)).x_0
    for token in range(3):
        alone = asked(x, t[token].expand(4)).x_0
        torch.testing.assert_close(together[:, token], alone[:, token])
