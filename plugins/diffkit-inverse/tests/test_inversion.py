"""Inversion against the probability flow, which Gaussian data have in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.errors import ComponentError
from diffkit.testing.reference import UniformLogSNR
from diffkit.testing.trajectories import even
from diffkit_inverse import follow, invert, slerp
from diffkit_inverse.inversion import interpolate

from . import inverse_problems as problems

DATA = torch.tensor([[0.8, 0.1, -0.4, 0.2], [-0.3, 0.5, 0.9, 0.0]], dtype=torch.float64)
DATA = DATA.reshape(2, *problems.SHAPE)
smooth = pytest.mark.parametrize("process_class", [VariancePreserving, RectifiedFlow])


def flow_to(exact, x, s, t):
    """In the eigenbasis the deviation of each coordinate is that of its marginal at t."""
    variances, basis = torch.linalg.eigh(problems.COVARIANCE)
    (a_s, g_s), (a_t, g_t) = (
        [float(c) for c in exact.process.scales(exact.process.log_snr(u))] for u in (s, t)
    )
    ratio = ((a_t**2 * variances + g_t**2) / (a_s**2 * variances + g_s**2)).sqrt()
    inside = (x.flatten(1) - a_s * problems.MEAN) @ basis * ratio
    return (inside @ basis.T + a_t * problems.MEAN).reshape(x.shape)


def order(errors):
    return math.log2(errors[-2] / errors[-1])


@smooth
def test_the_noise_of_gaussian_data_is_that_of_the_exact_flow(process_class):
    exact = problems.denoiser(process_class, UniformLogSNR())
    noise = flow_to(exact, DATA, 0.15, 1.0)
    errors = [
        float((invert(exact, DATA, even(steps, 1.0, 0.15)) - noise).abs().max())
        for steps in (64, 128, 256)
    ]
    assert errors[-1] < 0.1
    assert order(errors) == pytest.approx(1.0, abs=0.2)


@smooth
def test_there_and_back_errs_at_first_order(process_class):
    exact = problems.denoiser(process_class, UniformLogSNR())
    errors = []
    for steps in (64, 128, 256):
        times = even(steps, 1.0, 0.15)
        errors.append(float((follow(exact, invert(exact, DATA, times), times) - DATA).abs().max()))
    assert errors[-1] < 0.05
    assert order(errors) == pytest.approx(1.0, abs=0.2)


def test_a_grid_that_ends_at_clean_data_is_inverted_too():
    exact = problems.denoiser(schedule=Linear())
    errors = []
    for steps in (50, 1000):
        times = problems.times_of(exact, steps)
        assert times[-1] == 0.0
        errors.append(float((follow(exact, invert(exact, DATA, times), times) - DATA).abs().max()))
    assert errors[1] < 0.02 < errors[0]


def test_slerp_is_on_the_arc():
    x = torch.tensor([[3.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 3.0], [2.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(slerp(x, y, 0.0), x)
    torch.testing.assert_close(slerp(x, y, 1.0), y)
    middle = slerp(x, y, 1 / 3)
    expected = [3 * math.cos(math.pi / 6), 3 * math.sin(math.pi / 6)]
    assert middle[0].tolist() == pytest.approx(expected)
    assert middle[1].tolist() == pytest.approx([4 / 3, 4 / 3])


def test_interpolation_ends_where_inversion_returns_to():
    exact = problems.denoiser()
    times = problems.times_of(exact, 20)
    a, b = DATA[:1], DATA[1:]
    frames = interpolate(exact, a, b, times, 5)
    assert frames.shape == (5, 1, *problems.SHAPE)
    for frame, image in ((frames[0], a), (frames[-1], b)):
        torch.testing.assert_close(frame, follow(exact, invert(exact, image, times), times))


def test_what_is_given_is_not_written_to():
    exact, before = problems.denoiser(), DATA.clone()
    interpolate(exact, DATA[:1], DATA[1:], problems.times_of(exact, 5), 3)
    assert torch.equal(before, DATA)


@pytest.mark.parametrize("times", [(1.0,), (0.2, 0.8), (1.0, 1.0), (1.5, 0.2), (1.0, -0.1)])
def test_times_that_do_not_fall_are_refused(times):
    with pytest.raises(ComponentError, match="fall from at most 1"):
        invert(problems.denoiser(), DATA, times)


def test_there_and_back_is_of_predictions_before_any_clipping():
    exact = problems.denoiser()
    clipped = ClippedDenoiser(exact, (-0.01, 0.01))
    times = problems.times_of(exact, 10)
    for way in (invert, follow):
        assert torch.equal(way(clipped, DATA, times), way(exact, DATA, times))


@pytest.mark.parametrize("wrapped", [False, True])
def test_levels_that_were_never_trained_are_refused(wrapped):
    process = RectifiedFlow(schedule=Rectified())
    denoiser = GaussianDenoiser(lambda x, c_noise, condition: x, Epsilon(), process)
    if wrapped:
        denoiser = ClippedDenoiser(denoiser, (-1.0, 1.0))
    for way in (invert, follow):
        with pytest.raises(ComponentError, match=r"never trained at; .* smallest trained time"):
            way(denoiser, DATA, (1.0, 0.5, 5e-4, 0.0))


def test_one_frame_is_refused():
    exact = problems.denoiser()
    with pytest.raises(ComponentError, match="frames = 1"):
        interpolate(exact, DATA[:1], DATA[1:], problems.times_of(exact, 5), 1)
