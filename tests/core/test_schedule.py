"""Laws of every bundled schedule."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.schedule import DiscreteSchedule, as_time
from diffkit.errors import ComponentError

# Machines differ in speed; a law does not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

SCHEDULES = {
    "linear": Linear(),
    "linear-50": Linear(steps=50),
    "linear-4000": Linear(steps=4000),
    "linear-raw-100": Linear(steps=100, rescale=False),
    "cosine": Cosine(),
    "cosine-50": Cosine(steps=50),
    "cosine-1": Cosine(steps=1),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
inner_times = st.floats(1e-6, 1.0)


def grid(schedule):
    return torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps


@every_schedule
@given(pair=st.tuples(inner_times, inner_times).filter(lambda p: abs(p[0] - p[1]) > 1e-9))
def test_log_snr_is_finite_and_strictly_decreasing(schedule, pair):
    # Slopes are at least 10, so times 1e-9 apart differ by 1e-8, far above float64 rounding.
    early, late = schedule.log_snr(min(pair)), schedule.log_snr(max(pair))
    assert early.isfinite()
    assert late.isfinite()
    assert early > late


@every_schedule
def test_clean_data_has_infinite_log_snr(schedule):
    assert schedule.log_snr(0.0) == float("inf")
    assert schedule.time_at(torch.tensor(float("inf"), dtype=torch.float64)) == 0.0


@every_schedule
def test_float64_throughout(schedule):
    assert schedule.log_snr(0.5).dtype == torch.float64
    assert schedule.log_snr(torch.tensor([0.5])).dtype == torch.float64
    assert schedule.time_at(schedule.log_snr(0.5)).dtype == torch.float64


@every_schedule
@given(times=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_scalar_equals_vector(schedule, times):
    vector = schedule.log_snr(torch.tensor(times, dtype=torch.float64))
    assert vector.shape == (len(times),)
    assert vector.tolist() == [schedule.log_snr(t).item() for t in times]


@every_schedule
@given(t=st.floats(0.0, 1.0))
def test_time_at_inverts_log_snr(schedule, t):
    # A few units of the last place of a number that is at most 1.
    assert schedule.time_at(schedule.log_snr(t)).item() == pytest.approx(t, rel=0, abs=1e-15)


@every_schedule
def test_time_at_inverts_on_the_grid_in_one_call(schedule):
    t = grid(schedule)
    assert (schedule.time_at(schedule.log_snr(t)) - t).abs().max() <= 1e-15


@every_schedule
def test_more_noise_than_the_schedule_has_is_an_error(schedule):
    with pytest.raises(ComponentError, match="no such noisy time"):
        schedule.time_at(schedule.log_snr(1.0) - 1e-3)


@every_schedule
@pytest.mark.parametrize("t", [-1e-9, 1.0 + 1e-9, float("nan")])
def test_a_time_outside_the_interval_is_an_error(schedule, t):
    with pytest.raises(ComponentError, match=r"in \[0, 1\]"):
        schedule.log_snr(t)
    with pytest.raises(ComponentError, match=r"in \[0, 1\]"):
        schedule.log_snr(torch.tensor([0.5, t], dtype=torch.float64))


@every_schedule
def test_grid_holds_the_product_of_the_betas(schedule):
    log_snr = schedule.log_snr(grid(schedule))
    with localcontext() as context:
        context.prec = 40
        signal, exact = Decimal(1), []
        for beta in schedule.betas.tolist():
            signal *= 1 - Decimal(beta)
            exact.append(float((signal / (1 - signal)).ln()))
    # 4000 float64 terms summed, each 1e-16 of a sum of at most 10.
    assert torch.allclose(log_snr, torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-12)


@every_schedule
def test_betas_lie_in_the_unit_interval(schedule):
    assert schedule.betas.dtype == torch.float64
    assert schedule.betas.shape == (schedule.steps,)
    assert bool(((schedule.betas > 0) & (schedule.betas < 1)).all())


@every_schedule
@given(fraction=st.floats(0.0, 1.0), data=st.data())
def test_both_powers_are_linear_between_grid_points(schedule, fraction, data):
    k = data.draw(st.integers(0, schedule.steps - 1))
    t = min((k + fraction) / schedule.steps, 1.0)
    ends = torch.tensor([k, k + 1], dtype=torch.float64) / schedule.steps
    part = min(max(t * schedule.steps - k, 0.0), 1.0)
    for power in (torch.sigmoid, lambda log_snr: torch.sigmoid(-log_snr)):
        low, high = power(schedule.log_snr(ends))
        # part is the difference of numbers up to 4000, so it carries 1e-12.
        assert power(schedule.log_snr(t)).item() == pytest.approx(
            torch.lerp(low, high, part).item(), rel=1e-11, abs=1e-14
        )


@every_schedule
def test_snap_keeps_the_grid_and_rounds_up(schedule):
    t = grid(schedule)
    assert torch.equal(schedule.snap(t), t)
    assert torch.equal(schedule.snap(t - 0.5 / schedule.steps), t)
    assert schedule.snap(torch.tensor(0.0, dtype=torch.float64)) == schedule.t_min
    assert schedule.t_min == 1 / schedule.steps


@every_schedule
def test_a_time_that_missed_the_grid_by_rounding_reads_the_grid(schedule):
    t = grid(schedule)
    exact = schedule.log_snr(t)
    for nudged in (t * (1 - 2e-16), (t * (1 + 2e-16)).clamp(max=1.0), 1 - (1 - t)):
        assert torch.equal((nudged * schedule.steps).round(), (t * schedule.steps).round())
        assert torch.equal(schedule.snap(nudged), t)
        # Powers move by T (one grid step's worth of it at most) times the error of the time.
        near = schedule.log_snr(nudged)
        moved = (torch.sigmoid(near) - torch.sigmoid(exact)).abs().max()
        assert moved <= 2e-16 * max(schedule.steps, 10)


def test_known_numbers_of_cosine():
    cosine = Cosine()
    # Five digits are given in the paper's terms.
    assert torch.sigmoid(cosine.log_snr(1.0)).item() == pytest.approx(2.4288e-9, rel=3e-5)
    assert cosine.betas[0].item() == pytest.approx(4.12842e-5, rel=2e-6)
    clipped = cosine.betas == 0.999
    assert clipped[-1]
    assert clipped.sum() == 1


def test_known_numbers_of_linear():
    betas = Linear().betas
    assert betas[0] == 1e-4
    assert betas[-1] == 0.02
    assert betas[499].item() == pytest.approx(1e-4 + 499 / 999 * 0.0199, rel=1e-14)


def test_rescaling_keeps_the_curve():
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    fine, coarse = (torch.sigmoid(Linear(steps=n).log_snr(t)) for n in (1000, 4000))
    # The sum of betas is kept exactly; what remains are terms of second order in the betas.
    assert torch.allclose(fine, coarse, rtol=0.05, atol=0)
    raw = torch.sigmoid(Linear(steps=4000, rescale=False).log_snr(t))
    assert not torch.allclose(fine, raw, rtol=0.05, atol=0)


def test_linear_names_what_is_wrong():
    with pytest.raises(ComponentError, match=r"beta_last 0\.01 is below beta_first 0\.02"):
        Linear(beta_first=0.02, beta_last=0.01)
    with pytest.raises(ComponentError, match="take more than 20 steps"):
        Linear(steps=20)


def test_betas_outside_the_unit_interval_are_named():
    class Broken(DiscreteSchedule):
        @property
        def betas(self):
            return torch.tensor([0.1, 1.0, 0.1])

    with pytest.raises(ComponentError, match=r"Broken: beta_2 = 1 is outside \(0, 1\)"):
        Broken().log_snr(0.5)


def test_as_time_gives_float64():
    assert as_time(0.25).dtype == torch.float64
    assert as_time(torch.tensor([0.25])).dtype == torch.float64
