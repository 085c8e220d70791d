"""A network is never asked at a noise level, or at a time, that it was not trained at."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.assembly.condition_flow import ConditionFlow
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.parameterizations.edm import EDM
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.bundled.weightings.edm import EDM as EDMWeighting
from diffkit.bundled.weightings.min_snr import MinSNR
from diffkit.bundled.weightings.p2 import P2
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.loss import Batch, LossContext
from diffkit.core.noise import BatchNoise
from diffkit.core.process import GaussianProcess
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.times import DrawnTimes
from diffkit.errors import ComponentError
from diffkit.functional.gaussian import Scales

FLOW = RectifiedFlow(schedule=Rectified())
SPEC = {
    "schedule": "rectified",
    "process": "rectified-flow",
    "parameterization": "flow",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
}


def zero(x, c_noise, condition):
    return 0 * x


def denoiser(trained=FLOW, sampling=None, **more):
    return GaussianDenoiser(zero, Epsilon(), trained, sampling, **more)


@pytest.mark.parametrize("sampling", [None, RectifiedFlow(schedule=Rectified())], ids=["own", "as"])
def test_below_the_smallest_trained_time_is_an_error(sampling):
    """Whether the schedule is named again or not."""
    asked = denoiser(FLOW, sampling)
    asked.check_times((1.0, 0.5, 1e-3, 0.0))
    asked.check_times((1.0, 0.9996e-3, 0.0))
    for t in (0.9e-3, torch.tensor([0.5, 0.9e-3], dtype=torch.float64)):
        with pytest.raises(ComponentError, match=r"never trained at.*smallest trained time, 0.001"):
            asked(torch.zeros(2, 2), t)
    with pytest.raises(ComponentError, match="steps that are even in time may be 1000 at most"):
        asked.check_times((1.0, 0.5, 0.9e-3, 0.0))


@pytest.mark.parametrize("choices", [{}, {"schedule": "rectified"}, {"process": "rectified-flow"}])
def test_every_way_to_sample_says_so_before_anything_is_computed(choices):
    pipeline = diffkit.build(SPEC, device="cpu")
    asked = []
    pipeline.system.model.register_forward_pre_hook(lambda *_: asked.append(1))
    for sample in (pipeline.sample, pipeline.trajectory, pipeline.batches):
        with pytest.raises(ComponentError, match="1000 at most"):
            sample(1, steps=2000, **choices)
    assert not asked
    assert pipeline.sample(1, steps=1000, sampler="ddpm", progress=False).shape == (1, 2)


def test_a_network_of_a_grid_is_asked_on_it():
    own = VariancePreserving(schedule=Cosine(steps=10))
    asked = denoiser(own, grid=10)
    asked.check_times((1.0, 0.7, 0.1, 0.0))
    with pytest.raises(ComponentError, match=r"at t = 0.75, and .* multiples of 1/10"):
        asked.check_times((1.0, 0.75, 0.0))
    other = denoiser(own, VariancePreserving(schedule=Cosine(steps=5)), grid=10)
    with pytest.raises(ComponentError, match="which has the noise level of the trained time"):
        other.check_times((1.0, 0.2, 0.0))


class PerCoordinate(GaussianProcess):
    """Log-SNRs `l(t) - k t`, or with `apart` 0 the same for all, one a coordinate."""

    def __init__(self, *, schedule: NoiseSchedule, apart: float = 1.0) -> None:
        self._schedule, self._apart = schedule, apart

    @property
    def schedule(self) -> NoiseSchedule:
        return self._schedule

    def log_snr(self, t):
        t = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)
        places = torch.arange(3, dtype=torch.float64)
        return self._schedule.log_snr(t) - self._apart * t * places

    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt())

    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)


EACH, ALL = PerCoordinate(schedule=Cosine()), VariancePreserving(schedule=Cosine())


@pytest.mark.parametrize(
    ("trained", "sampling"),
    [
        (EACH, ALL),
        (ALL, EACH),
        (EACH, PerCoordinate(schedule=Linear(beta_last=0.003))),
        (EACH, PerCoordinate(schedule=Cosine(), apart=2.0)),
    ],
    ids=["to one", "from one", "schedule", "slope"],
)
def test_coordinates_whose_levels_never_came_together_are_refused(trained, sampling):
    asked = denoiser(trained, sampling)
    with pytest.raises(ComponentError, match="one log-SNR for each coordinate"):
        asked.check_times((0.9, 0.5, 0.0))
    for t in (0.5, torch.tensor([0.5, 0.3], dtype=torch.float64)):
        with pytest.raises(ComponentError, match="one log-SNR for each coordinate"):
            asked(torch.zeros(2, 3), t)


@pytest.mark.parametrize(
    ("trained", "sampling"),
    [
        (EACH, PerCoordinate(schedule=Cosine())),
        (PerCoordinate(schedule=Cosine(), apart=0.0), ALL),
        (ALL, PerCoordinate(schedule=Cosine(), apart=0.0)),
        (ALL, PerCoordinate(schedule=Linear(), apart=0.0)),
    ],
    ids=["same", "to one", "from one", "schedule"],
)
def test_coordinates_whose_levels_coincide_are_right(trained, sampling):
    """The rescaled sample is one of the trained process, with the same x_0 and epsilon."""
    x_0, epsilon = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    seen = []

    def noted(x, c_noise, condition):
        seen.append((x, c_noise))
        return 0 * x

    asked = GaussianDenoiser(noted, Epsilon(), trained, sampling)
    asked.check_times((0.5, 0.3, 0.0))
    asked(sampling.diffuse(x_0, 0.5, epsilon), 0.5)
    ((x, c_noise),) = seen
    u = float(trained.schedule.time_at(sampling.schedule.log_snr(0.5)))
    assert torch.allclose(x, trained.diffuse(x_0, u, epsilon), rtol=0, atol=1e-7)
    assert c_noise.tolist() == pytest.approx([1000 * u] * 2, rel=1e-6)


@pytest.mark.parametrize("weighting", [MinSNR(), P2(), EDMWeighting()])
def test_weightings_of_one_level_a_sample_refuse_one_for_each_coordinate(weighting):
    t = torch.tensor([0.5, 0.3], dtype=torch.float64)
    context = LossContext(
        denoiser(EACH),
        EACH,
        BatchNoise(seed=0, step=0, rows=range(2), total=2),
        lambda _: DrawnTimes(t, torch.ones_like(t)),
        0,
    )
    batch = Batch(torch.zeros(2, 3))
    assert Simple()(batch, context).values.shape == (2,)
    with pytest.raises(ComponentError, match="a weighting needs one log-SNR a sample"):
        Simple(weighting=weighting)(batch, context)


@pytest.mark.parametrize("t", [0.5, torch.tensor([0.5, 0.3], dtype=torch.float64)])
def test_a_network_told_one_level_a_sample_refuses_one_for_each_coordinate(t):
    told = []

    def network(x, c_noise, condition):
        told.append(c_noise)
        return 0 * x

    GaussianDenoiser(network, Epsilon(), EACH)(torch.zeros(2, 3), t)
    assert [tuple(c.shape) for c in told] == [(2,)]
    with pytest.raises(ComponentError, match="EDM: it tells the network one log-SNR a sample"):
        GaussianDenoiser(network, EDM(), EACH)(torch.zeros(2, 3), t)
    assert len(told) == 1


def test_what_the_model_takes_and_nobody_gives_is_named():
    pipeline = diffkit.build(
        {**SPEC, "model": "unet", "encoder": None, "data": {"shape": [1, 8, 8]}}, device="cpu"
    )
    system = pipeline.system
    object.__setattr__(system.parts, "flow", ConditionFlow(model=("estimate",)))
    with pytest.raises(ComponentError, match="takes the conditions estimate, which are not given"):
        system.denoiser(condition={})
