"""Clipping of the predicted data, which a sampling run does once for all samplers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import diffkit
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.clipping import ClippedDenoiser, thresholded
from diffkit.core.denoiser import Denoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.guidance import Guidance
from diffkit.core.guided import GuidedDenoiser
from diffkit.core.model import EpsilonModel
from diffkit.core.noise import SampleNoise
from diffkit.core.prediction import Prediction
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import State, StepSampler
from diffkit.errors import ComponentError, SpecError
from diffkit.testing.trajectories import ConstantDenoiser

PROCESS = VariancePreserving(schedule=Linear())
RANGE = (-1.0, 0.5)
SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 4,
    "data": {"shape": [2], "range": list(RANGE)},
}


class Wild(EpsilonModel):
    """Predicts data far from any range."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, c_noise, condition):
        return -5 * x * self.weight


class Deterministic(StepSampler):
    """DDIM as in the README, which knows of no range."""

    process_class = GaussianProcess

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        x_s = denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon)
        return State(x_s, s, prediction)


def wild(**changes):
    return diffkit.build({**SPEC, "model": Wild(), **changes}, device="cpu")


def test_epsilon_follows_from_the_clipped_data():
    inner = GaussianDenoiser(Wild(), Epsilon(), PROCESS, data_range=RANGE)
    denoiser = ClippedDenoiser(inner, RANGE)
    x = torch.tensor([[2.0], [-0.1]], dtype=torch.float64)
    with torch.no_grad():
        free, clipped = inner(x, 0.5), denoiser(x, 0.5)
    assert torch.equal(clipped.x_0, free.x_0.clamp(*RANGE))
    alpha, sigma = PROCESS.scales(PROCESS.log_snr(0.5))
    assert torch.allclose(alpha * clipped.x_0 + sigma * clipped.epsilon, x, rtol=0, atol=1e-14)
    assert torch.equal(clipped.unclipped.x_0, free.x_0)
    assert free.unclipped is free
    assert denoiser.process is PROCESS
    assert denoiser.data_range == RANGE


def test_a_step_is_that_of_a_network_that_predicted_the_clipped_data():
    x = torch.full((1, 1), 2.0, dtype=torch.float64)
    for sampler in (DDPM(variance="fixed_small"), DDPM(variance="fixed_large"), Deterministic()):
        ends = [
            sampler.step(denoiser, x, 0.5, 0.4, SampleNoise(seed=0, indices=range(1))).x
            for denoiser in (
                ClippedDenoiser(ConstantDenoiser(PROCESS, 7.0), RANGE),
                ConstantDenoiser(PROCESS, 0.5),
            )
        ]
        assert torch.equal(*ends)


def test_a_gradient_can_be_that_before_clipping():
    denoiser = ClippedDenoiser(GaussianDenoiser(Wild(), Epsilon(), PROCESS), RANGE)
    x = torch.full((1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    prediction = denoiser(x, 0.5)
    (of_clipped,) = torch.autograd.grad(prediction.x_0.sum(), x, retain_graph=True)
    (before,) = torch.autograd.grad(prediction.unclipped.x_0.sum(), x)
    assert of_clipped.item() == 0.0
    assert before.item() != 0.0


def test_it_hands_on_the_start_and_the_times():
    class Starts(ConstantDenoiser):
        def start(self, inputs):
            started.append(dict(inputs))
            return ConstantDenoiser(PROCESS, 3.0)

        def check_times(self, times):
            raise ComponentError(f"asked {list(times)}")

    started = []
    denoiser = ClippedDenoiser(Starts(PROCESS, 7.0), (-5.0, 5.0))
    x = torch.zeros(1, 1)
    assert denoiser.start({"image": x})(x, 0.5).x_0.item() == 3.0
    assert [list(inputs) for inputs in started] == [["image"]]
    with pytest.raises(ComponentError, match=r"asked \[1.0, 0.0\]"):
        denoiser.check_times((1.0, 0.0))


def test_what_is_not_gaussian_is_not_clipped():
    class Other(Prediction):
        x_0 = torch.zeros(1)

    class Stub(ConstantDenoiser):
        def __call__(self, x_t, t, *, given=None, times=None):
            return Other()

    with pytest.raises(ComponentError, match="Stub gives no Gaussian prediction"):
        ClippedDenoiser(Stub(PROCESS, 0.0), RANGE)(torch.zeros(1), 0.5)

    class Masking(Denoiser):
        process = None

        def __call__(self, x_t, t, *, given=None, times=None):
            raise AssertionError

    with pytest.raises(ComponentError, match="no Gaussian process"):
        ClippedDenoiser(Masking(), RANGE)


@pytest.mark.parametrize("sampler", [DDPM(), Deterministic()], ids=lambda s: type(s).__name__)
def test_a_run_clips_whatever_the_sampler(sampler):
    pipeline = wild()
    states = list(pipeline.trajectory(3, sampler=sampler))
    for state in states[1:]:
        assert state.prediction.x_0.min() >= RANGE[0]
        assert state.prediction.x_0.max() <= RANGE[1]
    assert pipeline.sample(3, sampler=sampler, progress=False).abs().max() <= 1.0


@pytest.mark.parametrize("of_spec", [True, False])
@pytest.mark.parametrize("of_run", [None, True, False])
def test_the_run_says_or_else_the_spec(of_spec, of_run):
    pipeline = wild(clip=of_spec)
    clips = of_spec if of_run is None else of_run
    ends = [
        pipeline.sample(3, clip=of_run, progress=False),
        torch.cat([x for _, x in pipeline.batches(3, clip=of_run)]),
        [state.x for state in pipeline.trajectory(3, clip=of_run)][-1],
    ]
    for end in ends:
        assert torch.equal(end, ends[0])
    assert bool(ends[0].abs().max() <= 1.0) is clips


def test_data_without_a_range_are_not_clipped():
    pipeline = wild(data={"shape": [2], "range": None})
    free = wild(clip=False).sample(3, progress=False)
    assert torch.equal(pipeline.sample(3, progress=False), free)
    with pytest.raises(SpecError, match="clip is true, and the data declare no range"):
        pipeline.sample(3, clip=True, progress=False)


def test_it_is_clipped_once_and_after_guidance():
    """Guidance sees what the network predicted, and what it makes of that is clipped."""

    class Doubled(Denoiser):
        def __init__(self, inner):
            self._inner = inner

        @property
        def process(self):
            return self._inner.process

        def __call__(self, x_t, t, *, given=None, times=None):
            prediction = self._inner(x_t, t)
            seen.append(float(prediction.x_0.detach().abs().max()))
            return prediction.with_output(2 * prediction.output)

    class Twice(Guidance):
        def guide(self, make_denoiser, conditioning):
            return Doubled(make_denoiser(conditioning.condition))

    seen = []
    pipeline = wild(guidance=Twice())
    states = list(pipeline.trajectory(3))[1:]
    assert max(seen) > 1.0
    for state in states:
        assert state.prediction.x_0.abs().max() <= 1.0
        assert state.prediction.unclipped.unclipped is state.prediction.unclipped


def test_a_short_trajectory_of_an_untamed_network_stays_finite():
    """Errors of epsilon are divided by alpha, which is 6e-5 at first: clipping stops that."""
    pipeline = wild(steps=10, schedule="cosine")
    free = pipeline.sample(4, sampler=Deterministic(), clip=False, progress=False)
    kept = pipeline.sample(4, sampler=Deterministic(), progress=False)
    assert kept.abs().max() <= 1.0
    assert free.abs().max() > 1e3
    assert math.isfinite(float(kept.std()))


@pytest.mark.slow
def test_the_readmes_sampler_gives_digits_on_the_readmes_model():
    """Trained for a moment; without clipping the same trajectory is thousands of ranges away."""
    five = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": "mlp",
        "loss": "simple",
    }
    pipeline = diffkit.build({**five, "sampler": "ddpm", "dataset": "digits"}, device="cpu")
    pipeline.train(steps=600, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99, progress=False)
    digits = pipeline.dataset().batch(range(len(pipeline.dataset()))).x_0.flatten(1)
    apart = {
        clip: torch.cdist(
            pipeline.sample(
                16, steps=20, sampler=Deterministic(), clip=clip, progress=False
            ).flatten(1),
            digits,
        ).amin(1)
        for clip in (True, False)
    }
    # One digit is 2.1 from the nearest other, and uniform noise 7.1 from the nearest digit.
    assert apart[True].mean() < 3.5
    assert apart[False].mean() > 100.0


# -- dynamic thresholds, and before guidance -------------------------------------------------------


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.995, 1.0])
@pytest.mark.parametrize("data_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_a_dynamic_threshold_is_each_samples_quantile(quantile, data_range):
    """In units of half the range: the data over max(1, q-quantile of their size), by numpy's."""
    low, high = data_range
    sizes = torch.tensor([0.1, 0.5, 1, 2, 9])[:, None, None]
    unit = torch.randn(5, 3, 4, dtype=torch.float64) * sizes
    found = thresholded((low + high) / 2 + (high - low) / 2 * unit, data_range, quantile)
    s = np.maximum(np.quantile(unit.flatten(1).abs().numpy(), quantile, axis=1), 1.0)
    wanted = (unit.flatten(1).numpy() / s[:, None]).clip(-1, 1)
    wanted = (low + high) / 2 + (high - low) / 2 * wanted
    assert np.allclose(found.flatten(1).numpy(), wanted, rtol=0, atol=1e-12 * max(1, high))
    # What is within the range already is left as it is.
    assert torch.allclose(found[0], (low + high) / 2 + (high - low) / 2 * unit[0])


def test_epsilon_follows_from_the_thresholded_data():
    inner = GaussianDenoiser(Wild(), Epsilon(), PROCESS, data_range=RANGE)
    denoiser = ClippedDenoiser(inner, RANGE, 0.995)
    x = torch.tensor([[2.0], [-0.1]], dtype=torch.float64)
    with torch.no_grad():
        found = denoiser.start({})(x, 0.5)
    alpha, sigma = PROCESS.scales(PROCESS.log_snr(0.5))
    assert torch.allclose(alpha * found.x_0 + sigma * found.epsilon, x, rtol=0, atol=1e-14)
    assert float(found.x_0.min()) >= RANGE[0]


class Twice(GuidedDenoiser):
    def combine(self, predictions, x_t, t):
        return predictions[0].with_x_0(2 * predictions[0].x_0)


class Double(Guidance):
    def guide(self, make_denoiser, conditioning):
        return Twice(make_denoiser(conditioning.condition))


def test_clipping_comes_after_guidance_or_before():
    pipeline = wild(clip=True)
    x = torch.full((2, 2), 9.0)
    free = pipeline.denoiser(guidance=Double())(x, 0.5).x_0 / 2
    after = pipeline.denoiser(guidance=Double(), clip=True)(x, 0.5).x_0
    before = pipeline.denoiser(guidance=Double(), clip={"before_guidance": True})(x, 0.5).x_0
    assert torch.equal(after, (2 * free).clamp(*RANGE))
    assert torch.equal(before, 2 * free.clamp(*RANGE))
    assert not torch.equal(after, before)


def test_how_to_clip_is_saved_and_may_be_another_for_one_run(tmp_path):
    named = {"id": "mlp", "config": {"width": 8, "depth": 1}}
    diffkit.build({**SPEC, "model": named, "clip": {"dynamic": 0.9}}).save(tmp_path)
    assert diffkit.load(tmp_path).spec.clip.dynamic == 0.9
    pipeline = wild(clip={"dynamic": 0.9})
    dynamic = pipeline.sample(4, steps=3)
    static = pipeline.sample(4, steps=3, clip=True)
    assert not torch.equal(dynamic, static)
    assert torch.equal(static, wild().sample(4, steps=3))
    assert torch.equal(dynamic, wild().sample(4, steps=3, clip={"dynamic": 0.9}))


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ({"dynamic": 0.0}, r"clip.dynamic = 0.0"),
        ({"dynamc": 0.5}, r"clip.dynamc: there is no such key; the keys are dynamic"),
        ("dynamic", r"clip is"),
        ([0.5], r"clip is"),
    ],
)
def test_a_wrong_way_to_clip_says_so(clip, words):
    with pytest.raises(SpecError, match=words):
        wild().sample(1, clip=clip)
