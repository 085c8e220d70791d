"""GuidedDenoiser: what a guidance's author does not have to write."""

from __future__ import annotations

import pytest
import torch

from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core import GuidedDenoiser, joined, repeated
from diffkit.errors import ComponentError
from diffkit.testing import ExactGaussian

PROCESS = VariancePreserving(schedule=Linear())


class Mean(GuidedDenoiser):
    def combine(self, predictions, x_t, t):
        total = sum(prediction.output for prediction in predictions)
        return predictions[0].with_output(total / len(predictions))


class Watched(ExactGaussian):
    """Notes what it is asked and started with."""

    def __init__(self, mean=0.0):
        super().__init__(PROCESS, mean=mean)
        self.asked, self.started = [], None

    def start(self, inputs):
        found = Watched()
        found.started = {name: len(value) for name, value in inputs.items()}
        return found

    def check_times(self, times):
        self.asked.append(("times", *times))

    def __call__(self, x_t, t, *, given=None, times=None):
        rows = {name: len(v) for name, v in {**(given or {}), **(times or {})}.items()}
        self.asked.append((len(x_t), rows))
        return super().__call__(x_t, t)


def test_the_mean_of_two_exact_denoisers_is_that_of_the_mean_of_their_means() -> None:
    """Of Gaussians of one variance, `E[x_0 | x_t]` is affine in the mean."""
    x = torch.randn(5, 3, dtype=torch.float64)
    one, other, between = (ExactGaussian(PROCESS, mean=mean) for mean in (-1.0, 2.0, 0.5))
    for t in (0.1, 0.5, torch.linspace(0.1, 0.9, 5).double()):
        found = Mean(one, other)(x, t).x_0
        torch.testing.assert_close(found, between(x, t).x_0, rtol=0, atol=1e-12)


def test_copies_are_asked_in_one_call_and_told_as_often() -> None:
    inner, x = Watched(), torch.randn(4, 3)
    t = torch.linspace(0.1, 0.9, 4).double()
    found = Mean(inner, copies=3)(x, t, given={"x_0": x}, times={"r": t})
    assert inner.asked == [(12, {"x_0": 12, "r": 12})]
    torch.testing.assert_close(found.output, ExactGaussian(PROCESS)(x, t).output)


def test_all_are_started_with_their_own_rows_and_checked() -> None:
    first, other = Watched(), Watched()
    guided = Mean(first, other, copies=2)
    started = guided.start({"image": torch.zeros(4, 3)})
    assert isinstance(started, Mean)
    assert started.wrapped.started == {"image": 8}
    assert started.others[0].started == {"image": 4}
    assert guided.wrapped is first
    guided.check_times([0.5])
    assert first.asked == other.asked == [("times", 0.5)]


def test_the_extras_of_the_first_are_kept_unless_there_are_others() -> None:
    class Says(ExactGaussian):
        def __call__(self, x_t, t, *, given=None, times=None):
            return super().__call__(x_t, t).with_extras({"h": x_t})

    class Anew(Mean):
        def combine(self, predictions, x_t, t):
            return super().combine(predictions, x_t, t).with_extras({"mine": x_t})

    x = torch.randn(2, 3)
    assert Mean(Says(PROCESS), ExactGaussian(PROCESS))(x, 0.5).extras["h"] is x
    assert list(Anew(Says(PROCESS))(x, 0.5).extras) == ["mine"]


def test_joined_conditions_have_the_same_names() -> None:
    a, b = {"label": torch.zeros(2)}, {"label": torch.ones(2)}
    assert joined(a, b)["label"].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert repeated(b, 2)["label"].tolist() == [1.0] * 4
    with pytest.raises(ComponentError, match="have the same names"):
        joined(a, {})


def test_it_guides_something() -> None:
    with pytest.raises(ComponentError, match="Mean: it guides a denoiser"):
        Mean()
