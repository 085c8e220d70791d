"""What comes with a question to a denoiser, and with its answer."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.parameterizations.edm import EDM
from diffkit.bundled.parameterizations.flow import Flow
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.core import (
    ClippedDenoiser,
    Declared,
    EpsilonModel,
    GaussianDenoiser,
    GaussianProcess,
    Output,
)
from diffkit.errors import ComponentError, SpecError

FLOW = RectifiedFlow(schedule=Rectified())


class Notes:
    """A network that notes what it is told, and answers with what `answer` makes of that."""

    def __init__(self, answer=lambda x, c_noise, condition: x) -> None:
        self.told, self._answer = {}, answer

    def __call__(self, x, c_noise, condition):
        self.told = dict(condition)
        return self._answer(x, c_noise, condition)


def denoiser(network, process=FLOW, sampling=None, parameterization=None, **declared):
    return GaussianDenoiser(
        network,
        parameterization or Flow(),
        process,
        sampling,
        condition={"label": torch.arange(3)},
        declared=Declared(**declared),
        data_range=(-1.0, 1.0),
    )


def test_given_tensors_reach_the_network_beside_its_conditions() -> None:
    network, x = Notes(), torch.randn(3, 2)
    denoiser(network, given=("x_0",))(x, 0.5, given={"x_0": x})
    assert network.told.keys() == {"label", "x_0"}
    assert network.told["x_0"] is x


def test_a_tensor_that_is_not_given_is_not_there() -> None:
    network = Notes()
    denoiser(network, given=("x_0",))(torch.randn(3, 2), 0.5)
    assert network.told.keys() == {"label"}


@pytest.mark.parametrize("r", [0.25, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)])
def test_a_second_time_is_told_as_the_first_is(r) -> None:
    at_t, at_r = Notes(), Notes()
    asked = []
    at_t._answer = lambda x, c_noise, condition: asked.append(c_noise) or x
    denoiser(at_t)(torch.randn(3, 2), r)
    denoiser(at_r, times=("r",))(torch.randn(3, 2), 0.7, times={"r": r})
    assert torch.equal(at_r.told["r"], asked[0])


def test_a_second_time_that_is_not_given_is_the_first() -> None:
    network = Notes()
    denoiser(network, times=("r",))(torch.randn(3, 2), 0.7)
    assert torch.equal(network.told["r"], torch.full((3,), 700.0))


def test_a_second_time_may_be_where_data_are() -> None:
    network = Notes()
    for sampling in (None, VariancePreserving(schedule=Linear())):
        denoiser(network, times=("r",), sampling=sampling)(torch.randn(3, 2), 0.7, times={"r": 0.0})
        assert torch.equal(network.told["r"], torch.zeros(3))


def test_a_second_time_of_another_schedule_is_the_trained_one_with_its_noise_level() -> None:
    trained, sampled = VariancePreserving(schedule=Cosine()), VariancePreserving(schedule=Linear())
    network = Notes()
    denoiser(network, trained, sampled, times=("r",))(torch.randn(3, 2), 0.7, times={"r": 0.3})
    wanted = 1000 * trained.schedule.time_at(sampled.log_snr(0.3))
    # Networks are told levels in float32.
    assert network.told["r"].tolist() == pytest.approx([float(wanted)] * 3, rel=1e-6)


def test_a_second_time_that_no_number_tells_is_refused() -> None:
    process = VariancePreserving(schedule=Cosine())
    asked = denoiser(Notes(), process, parameterization=EDM(), times=("r",))
    with pytest.raises(ComponentError, match=r"times.r: EDM tells .* at t = 0"):
        asked(torch.randn(3, 2), 0.7, times={"r": 0.0})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"given": {"x0": torch.zeros(3, 2)}}, r"given: x0 is asked with.* takes x_0"),
        ({"times": {"s": 0.5}}, r"times: s is asked with.* takes r"),
        ({"given": {"x_0": torch.zeros(2, 2)}}, r"given.x_0 is \[2, 2\], and 3 samples"),
        ({"given": {"x_0": [0.0] * 3}}, r"given.x_0 is list"),
    ],
)
def test_a_name_or_a_number_of_rows_that_does_not_fit_is_refused(said, words) -> None:
    with pytest.raises(ComponentError, match=words):
        denoiser(Notes(), given=("x_0",), times=("r",))(torch.randn(3, 2), 0.5, **said)


def test_forward_derivatives_in_the_sample_and_in_both_times() -> None:
    """Of `y = x t + 2 r`, the flow's output: `dy = t dx + x dt + 2 dr`, exactly.

    float32 rounds numbers of size 1 to 6e-8, and the network is told 1000 t: a few roundings.
    """
    network = Notes(
        lambda x, c_noise, condition: (
            x * c_noise[:, None] / 1000 + 2 * condition["r"][:, None] / 1000
        )
    )
    asked = denoiser(network, times=("r",))
    x, dx = torch.randn(3, 2), torch.randn(3, 2)
    t, r = torch.tensor([0.2, 0.5, 0.9]).double(), torch.tensor([0.1, 0.3, 0.0]).double()
    dt, dr = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 1.0, 3.0]).double()

    def output(x, t, r):
        return asked(x, t, times={"r": r}).output

    _, tangent = torch.func.jvp(output, (x, t, r), (dx, dt, dr))
    wanted = t[:, None] * dx + x * dt[:, None] + 2 * dr[:, None]
    torch.testing.assert_close(tangent.double(), wanted, rtol=0, atol=2e-6)


def test_forward_derivatives_of_the_prediction_through_schedule_and_process() -> None:
    """x_0 of a zero epsilon is `x_t / alpha(t)`: the derivative in t is `-x_t alpha' / alpha^2`,
    held against a central difference of the schedule's own alpha, whose error is of order 1e-8.
    """
    process = VariancePreserving(schedule=Linear())
    asked = GaussianDenoiser(lambda x, *_: x * 0, _epsilon(), process)
    x, t = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0.2005, 0.5005, 0.8005]).double()
    _, tangent = torch.func.jvp(lambda t: asked(x, t).x_0, (t,), (torch.ones_like(t),))
    h = 1e-5
    after, before = (process.scales(process.log_snr(t + d)).alpha for d in (h, -h))
    wanted = x * ((1 / after - 1 / before) / (2 * h))[:, None]
    torch.testing.assert_close(tangent, wanted, rtol=1e-5, atol=0)


def _epsilon():
    from diffkit.bundled.parameterizations.epsilon import Epsilon

    return Epsilon()


# -- what comes back -------------------------------------------------------------------------------


def with_features(x, c_noise, condition):
    return Output(x, {"features": x.sum(1)})


def test_extras_pass_through_clipping_chunks_and_changes() -> None:
    x = torch.randn(4, 2)
    asked = GaussianDenoiser(with_features, Flow(), FLOW)
    prediction = ClippedDenoiser(asked, (-0.1, 0.1))(x, 0.5)
    assert torch.equal(prediction.extras["features"], x.sum(1))
    assert torch.equal(prediction.unclipped.extras["features"], x.sum(1))
    first, second = asked(x, 0.5).chunk(2)
    assert torch.equal(first.extras["features"], x[:2].sum(1))
    assert torch.equal(second.extras["features"], x[2:].sum(1))
    changed = asked(x, 0.5).with_output(2 * x).with_variance_fraction(0.5)
    assert torch.equal(changed.extras["features"], x.sum(1))


def test_an_extra_that_is_not_there_says_what_to_do() -> None:
    prediction = GaussianDenoiser(with_features, Flow(), FLOW)(torch.randn(2, 2), 0.5)
    with pytest.raises(ComponentError, match=r"no extra 'h'; it has features.*with_output. keeps"):
        prediction.extras["h"]


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        (torch.tensor(3.0), r"\[\]"),
        (torch.zeros(1, 7), r"\[1, 7\]"),
        (torch.zeros(4), r"\[4\]"),
        (3, "int"),
    ],
    ids=["of all", "one row", "more rows", "no tensor"],
)
def test_an_extra_without_a_row_a_sample_is_refused(extra, found) -> None:
    """Guidance, and parts of a batch, would go on with the rows of others."""
    from diffkit.core import ModelDenoiser

    def network(x, c_noise, condition):
        return Output(x, {"h": extra})

    for asked in (GaussianDenoiser(network, Flow(), FLOW), ModelDenoiser(network, Still())):
        with pytest.raises(ComponentError, match=f"extra 'h' is {found}, and 2 .* a row a sample"):
            asked(torch.randn(2, 2), 0.5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_extras_come_from_the_network_of_a_pipeline(precision) -> None:
    class Featured(EpsilonModel):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        @classmethod
        def facts(cls, config):
            return {"extras": ("features",)}

        def forward(self, x, c_noise, condition):
            return Output(self.layer(x) + c_noise[:, None] * 0, {"features": x})

    pipeline = diffkit.build({**SPEC, "model": Featured(), "precision": precision})
    x = torch.randn(3, 2)
    assert torch.equal(pipeline.denoiser()(x, 0.5).extras["features"], x)
    assert pipeline.sample(3, steps=2).shape == (3, 2)


# -- everything is known at build ------------------------------------------------------------------

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2], "range": [-1.0, 1.0]},
}


class Tells(Simple):
    gives = ("r",)


class Needs(Simple):
    extras = ("features",)


class Twice(EpsilonModel):
    @classmethod
    def facts(cls, config):
        return {"given": ("r",), "times": ("r",)}

    def forward(self, x, c_noise, condition):
        return x


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"loss": Tells()}, r"loss: Tells tells the network r, and the model MLP takes nothing"),
        ({"loss": Needs()}, r"loss: Needs needs features .* the model MLP gives nothing"),
        ({"model": Twice()}, r"Twice declares r twice"),
    ],
)
def test_names_that_do_not_meet_are_told_at_build(parts, words) -> None:
    with pytest.raises(SpecError, match=words):
        diffkit.build({**SPEC, **parts})


def test_a_process_that_is_not_gaussian_has_questions_and_extras_too() -> None:
    from diffkit.core import ModelDenoiser

    assert not isinstance(Still(), GaussianProcess)
    network = Notes(with_features)
    asked = ModelDenoiser(network, Still(), declared=Declared(given=("x_0",), times=("r",)))
    x = torch.randn(2, 3)
    prediction = asked(x, 0.5, given={"x_0": x}, times={"r": 0.25})
    assert torch.equal(prediction.extras["features"], x.sum(1))
    assert torch.equal(network.told["r"], torch.full((2,), 250.0))
    with pytest.raises(ComponentError, match="Plain does not say how to divide"):
        prediction.chunk(2)


class Plain(diffkit.core.Prediction):
    def __init__(self, x):
        self._x = x

    @property
    def x_0(self):
        return self._x


class Still(diffkit.core.ForwardProcess):
    @property
    def schedule(self):
        return Cosine()

    def diffuse(self, x_0, t, epsilon):
        return x_0

    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)

    def interpret(self, output, x_t, t):
        return Plain(output)

    def reverse(self, prediction, x_t, t, s, noise):
        return x_t
