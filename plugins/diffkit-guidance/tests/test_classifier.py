"""Guidance by a classifier: against closed forms, and through training, files and a trajectory."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

import diffkit
from diffkit.api import make
from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.parameterizations.flow import Flow
from diffkit.bundled.parameterizations.velocity import Velocity
from diffkit.bundled.parameterizations.x_0 import X0
from diffkit.bundled.processes.rectified_flow import RectifiedFlow
from diffkit.bundled.processes.variance_exploding import VarianceExploding
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.rectified import Rectified
from diffkit.cli.main import cli
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.core.guidance import Conditioning
from diffkit.errors import ComponentError
from diffkit.helpers.fit import FitSettings, fit
from diffkit.testing.oracles import ExactGaussian, ExactMixture, OracleModel
from diffkit_guidance.classifier import Classifier, _ByGradient
from diffkit_guidance.noisy_classifier import (
    Architecture,
    CrossEntropy,
    Network,
    classes_of,
    initialised,
    read_classifier,
    unit,
    write_classifier,
)

from .guidance_runs import SPEC

MEANS = torch.tensor([[0.8, -0.3], [-0.6, 0.2], [0.1, 0.9]], dtype=torch.float64)
VARIANCE = 0.25


def trained(dataset, process, sizes, **settings):
    how = FitSettings(**{"learning_rate": 2e-3, **settings})
    network = initialised(sizes, how.seed)
    fit(network, dataset, CrossEntropy(network, process, sizes.classes), how)
    return network


def exact(process, label):
    """log p(label | x_t) of three normal classes, from what a classifier is shown."""

    def asked(inside, log_snr):
        alpha, sigma = (c[:, None] for c in process.scales(log_snr.double()))
        x_t = inside * (alpha.square() + sigma.square()).sqrt()
        total = (alpha.square() * VARIANCE + sigma.square())[..., None]
        apart = (x_t[:, None] - alpha[..., None] * MEANS).square()
        return functional.log_softmax((-0.5 * apart / total).sum(-1), dim=1)[:, label]

    return asked


@pytest.mark.parametrize("kind", [VariancePreserving, VarianceExploding, RectifiedFlow])
@pytest.mark.parametrize("parameterization", [Epsilon(), X0(), Velocity()], ids=lambda p: type(p))
@pytest.mark.parametrize("t", [0.1, 0.9, torch.tensor([0.2, 0.7], dtype=torch.float64)], ids=str)
def test_scale_one_leads_from_all_data_to_the_class(kind, parameterization, t):
    """Bayes: the score of x_t given the label is the score of x_t and that of the label."""
    process = kind(schedule=Linear())
    mixture = ExactMixture(process, MEANS, VARIANCE)
    model = OracleModel(denoiser=mixture, parameterization=parameterization)
    plain = GaussianDenoiser(model, parameterization, process)
    x_t = torch.tensor([[0.4, -1.1], [0.3, 0.2]], dtype=torch.float64)
    for label in range(3):
        found = _ByGradient(plain, exact(process, label), 1.0, None)(x_t, t)
        wanted = ExactGaussian(process, MEANS[label], VARIANCE)(x_t, t)
        # The oracle hears the time in float32.
        assert torch.allclose(found.x_0, wanted.x_0, rtol=0, atol=1e-5)
        twice = _ByGradient(plain, exact(process, label), 2.0, None)(x_t, t)
        wanted = 2.0 * found.epsilon - mixture(x_t, t).epsilon
        assert torch.allclose(twice.epsilon, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parameterization", [X0(), Flow(), Velocity()], ids=lambda p: type(p))
def test_nothing_changes_at_scale_zero_and_outside_the_interval(parameterization):
    process = VariancePreserving(schedule=Rectified())
    mixture = ExactMixture(process, MEANS, VARIANCE)
    model = OracleModel(denoiser=mixture, parameterization=parameterization)
    plain = GaussianDenoiser(model, parameterization, process)
    x_t = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    asked = exact(process, 0)
    for led, t in (
        (_ByGradient(plain, asked, 0.0, None), 0.5),
        (_ByGradient(plain, asked, 0.0, None), 1.0),
        (_ByGradient(plain, asked, 3.0, (10.0, 20.0)), 0.5),
        (_ByGradient(plain, asked, 3.0, (-20.0, 20.0)), 1.0),
    ):
        led.check_times((t, 0.05, 0.0))
        assert torch.equal(led(x_t, t).x_0, plain(x_t, t).x_0)
    assert not torch.equal(_ByGradient(plain, asked, 3.0, None)(x_t, 0.5).x_0, plain(x_t, 0.5).x_0)


def test_as_the_signal_fades_it_leads_to_the_mean_of_the_label_and_no_further():
    """`sigma^2/alpha grad log p` tends to E[x_0 | label] - E[x_0], and at the end it is 0/0."""
    process = VariancePreserving(schedule=Rectified())
    mixture = ExactMixture(process, MEANS, VARIANCE)
    x_t = torch.tensor([[0.4, -1.1]], dtype=torch.float64)
    led = _ByGradient(mixture, exact(process, 2), 1.0, None)
    apart = [(led(x_t, t).x_0 - MEANS[2]).abs().max().item() for t in (0.99, 0.999, 0.9999)]
    assert apart[-1] < 1e-3
    assert apart[0] / apart[1] == pytest.approx(10.0, rel=0.1)
    for asked in (lambda: led(x_t, 1.0), lambda: led.check_times((1.0, 0.5, 0.0))):
        with pytest.raises(ComponentError, match=r"no signal is left.* set interval"):
            asked()


def test_what_it_is_shown_is_the_same_for_every_process():
    epsilon, x_0 = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    shown = []
    for kind in (VariancePreserving, VarianceExploding, RectifiedFlow):
        process = kind(schedule=Linear())
        t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        shown.append(unit(process, process.diffuse(x_0, t, epsilon), process.log_snr(t)))
    assert torch.allclose(shown[0], shown[1], rtol=1e-9)
    assert torch.allclose(shown[0], shown[2], rtol=1e-9)


def test_every_noise_level_is_trained(monkeypatch):
    """Each of ten times is drawn as often; 5000 draws have a deviation of 21, of which five."""
    seen = []
    process = VariancePreserving(schedule=Linear(steps=10, rescale=False))
    dataset = diffkit.build({**SPEC, "dataset": "digits", "data": None}, device="cpu").dataset()
    real = type(process).diffuse

    def noted(self, x_0, t, epsilon):
        seen.append(t)
        return real(self, x_0, t, epsilon)

    monkeypatch.setattr(type(process), "diffuse", noted)
    sizes = Architecture(channels=1, classes=10, width=8, multipliers=(1,))
    trained(dataset, process, sizes, steps=10, batch_size=500)
    counts = torch.bincount((torch.cat(seen) * 10).round().long(), minlength=11)
    assert counts[0] == 0
    assert torch.all((counts[1:] - 500).abs() < 106)


def test_it_learns_what_noise_leaves():
    """Digits with hardly any noise are known; under all of it no better than by chance."""
    dataset = diffkit.build({**SPEC, "dataset": "digits", "data": None}, device="cpu").dataset()
    process = VariancePreserving(schedule=Linear())
    sizes = Architecture(channels=1, classes=classes_of(dataset), width=16, multipliers=(1, 2))
    assert sizes.classes == 10
    network = trained(dataset, process, sizes, steps=500, learning_rate=3e-3)
    batch = dataset.batch(range(0, len(dataset), 2))
    label = batch.condition["label"]
    shares, losses = [], []
    for t in (0.001, 1.0):
        epsilon = torch.randn(batch.x_0.shape, generator=torch.Generator().manual_seed(0))
        level = process.log_snr(torch.full((len(label),), t, dtype=torch.float64))
        logits = network(unit(process, process.diffuse(batch.x_0, t, epsilon), level), level)
        shares.append(float((logits.argmax(1) == label).double().mean()))
        losses.append(float(functional.cross_entropy(logits, label)))
    assert shares[0] > 0.85
    # 900 labels drawn evenly: a share of 0.1 has a deviation of 0.01, of which six.
    assert shares[1] < 0.16
    assert losses[1] == pytest.approx(math.log(10.0), abs=0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    unet = {"width": 8, "multipliers": [1], "blocks": 1, "groups": 4, "attention": []}
    model = {"id": "unet", "config": unet}
    spec = {**SPEC, "dataset": "digits", "data": None, "model": model}
    pipeline = diffkit.build(spec, device="cpu")
    out = tmp_path_factory.mktemp("classifier") / "run"
    pipeline.train(out=out, steps=3, batch_size=8, progress=False)
    return out


def test_from_the_command_line(run, tmp_path):
    words = ["train-classifier", str(run), "--out", str(tmp_path / "c"), "--steps", "40"]
    words += ["--width", "8", "--learning-rate", "3e-3"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "10 labels" in result.output
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 2
    assert "holds a classifier already" in again.output
    lead = {"id": "classifier", "config": {"folder": str(tmp_path / "c"), "scale": 5.0}}
    pipeline = diffkit.load(run)
    led = [
        pipeline.sample(
            2, steps=5, condition={"label": label}, guidance=lead, batch_size=size, progress=False
        )
        for label, size in (([3, 7], 2), ([3, 7], 1), ([4, 7], 2))
    ]
    plain = pipeline.sample(2, steps=5, progress=False)
    # Convolutions of other batch sizes add up in another order, in float32.
    assert torch.allclose(led[0], led[1], rtol=0, atol=1e-4)
    assert not torch.allclose(led[0], plain, atol=1e-3)
    assert not torch.allclose(led[0][0], led[2][0], atol=1e-4)
    assert torch.equal(led[0][1], led[2][1])


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ({}, diffkit.SpecError, "none is given"),
        ({"label": [10, 3]}, diffkit.ComponentError, "0 to 9, and 10 is asked for"),
        ({"label": [-1, 3]}, diffkit.ComponentError, "0 to 9, and -1 is asked for"),
        ({"label": ["boot", "bag"]}, diffkit.DataError, "label is a text, and the data have int64"),
    ],
    ids=str,
)
def test_a_wrong_label_is_refused(run, tmp_path, condition, error, message):
    sizes = Architecture(channels=1, classes=10, width=8)
    write_classifier(tmp_path, Network(sizes), sizes)
    lead = {"id": "classifier", "config": {"folder": str(tmp_path)}}
    with pytest.raises(error, match=message):
        diffkit.load(run).sample(2, steps=2, condition=condition, guidance=lead, progress=False)


def test_wrong_folders_are_refused(tmp_path):
    sizes = Architecture(channels=3, classes=2, width=8)
    conditioning = Conditioning({}, {}, {"label": torch.tensor([0])})
    model = OracleModel(
        denoiser=ExactMixture(VariancePreserving(schedule=Linear()), MEANS, VARIANCE),
        parameterization=Epsilon(),
    )
    plain = GaussianDenoiser(model, Epsilon(), VariancePreserving(schedule=Linear()))
    with pytest.raises(diffkit.ComponentError, match="train-classifier"):
        Classifier(folder=str(tmp_path / "none")).guide(lambda _: plain, conditioning)
    write_classifier(tmp_path / "a", Network(sizes), sizes)
    read_classifier(tmp_path / "a")
    led = Classifier(folder=str(tmp_path / "a")).guide(lambda _: plain, conditioning)
    with pytest.raises(diffkit.ComponentError, match="images of 3 channels"):
        led(torch.zeros(1, 2), 0.5)
    other = Architecture(channels=1, classes=2, width=8)
    write_classifier(tmp_path / "b", Network(other), sizes)
    with pytest.raises(diffkit.ComponentError, match="train the classifier again"):
        Classifier(folder=str(tmp_path / "b")).guide(lambda _: plain, conditioning)
    (tmp_path / "b" / "config.json").write_text("{}")
    with pytest.raises(diffkit.ComponentError, match="its format"):
        read_classifier(tmp_path / "b")


def test_a_classifier_that_was_trained_again_is_read_again(run, tmp_path):
    sizes = Architecture(channels=1, classes=10, width=8)
    lead = {"id": "classifier", "config": {"folder": str(tmp_path), "scale": 50.0}}
    pipeline, found = diffkit.load(run), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        write_classifier(tmp_path, Network(sizes), sizes)
        given = {"condition": {"label": 3}, "guidance": lead}
        found += [pipeline.sample(1, steps=4, progress=False, **given) for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[1], found[2], atol=1e-3)


def test_metrics_measure_samples_that_are_led(run, tmp_path):
    """The labels of the data are drawn for guidance too."""
    sizes = Architecture(channels=1, classes=10, width=8)
    write_classifier(tmp_path, Network(sizes), sizes)
    lead = {"id": "classifier", "config": {"folder": str(tmp_path), "scale": 50.0}}
    metric = {"id": "frechet", "config": {"max_samples": 16, "splits": 1}}
    spec = json.loads((run / "spec.json").read_text())
    values = []
    for guidance in (None, lead):
        led = diffkit.build({**spec, "guidance": guidance, "steps": 3}, device="cpu")
        values.append(led.evaluate(metric=metric)["frechet"])
    assert values[0] != values[1]


@pytest.mark.parametrize("name", ["classifier-free", "classifier", "auto"])
def test_an_interval_upside_down_is_refused(name):
    config = {"classifier": {"folder": "c"}, "auto": {"run": "r"}}.get(name, {})
    with pytest.raises(diffkit.ComponentError, match="the lower end first"):
        make("guidance", {"id": name, "config": {**config, "interval": [4.0, -4.0]}})


def test_data_without_labels_are_refused(run, tmp_path):
    pipeline = diffkit.load(run)

    class Unlabelled:
        def __len__(self):
            return 4

        def batch(self, rows):
            return diffkit.core.loss.Batch(torch.zeros(len(rows), 1, 8, 8))

    sizes = Architecture(channels=1, classes=2, width=8)
    with pytest.raises(diffkit.DataError, match="gives none"):
        trained(Unlabelled(), pipeline.parts.process, sizes, steps=1)
    with pytest.raises(diffkit.DataError, match="outside the 2 classes"):
        trained(pipeline.dataset(), pipeline.parts.process, sizes, steps=1)
