"""Classifier-free guidance against closed forms, and through a whole pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import diffkit
from diffkit.bundled.parameterizations.edm import EDM
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.flow import Flow
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.guidance import Conditioning
from diffkit.testing.conditions import Classes, asking
from diffkit_guidance.classifier_free import ClassifierFree


def conditioning(mean, null):
    rows = {"mean": torch.tensor([mean], dtype=torch.float64)}
    return Conditioning(rows, {"mean": torch.tensor([null], dtype=torch.float64)}, rows)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_scores_are_led_as_in_the_paper(scale, t):
    # s_null + scale (s_cond - s_null), of N(alpha m, alpha^2 v + sigma^2): another Gaussian's
    # score, with the mean null + scale (m - null).
    conditional, null = [0.8, -0.3], [0.1, 0.2]
    guided = ClassifierFree(scale=scale).guide(asking([]), conditioning(conditional, null))
    x_t = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    led = [n + scale * (c - n) for c, n in zip(conditional, null, strict=True)]
    wanted = Classes(torch.tensor([led], dtype=torch.float64))(x_t, t)
    assert torch.allclose(guided(x_t, t).score, wanted.score, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parameterization", [Epsilon(), X0(), Velocity(), Flow(), EDM()])
@pytest.mark.parametrize("process", [VariancePreserving, RectifiedFlow])
def test_every_parameterization_is_led_alike(parameterization, process):
    process = process(schedule=Linear())
    x_t = torch.tensor([[0.4, -1.1], [0.3, 0.2]], dtype=torch.float64)
    t = 0.4

    class Network(torch.nn.Module):
        """Says in its own terms that x_0 is the condition."""

        def forward(self, x, c_noise, condition):
            scales = process.scales(process.log_snr(t))
            x_0 = condition["x_0"]
            x_t = x / parameterization.c_in(scales)
            epsilon = (x_t - scales.alpha * x_0) / scales.sigma
            target = parameterization.target(scales)
            return target.on_x_0 * x_0 + target.on_epsilon * epsilon

    def make_denoiser(condition):
        return GaussianDenoiser(Network(), parameterization, process, condition=condition)

    first, second = torch.randn(2, 2, 2, dtype=torch.float64)
    guided = ClassifierFree(scale=3.0).guide(
        make_denoiser, Conditioning({"x_0": first}, {"x_0": second})
    )
    wanted = second + 3.0 * (first - second)
    assert torch.allclose(guided(x_t, t).x_0, wanted, rtol=0, atol=1e-9)


def test_both_are_asked_in_one_call_and_one_is_where_nothing_leads():
    made = []
    inside = ClassifierFree(scale=2.0, interval=(-1.0, 1.0))
    guided = inside.guide(asking(made), conditioning([0.5], [0.0]))
    process = guided.process
    x_t = torch.zeros(1, 1, dtype=torch.float64)
    guided(x_t, float(process.schedule.time_at(torch.tensor(0.0, dtype=torch.float64))))
    assert sorted(n for denoiser in made for n in denoiser.asked) == [2]
    guided(x_t, 0.9)
    assert sorted(n for denoiser in made for n in denoiser.asked) == [1, 2]


def test_rescaled_outputs_have_the_deviation_of_the_conditional_one():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 3, 64, generator=generator, dtype=torch.float64)
    rows, null = {"mean": means[0]}, {"mean": means[1]}
    x_t = torch.randn(3, 64, generator=generator, dtype=torch.float64)
    guided = ClassifierFree(scale=5.0, rescale=1.0).guide(asking([]), Conditioning(rows, null))
    found, wanted = guided(x_t, 0.5).output, Classes(means[0])(x_t, 0.5).output
    assert torch.allclose(found.std(1), wanted.std(1), rtol=1e-12)
    half = ClassifierFree(scale=5.0, rescale=0.5).guide(asking([]), Conditioning(rows, null))
    free = ClassifierFree(scale=5.0).guide(asking([]), Conditioning(rows, null))
    mean = 0.5 * (found + free(x_t, 0.5).output)
    assert torch.allclose(half(x_t, 0.5).output, mean, rtol=0, atol=1e-12)


def guided_outputs(conditional, null, rescale):
    """What is led, of networks that say these, whatever they are asked."""

    def make_denoiser(condition):
        return GaussianDenoiser(
            lambda x, c_noise, given: given["said"].to(x),
            Epsilon(),
            VariancePreserving(schedule=Linear()),
            condition=condition,
        )

    led = ClassifierFree(scale=3.0, rescale=rescale)
    guided = led.guide(make_denoiser, Conditioning({"said": conditional}, {"said": null}))
    return guided(torch.zeros_like(conditional), 0.5).output


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.3, -7.7, 1e-30])
def test_a_constant_output_stays_as_it_is(value, dtype):
    """It has no deviation to change, whatever rounding leaves of its mean."""
    constant = torch.full((2, 3, 5, 7), value, dtype=dtype)
    ramp = torch.linspace(-1, 1, 105, dtype=dtype).reshape(1, 3, 5, 7).expand(2, 3, 5, 7)
    # 3 c - 2 n is constant where c and n are: led, not conditional, is what is divided by.
    for conditional, null in ((constant, constant), (ramp, 1.5 * ramp - 0.5 * constant)):
        free = guided_outputs(conditional, null, 0.0)
        for rescale in (0.7, 1.0):
            assert torch.equal(guided_outputs(conditional, null, rescale), free)


def test_one_number_has_no_deviation():
    one = torch.tensor([[0.4], [-2.0]])
    assert torch.equal(guided_outputs(one, 2 * one, 0.7), guided_outputs(one, 2 * one, 0.0))


def test_one_constant_sample_changes_no_other():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    null = 0.5 * x
    spoilt, null_spoilt = x.clone(), null.clone()
    spoilt[1], null_spoilt[1] = 0.25, 0.25
    found = guided_outputs(spoilt, null_spoilt, 0.7)
    assert torch.allclose(found[1], torch.full((8,), 0.25))
    assert torch.equal(found[[0, 2]], guided_outputs(x, null, 0.7)[[0, 2]])


UNET = {"width": 16, "multipliers": [1, 2], "blocks": 1, "groups": 4, "dropout": 0.0}
SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "unet", "config": UNET},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "encoder": {"id": "label", "config": {"classes": 10, "width": 8}},
    "training": {"batch_size": 16, "warmup_steps": 5, "learning_rate": 2e-3, "ema_decay": 0.9},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pipeline = diffkit.build(SPEC, device="cpu")
    return pipeline.train(steps=20, out=tmp_path_factory.mktemp("run") / "run", progress=False)


def test_a_run_is_conditional_and_remembers_it(trained, tmp_path):
    labels = {"label": [3, 7, 3]}
    lead = {"id": "classifier-free", "config": {"scale": 4.0}}
    plain = trained.sample(3, steps=4, condition=labels, progress=False)
    led = trained.sample(3, steps=4, condition=labels, guidance=lead, progress=False)
    free = trained.sample(3, steps=4, progress=False)
    assert not torch.allclose(plain, led, atol=1e-3)
    assert not torch.allclose(plain, free, atol=1e-3)
    again = diffkit.load(trained.save(tmp_path / "saved"))
    for size in (1, 2):
        same = again.sample(
            3, steps=4, condition=labels, guidance=lead, batch_size=size, progress=False
        )
        # Convolutions of other batch sizes add up in another order, in float32.
        assert torch.allclose(same, led, rtol=0, atol=1e-4)


def test_scale_zero_is_no_condition_and_scale_one_no_guidance(trained):
    labels = {"label": [3, 7]}
    for scale, wanted in ((0.0, {}), (1.0, {"condition": labels})):
        lead = {"id": "classifier-free", "config": {"scale": scale}}
        found = trained.sample(2, steps=4, condition=labels, guidance=lead, progress=False)
        expected = trained.sample(2, steps=4, progress=False, **wanted)
        assert torch.allclose(found, expected, rtol=0, atol=1e-4)


def test_conditions_are_dropped_as_often_as_asked(monkeypatch):
    seen = []
    pipeline = diffkit.build(SPEC, device="cpu")
    encoder = pipeline.parts.encoder
    real = type(encoder).forward

    def noted(self, prepared):
        seen.append(prepared["label"])
        return real(self, prepared)

    monkeypatch.setattr(type(encoder), "forward", noted)
    pipeline.train(steps=60, condition_dropout=0.5, progress=False)
    share = float((torch.cat(seen) == 10).double().mean())
    # 960 draws: a deviation of 0.016, of which five.
    assert abs(share - 0.5) < 0.08
    seen.clear()
    pipeline.train(steps=5, condition_dropout=0.0, progress=False)
    assert not bool((torch.cat(seen) == 10).any())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": None, "guidance": "classifier-free"}, "this one takes none"),
        ({"encoder": None, "training": {"condition_dropout": 0.1}}, "condition_dropout is 0.1"),
        (
            {"guidance": "classifier-free", "training": {"condition_dropout": 0.0}},
            "never trained so where training.condition_dropout is 0",
        ),
        ({"model": {"id": "mlp", "config": {}}}, "the model takes no conditions"),
        (
            {"model": {"id": "unet", "config": {**UNET, "tokens": 8}}},
            "the model takes tokens; the model takes mask; the dataset gives label",
        ),
    ],
    ids=["guidance", "dropout", "never null", "mlp", "tokens"],
)
def test_what_cannot_work_is_refused_at_once(change, message):
    with pytest.raises(diffkit.SpecError, match=message):
        diffkit.build({**SPEC, **change}, device="cpu")


def test_one_number_is_for_all_samples(trained):
    """Numbers of Python and of NumPy, one or a list, or a tensor."""
    given = [3, [3], np.int64(3), np.array([3, 3]), torch.tensor([3, 3])]
    found = [
        trained.sample(2, steps=2, condition={"label": value}, progress=False) for value in given
    ]
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"guidance": "classifier-free"}, diffkit.SpecError, "none is given"),
        ({"condition": {"caption": ["a"]}}, diffkit.SpecError, "conditions taken are: label"),
        ({"condition": {"label": [10]}}, diffkit.DataError, "10 is none of the 10 classes"),
        ({"condition": {"label": [1, 2, 3]}}, diffkit.SpecError, "one row for each of the 2"),
        ({"condition": {"label": 2.5}}, diffkit.SpecError, "2.5 is no whole number"),
        ({"condition": {"label": ["boot"]}}, diffkit.DataError, "one whole number a sample"),
    ],
    ids=str,
)
def test_a_wrong_condition_is_refused_by_name(trained, choices, error, message):
    with pytest.raises(error, match=message):
        trained.sample(2, steps=2, progress=False, **choices)


def test_a_negative_prompt_is_led_away_from():
    spec = {
        "dataset": None,
        "data": {"shape": [1, 8, 8], "range": [-1.0, 1.0]},
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "unet", "config": UNET},
        "encoder": {
            "id": "characters",
            "config": {"width": 8, "depth": 1, "heads": 2, "length": 16},
        },
        "guidance": {"id": "classifier-free", "config": {"scale": 3.0}},
        "loss": "simple",
        "sampler": "ddpm",
    }
    pipeline = diffkit.build(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.system.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))

    def drawn(**condition):
        return pipeline.sample(2, steps=2, seed=1, condition=condition, progress=False)

    texts = ["a boot", "a coat"]
    plain, led = drawn(caption=texts), drawn(caption=texts, negative_caption="a bag")
    assert not torch.equal(plain, led)
    # The empty text is what stands for no condition.
    # To rounding: null is encoded as one row, and this as many.
    assert torch.allclose(drawn(caption=texts, negative_caption=""), plain, atol=1e-4)
    # Away from the very text, towards it: no guidance.
    unguided = pipeline.sample(
        2,
        steps=2,
        seed=1,
        condition={"caption": texts},
        guidance={"id": "classifier-free", "config": {"scale": 1.0}},
        progress=False,
    )
    same = drawn(caption=texts, negative_caption=texts)
    assert torch.allclose(same, unguided, atol=1e-4)
    with pytest.raises(diffkit.SpecError, match="and if wanted negative_caption"):
        drawn(caption=texts, negative_label=3)
    assert "negative" not in pipeline.spec.guidance.config
