"""The laws of samplers: what a trajectory is. Where it leads is in `limits`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.denoiser import DataRange, Denoiser
from diffkit.core.noise import Noise
from diffkit.testing.check import Check, check
from diffkit.testing.checks import limits, uneven
from diffkit.testing.checks.setups import (
    consent,
    curves_of,
    exact_for,
    refuses,
    runnable_sampler_of,
    sampler_of,
    shape_for,
    told,
    usual,
)
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require, within
from diffkit.testing.reference import UniformLogSNR, ZeroTerminal
from diffkit.testing.trajectories import (
    ConstantDenoiser,
    RecordingDenoiser,
    even,
    final_sample,
    noise_for,
    states_of,
)

_ROUNDING = "the same arithmetic in float64, so only its rounding may differ"


def _times(subject: ComponentUnderTest, steps: int = 10) -> tuple[float, ...]:
    return Trailing().times(steps, usual(subject).schedule)


def _start(subject: ComponentUnderTest, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return usual(subject).prior(
        (count, *shape_for(subject)), noise_for(subject.seed_for("start"), count, dtype)
    )


def _exact(subject: ComponentUnderTest) -> Denoiser:
    return exact_for(subject, usual(subject))


def _noise(subject: ComponentUnderTest, count: int) -> Noise:
    return noise_for(subject.seed_for("noise"), count)


@check
def visits_its_times(subject: ComponentUnderTest) -> None:
    """A trajectory yields a state at each time after the first, and the last at the last time."""
    sampler, times = runnable_sampler_of(subject), _times(subject)
    x = _start(subject, 3)
    found = list(states_of(sampler, _exact(subject), x, times, _noise(subject, 3)))
    visited = [state.t for state in found]
    require(
        all(isinstance(t, float) for t in visited),
        "the times of the states",
        measured=sorted({type(t).__name__ for t in visited}),
        expected="host numbers (float)",
    )
    missing = sorted(set(times[1:]) - set(visited))
    require(
        not missing and visited[-1] == times[-1],
        f"the times visited, asked to go over {len(times)} times from 1 to 0",
        measured=f"{len(visited)} states, the last at {visited[-1:]}, none at {missing[:3]}",
        expected="each of the times after the first, the last one last",
    )
    wrong = [state.t for state in found if state.x.shape != x.shape]
    require(not wrong, "the shape of x", measured=f"another at t = {wrong[:3]}", expected=x.shape)
    finite = all(bool(state.x.isfinite().all()) for state in found)
    require(finite, "the states", measured="numbers that are not finite", expected="finite ones")


@check
def asks_as_often_as_declared(subject: ComponentUnderTest) -> None:
    """A trajectory asks the denoiser as often as `calls` says."""
    sampler = runnable_sampler_of(subject)
    if sampler.calls(_times(subject)) is None:
        raise NotApplicable("it declares that its calls depend on the samples")
    for times in (_times(subject, 1), _times(subject, 2), _times(subject), even(7, 1.0, 0.3)):
        watched = RecordingDenoiser(_exact(subject))
        final_sample(sampler, watched, _start(subject, 2), times, _noise(subject, 2))
        require(
            len(watched.asked) == sampler.calls(times),
            f"calls of the denoiser in {len(times) - 1} steps from {times[0]} to {times[-1]}",
            measured=len(watched.asked),
            expected=sampler.calls(times),
            why="users compare samplers at equal numbers of calls",
        )


@check
def asks_where_networks_are_trained(subject: ComponentUnderTest) -> None:
    """The denoiser is asked at host times between t_min and 1, never at t = 0."""
    sampler = runnable_sampler_of(subject)
    for schedule in (Linear(), UniformLogSNR()):
        process = curves_of(subject)[0](schedule)
        if refuses(subject, process):
            continue
        watched = RecordingDenoiser(exact_for(subject, process))
        times = Trailing().times(10, schedule)
        final_sample(sampler, watched, _start(subject, 2), times, _noise(subject, 2))
        asked = [torch.as_tensor(t, dtype=torch.float64).cpu() for t in watched.asked]
        low, high = min(float(t.min()) for t in asked), max(float(t.max()) for t in asked)
        require(
            low >= schedule.t_min * (1 - 1e-9) and high <= 1.0,
            f"the times asked on {type(schedule).__name__}",
            measured=f"from {low:.6g} to {high:.6g}",
            expected=f"within [{schedule.t_min:.6g}, 1]",
            why="a network has never seen less noise than at t_min",
        )
        on_device = [t for t in watched.asked if isinstance(t, Tensor) and t.device.type != "cpu"]
        require(not on_device, "times asked", measured="device tensors", expected="host numbers")


@check
def same_noise_same_trajectory(subject: ComponentUnderTest) -> None:
    """The same start and the same noise give the same trajectory, on a used and on a new
    instance.
    """
    sampler, times, x = runnable_sampler_of(subject), _times(subject), _start(subject, 3)
    ends = [
        final_sample(one, _exact(subject), x, times, _noise(subject, 3))
        for one in (sampler, sampler, runnable_sampler_of(subject))
    ]
    within("a second trajectory of one instance", ends[1], ends[0], 0.0, "nothing was changed")
    within("a trajectory of a new instance", ends[2], ends[0], 0.0, "nothing was changed")


@check
def trajectories_do_not_share_state(subject: ComponentUnderTest) -> None:
    """Two trajectories of one instance that go on in turn end where each would alone."""
    sampler, times = runnable_sampler_of(subject), _times(subject)
    starts = (_start(subject, 3), -0.5 * _start(subject, 3))
    alone = [final_sample(sampler, _exact(subject), x, times, _noise(subject, 3)) for x in starts]
    running = [states_of(sampler, _exact(subject), x, times, _noise(subject, 3)) for x in starts]
    for first, second in zip(*running, strict=True):
        ends = (first.x, second.x)
    for index in range(2):
        within(
            f"trajectory {index + 1} of two",
            ends[index],
            alone[index],
            0.0,
            "history is a trajectory's own",
        )


@check
def samples_do_not_depend_on_their_batch(subject: ComponentUnderTest) -> None:
    """A sample is the same alone and in a batch."""
    sampler, times, x = runnable_sampler_of(subject), _times(subject), _start(subject, 4)
    together = final_sample(sampler, _exact(subject), x, times, _noise(subject, 4))
    key = subject.seed_for("noise")
    for index in (0, 3):
        noise = type(noise_for(key, 1))(seed=key, indices=[index], dtype=torch.float64)
        alone = final_sample(sampler, _exact(subject), x[index : index + 1], times, noise)
        within(f"sample {index} alone", alone[0], together[index], 1e-9, _ROUNDING)


@check
def yielded_states_stay_as_they_are(subject: ComponentUnderTest) -> None:
    """Neither the start nor a state that was yielded is ever written to."""
    sampler, x = runnable_sampler_of(subject), _start(subject, 3)
    before, kept = x.clone(), []
    for state in states_of(sampler, _exact(subject), x, _times(subject), _noise(subject, 3)):
        kept.append((state, state.x.clone()))
    within("the start, after the trajectory", x, before, 0.0, "inputs are the caller's")
    for state, copy in kept:
        within(f"the state at t = {state.t:.3g}, later", state.x, copy, 0.0, "it was given away")


class _Switching(Noise):
    """One source of noise, and after `switch` another; counts its draws."""

    def __init__(self, sources: Sequence[Noise]) -> None:
        self._sources, self._current, self.drawn = sources, 0, 0

    def switch(self) -> None:
        self._current, self.drawn = 1, 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        self.drawn += 1
        return self._sources[self._current].normal(shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        self.drawn += 1
        return self._sources[self._current].uniform(shape)


@check
def no_noise_is_added_at_the_end(subject: ComponentUnderTest) -> None:
    """The step to t = 0 draws no noise."""
    sampler, times, x = runnable_sampler_of(subject), _times(subject), _start(subject, 3)
    exact = _exact(subject)
    *others, plain = [s.x for s in states_of(sampler, exact, x, times, _noise(subject, 3))]
    noise = _Switching([_noise(subject, 3), noise_for(subject.seed_for("other"), 3)])
    # By number, not by time: a trajectory that climbs back up is at times[-2] more than once.
    for number, state in enumerate(states_of(sampler, exact, x, times, noise), start=1):
        end = state.x
        if number == len(others):
            noise.switch()
    why = "noise added at t = 0 stays in the sample: data has none"
    within("the end, with other noise in the last step", end, plain, 0.0, why)
    require(noise.drawn == 0, "draws in the last step", measured=noise.drawn, expected=0, why=why)


@check
def noise_that_is_drawn_is_used(subject: ComponentUnderTest) -> None:
    """A sampler whose trajectory does not depend on the noise draws none."""
    sampler, times, x = runnable_sampler_of(subject), _times(subject), _start(subject, 3)
    noise = _Switching([_noise(subject, 3)])
    end = final_sample(sampler, _exact(subject), x, times, noise)
    if noise.drawn == 0:
        return
    other = noise_for(subject.seed_for("other"), 3)
    different = final_sample(sampler, _exact(subject), x, times, other)
    require(
        not torch.equal(end, different),
        f"the end of a trajectory that drew noise {noise.drawn} times",
        measured="the same for another noise",
        expected="another end, or no draws",
        why="drawing costs time, and hides that the noise is not used",
    )


@check
def modes_do_not_leak(subject: ComponentUnderTest) -> None:
    """No gradient or autocast mode is left changed at a yield."""
    sampler = runnable_sampler_of(subject)
    with torch.enable_grad():
        for state in states_of(
            sampler,
            _exact(subject),
            _start(subject, 2),
            _times(subject, 3),
            _noise(subject, 2),
        ):
            modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            cast = torch.is_autocast_enabled("cpu")
            torch.set_grad_enabled(True)
            require(
                modes == (True, False) and not cast,
                f"modes at the yield at t = {state.t:.3g}",
                measured=f"grad {modes[0]}, inference {modes[1]}, autocast {cast}",
                expected="grad True, inference False, autocast False, as before",
                why="a mode left on across a yield changes the consumer's code",
            )


@check
def keeps_the_dtype(subject: ComponentUnderTest) -> None:
    """States have the dtype of the start, and float32 trajectories end near float64 ones."""
    sampler, times = runnable_sampler_of(subject), _times(subject)
    exact = final_sample(sampler, _exact(subject), _start(subject, 3), times, _noise(subject, 3))
    single = noise_for(subject.seed_for("noise"), 3, torch.float32)
    x = _start(subject, 3).float()
    found = list(states_of(sampler, _exact(subject), x, times, single))
    dtypes = {state.x.dtype for state in found}
    require(dtypes == {torch.float32}, "dtypes", measured=dtypes, expected={torch.float32})
    if _draws(subject) == 0:
        within("the end in float32", found[-1].x, exact, 2e-4, "float32 rounds, in ten steps")


def _draws(subject: ComponentUnderTest) -> int:
    noise = _Switching([_noise(subject, 2)])
    final_sample(
        runnable_sampler_of(subject),
        _exact(subject),
        _start(subject, 2),
        _times(subject),
        noise,
    )
    return noise.drawn


@check
def clipping_is_left_to_the_run(subject: ComponentUnderTest) -> None:
    """A declared data range changes nothing, or else limits the x_0 and the epsilon of a
    trajectory.
    """
    sampler, x, process = runnable_sampler_of(subject), _start(subject, 3), usual(subject)
    # At t = 0 every sampler is at x_0 itself, whatever epsilon was: so end before.
    times = even(5, 1.0, 0.3)

    def end(x_0: float, data_range: DataRange | None) -> Tensor:
        insists = told(subject, ConstantDenoiser(process, x_0, data_range))
        return final_sample(sampler, insists, x, times, _noise(subject, 3))

    ranged = end(1.5, (-1.0, 1.0))
    if not torch.equal(ranged, end(1.5, None)):
        why = (
            "whoever plans the trajectory clips the predictions, once, for all samplers; one that "
            "limits x_0 itself has to derive epsilon again, or x_s fits neither"
        )
        within("the end for x_0 = 1.5 in the range [-1, 1]", ranged, end(1.0, None), 1e-9, why)


@check
def ends_within_what_was_clipped(subject: ComponentUnderTest) -> None:
    """A trajectory with clipped predictions ends at data within the range."""
    sampler, x = sampler_of(subject), _start(subject, 3)
    says = told(subject, ConstantDenoiser(usual(subject), 1.5, (-1.0, 1.0)))
    clipped = ClippedDenoiser(says, (-1.0, 1.0))
    end = final_sample(sampler, clipped, x, _times(subject, 5), _noise(subject, 3))
    why = "the step to t = 0 ends at the predicted x_0; tables in float32 miss it by 1e-4"
    within("the end for x_0 = 1.5 clipped to 1", end, torch.ones_like(end), 1e-3, why)


@check
def begins_where_no_signal_is_left(subject: ComponentUnderTest) -> None:
    """A trajectory from zero terminal SNR is finite."""
    sampler, schedule = runnable_sampler_of(subject), ZeroTerminal()
    process = curves_of(subject)[0](schedule)
    consent(subject, process)
    for spaced in (Trailing().times(10, schedule), Trailing().times(1, schedule)):
        x = _start(subject, 3)
        end = final_sample(sampler, exact_for(subject, process), x, spaced, _noise(subject, 3))
        require(
            bool(end.isfinite().all()),
            f"the end of {len(spaced) - 1} steps on a schedule with log-SNR -inf at t = 1",
            measured=end.flatten()[:4].tolist(),
            expected="finite numbers; or `requires` refuses schedule.zero_terminal_snr",
            why="alpha is 0 there, and must not be divided by",
        )


CHECKS: tuple[Check, ...] = (
    visits_its_times,
    asks_as_often_as_declared,
    asks_where_networks_are_trained,
    same_noise_same_trajectory,
    trajectories_do_not_share_state,
    samples_do_not_depend_on_their_batch,
    yielded_states_stay_as_they_are,
    no_noise_is_added_at_the_end,
    noise_that_is_drawn_is_used,
    modes_do_not_leak,
    keeps_the_dtype,
    clipping_is_left_to_the_run,
    ends_within_what_was_clipped,
    begins_where_no_signal_is_left,
    *limits.CHECKS,
    *uneven.CHECKS,
)
