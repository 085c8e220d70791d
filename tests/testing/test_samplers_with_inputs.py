"""Samplers with inputs are run where the fixtures has them, and held to what a trajectory is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit.testing import Fixtures, components_under_test, run_checks


class Drawn(Sampler):
    """A fixed share of the way towards an image in each step; right."""

    process_class = GaussianProcess
    inputs = ("image",)

    def trajectory(self, denoiser, x, times, noise, inputs):
        for t, s in pairwise(times):
            prediction = denoiser(x, t)
            towards = torch.lerp(prediction.x_0, self.image(inputs), 0.5)
            x = denoiser.process.diffuse(towards, s, self.epsilon(prediction, s, x, noise))
            yield State(x, s, prediction)

    def image(self, inputs):
        return inputs["image"]

    def epsilon(self, prediction, s, x, noise):
        return noise.normal(x.shape) if s > 0 else torch.zeros_like(x)


class WritesIntoItsInput(Drawn):
    def image(self, inputs):
        return inputs["image"].clamp_(-0.1, 0.1)


class MixesTheBatch(Drawn):
    def epsilon(self, prediction, s, x, noise):
        return prediction.epsilon - prediction.epsilon.mean(0)


class DrawsInTheLastStep(Drawn):
    def epsilon(self, prediction, s, x, noise):
        return noise.normal(x.shape)


class ClimbsAtTheEnd(Drawn):
    """Does its last step but one twice; right: what is drawn in between stays out of the last."""

    def trajectory(self, denoiser, x, times, noise, inputs):
        *above, before, last, end = times
        for t, s in pairwise([*above, before, last]):
            x = denoiser.process.diffuse(denoiser(x, t).x_0, s, noise.normal(x.shape))
            yield State(x, s)
            if s == last and above:
                up = denoiser.process.transition(x, last, before)
                x = up.mean + up.variance.sqrt() * noise.normal(x.shape)
                yield State(x, before)
                x = denoiser.process.diffuse(denoiser(x, before).x_0, s, noise.normal(x.shape))
                yield State(x, s)
        x = denoiser(x, last).x_0 + 0 * self.image(inputs)
        yield State(x, end)

    def calls(self, times):
        return None


def failed(component, inputs):
    (subject,) = components_under_test(component)
    fixtures = Fixtures(inputs=inputs)
    (subject,) = components_under_test(component, fixtures={subject.entry.id: fixtures})
    outcomes = list(run_checks([subject]))
    return {o.check.name for o in outcomes if o.status == "failed"}, {
        o.check.name for o in outcomes if o.status == "passed"
    }


IMAGE = {"image": torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 1, 8, 8)}


def test_a_right_one_passes_and_is_run():
    wrong, right = failed(Drawn, IMAGE)
    assert not wrong
    assert {"visits_its_times", "same_noise_same_trajectory", "modes_do_not_leak"} <= right


def test_without_inputs_it_is_not_run():
    wrong, right = failed(Drawn, {})
    assert not wrong
    assert "visits_its_times" not in right


def test_a_climb_near_the_end_is_no_noise_in_the_last_step():
    _, right = failed(ClimbsAtTheEnd, IMAGE)
    assert "no_noise_is_added_at_the_end" in right


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (WritesIntoItsInput, "visits_its_times"),
        (MixesTheBatch, "samples_do_not_depend_on_their_batch"),
        (DrawsInTheLastStep, "no_noise_is_added_at_the_end"),
    ],
)
def test_what_is_wrong_is_found(mutant, check):
    wrong, _ = failed(mutant, IMAGE)
    assert check in wrong
