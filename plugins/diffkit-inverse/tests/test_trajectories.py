"""What the samplers are at their ends, and what every trajectory keeps to."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from diffkit.bundled.samplers.ddpm import DDPM
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.noise import SampleNoise
from diffkit.errors import ComponentError
from diffkit.testing.trajectories import RecordingDenoiser, noise_for
from diffkit_inverse.dps import DPSBlur, DPSInpaint, DPSSuperResolution
from diffkit_inverse.repaint import RePaint, itinerary
from diffkit_inverse.replacement import Replacement
from diffkit_inverse.sdedit import SDEdit

from . import inverse_problems as problems

PICTURE = {"image": problems.IMAGE}
SAMPLERS = {
    "replacement": (Replacement(), problems.PAINTING),
    "repaint": (RePaint(jump_length=2, resamplings=3), problems.PAINTING),
    "dps-inpaint": (DPSInpaint(), problems.PAINTING),
    "dps-super-resolution": (DPSSuperResolution(), {"measurement": problems.SMALL}),
    "dps-blur": (DPSBlur(sigma=0.3), {"measurement": problems.IMAGE}),
    "sdedit": (SDEdit(), PICTURE),
    "sdedit, ddim": (SDEdit(ancestral=False), PICTURE),
}
every = pytest.mark.parametrize(("sampler", "inputs"), SAMPLERS.values(), ids=SAMPLERS)


def noise_of(indices, seed=3):
    return SampleNoise(seed=seed, indices=indices, dtype=torch.float64)


def trajectory_of(sampler, inputs, indices, steps=10, exact=None):
    exact, noise = exact or problems.denoiser(), noise_of(indices)
    x = exact.process.prior((len(indices), *problems.SHAPE), noise)
    times = problems.times_of(exact, steps)
    return list(sampler.trajectory(exact, x, times, noise, inputs))


@every
def test_a_trajectory_visits_every_time_and_ends_at_the_last(sampler, inputs):
    states = trajectory_of(sampler, inputs, range(2))
    times = problems.times_of(problems.denoiser(), 10)
    assert set(times[1:]) <= {state.t for state in states}
    assert states[-1].t == times[-1]
    assert all(state.x.isfinite().all() for state in states)


@every
def test_calls_are_as_declared(sampler, inputs):
    for steps in (1, 2, 10, 13):
        watched = RecordingDenoiser(problems.denoiser())
        trajectory_of(sampler, inputs, range(2), steps, watched)
        assert len(watched.asked) == sampler.calls(problems.times_of(problems.denoiser(), steps))


@every
def test_the_same_noise_gives_the_same_trajectory_whatever_the_batch(sampler, inputs):
    whole = trajectory_of(sampler, inputs, range(4))[-1].x
    assert torch.equal(whole, trajectory_of(sampler, inputs, range(4))[-1].x)
    alone = trajectory_of(sampler, inputs, [2])[-1].x
    torch.testing.assert_close(alone[0], whole[2], rtol=0, atol=1e-9)


@every
def test_nothing_given_or_yielded_is_written_to(sampler, inputs):
    exact, noise = problems.denoiser(), noise_of(range(3))
    x = exact.process.prior((3, *problems.SHAPE), noise)
    given = [x, *inputs.values()]
    before, kept = [value.clone() for value in given], []
    for state in sampler.trajectory(exact, x, problems.times_of(exact, 10), noise, inputs):
        kept.append((state.x, state.x.clone()))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(torch.equal(a, b) for a, b in kept)


@every
def test_modes_do_not_leak_and_no_graph_is_kept(sampler, inputs):
    exact, noise = problems.denoiser(), noise_of(range(2))
    x = exact.process.prior((2, *problems.SHAPE), noise)
    states = sampler.trajectory(exact, x, problems.times_of(exact, 4), noise, inputs)
    while True:
        with torch.no_grad():
            state = next(states, None)
            assert not torch.is_grad_enabled()
        if state is None:
            return
        assert torch.is_grad_enabled()
        assert not state.x.requires_grad


@every
def test_float32_stays_float32(sampler, inputs):
    exact = problems.denoiser()
    noise = SampleNoise(seed=0, indices=range(2))
    x = exact.process.prior((2, *problems.SHAPE), noise)
    for state in sampler.trajectory(exact, x, problems.times_of(exact, 5), noise, inputs):
        assert state.x.dtype == torch.float32


@pytest.mark.parametrize("sampler", [Replacement(), RePaint(jump_length=2, resamplings=2)])
def test_what_is_known_comes_out_exactly_as_given(sampler):
    end = trajectory_of(sampler, problems.PAINTING, range(5))[-1].x.flatten(1)
    given = problems.IMAGE.flatten()[problems.KNOWN]
    assert torch.equal(end[:, problems.KNOWN], given.expand(5, 2))
    assert not torch.isclose(end[:, problems.UNKNOWN], problems.IMAGE.flatten()[2:]).any()


def test_the_known_part_of_each_state_is_a_draw_at_its_own_time():
    """Exactly: its mean is alpha_s image, and the one draw that it holds has the weight sigma_s."""
    exact = problems.denoiser()
    x = torch.zeros(1 + 4 * 25, *problems.SHAPE, dtype=torch.float64)
    times, image = problems.times_of(exact, 8), problems.IMAGE.flatten()[:2]
    for state in Replacement().trajectory(exact, x, times, problems.Units(), problems.PAINTING):
        at, known = exact.process.level(state.t), state.x.flatten(1)[:, :2]
        torch.testing.assert_close(known[0], at.alpha * image)
        spread = (known[1:] - known[0]).square().sum(0)
        torch.testing.assert_close(spread, torch.full_like(spread, at.sigma**2))


@pytest.mark.parametrize("jump_length", [1, 3, 50])
def test_repaint_without_resampling_is_replacement(jump_length):
    plain = trajectory_of(Replacement(), problems.PAINTING, range(3))
    once = trajectory_of(
        RePaint(jump_length=jump_length, resamplings=1), problems.PAINTING, range(3)
    )
    assert len(plain) == len(once)
    assert all(torch.equal(a.x, b.x) for a, b in zip(plain, once, strict=True))


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_a_jump_that_does_not_fit_is_made_to_and_said(steps):
    exact = RecordingDenoiser(problems.denoiser())
    times = problems.times_of(exact, steps)
    x = torch.zeros(3, *problems.SHAPE, dtype=torch.float64)

    def end(sampler):
        return problems.end_of(sampler, exact, x, times, noise_for(0, 3), problems.PAINTING)

    with pytest.warns(UserWarning, match=f"jump_length = 10 does not fit into {steps} steps"):
        found = end(RePaint())
    assert len(exact.asked) == RePaint().calls(times) == 1 + 10 * (steps - 1)
    assert torch.equal(found, end(RePaint(jump_length=steps - 1)))
    assert not torch.equal(found, end(Replacement()))


def test_of_one_step_there_is_nothing_to_climb():
    exact = problems.denoiser()
    x = torch.zeros(3, *problems.SHAPE, dtype=torch.float64)
    ends = [
        problems.end_of(sampler, exact, x, (1.0, 0.0), noise_for(0, 3), problems.PAINTING)
        for sampler in (RePaint(), Replacement())
    ]
    assert torch.equal(*ends)


def test_a_route_climbs_as_far_and_as_often_as_it_is_told():
    moves = itinerary(5, 2, 3)
    assert moves[:4] == [(0, 1), (1, 2), (2, 0), (0, 1)]
    assert [move for move in moves if move[1] < move[0]] == [(2, 0), (2, 0), (4, 2), (4, 2)]
    assert moves[-1] == (4, 5)
    assert all(a[1] == b[0] for a, b in pairwise(moves))
    for steps in range(1, 30):
        for jump in (1, 2, 7):
            route = itinerary(steps, jump, 3)
            assert all(end < steps for start, end in route[:-1] if end > start)
            assert all(end >= 0 for _, end in route)


def test_a_climb_keeps_the_distribution():
    """With nothing known, climbing and coming down again changes what a fine trajectory ends in by
    little.
    """
    nothing = {"image": problems.IMAGE, "mask": torch.ones_like(problems.MASK)}
    exact = problems.denoiser()
    whole = problems.Moments(problems.MEAN, problems.COVARIANCE)
    found = problems.exact_moments(RePaint(jump_length=10, resamplings=2), exact, 200, nothing)
    mean, covariance = found.apart(whole)
    assert mean < 1e-2
    assert covariance < 0.05


def test_the_strongest_edit_is_plain_sampling():
    plain = trajectory_of(DDPM(), {}, range(3))
    edited = trajectory_of(SDEdit(strength=1.0), PICTURE, range(3))
    assert all(torch.equal(a.x, b.x) for a, b in zip(plain, edited, strict=True))


def test_a_weak_edit_returns_the_image():
    apart = []
    image = {"image": problems.MEAN.reshape(1, *problems.SHAPE)}
    for strength in (0.5, 0.1, 0.01):
        end = trajectory_of(SDEdit(strength=strength), image, range(200), steps=1000)[-1].x
        apart.append(float((end - image["image"]).square().mean().sqrt()))
    assert apart[0] > apart[1] > apart[2]
    # The start is sigma away, and so is where one lands from there: independently.
    assert apart[2] < 2**0.5 * problems.denoiser().process.level(0.01).sigma * 1.1


def test_an_edit_starts_at_the_time_nearest_to_its_strength():
    watched = RecordingDenoiser(problems.denoiser())
    trajectory_of(SDEdit(strength=0.43), PICTURE, range(1), exact=watched)
    assert max(watched.asked) == pytest.approx(0.4)


def test_what_dps_clips_is_not_what_it_asks_the_gradient_of():
    """With predictions far out of range a gradient through the clipping would be 0."""
    watched = RecordingDenoiser(ClippedDenoiser(problems.denoiser(), (-1e-3, 1e-3)))
    inputs = {"measurement": problems.SMALL}
    weak, strong = (
        trajectory_of(DPSSuperResolution(zeta=zeta), inputs, range(50), exact=watched)[-1].x.mean()
        for zeta in (1e-6, 0.5)
    )
    assert abs(strong - 0.5) < abs(weak - 0.5)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RePaint(jump_length=0), "jump_length"),
        (lambda: RePaint(resamplings=0), "resamplings"),
        (lambda: DPSInpaint(zeta=0.0), "zeta"),
        (lambda: DPSBlur(sigma=-1.0), "sigma"),
        (lambda: DPSSuperResolution(factor=0), "factor"),
        (lambda: SDEdit(strength=0.0), "strength"),
        (lambda: SDEdit(strength=1.1), "strength"),
        (lambda: SDEdit(strength=float("nan")), "strength"),
    ],
)
def test_values_out_of_range_are_refused(make, field):
    with pytest.raises(ComponentError, match=field):
        make()


@pytest.mark.parametrize(
    ("sampler", "inputs", "words"),
    [
        (Replacement(), {**problems.PAINTING, "mask": torch.ones(1, 1, 3, 2)}, "'mask'.*1, 1, 3"),
        (SDEdit(), {"image": torch.ones(1, 4)}, "'image'"),
        (DPSSuperResolution(factor=3), {"measurement": problems.SMALL}, "factor = 3.*2 x 2"),
        (DPSSuperResolution(factor=2), {"measurement": problems.IMAGE}, "measurement"),
        (DPSSuperResolution(factor=1), {"measurement": problems.SMALL}, r"must be \[1, 2, 2\]"),
        (DPSBlur(sigma=1.0), {"measurement": problems.IMAGE}, "sigma = 1.*at most 0.333"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(sampler, inputs, words):
    with pytest.raises(ComponentError, match=words):
        trajectory_of(sampler, inputs, range(2))
