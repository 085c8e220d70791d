"""The KL autoencoder, its training and its folder."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

import diffkit
from diffkit.bundled.datasets.digits import Digits
from diffkit.cli.main import cli
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import ComponentError, DataError, SpecError, TrainingError
from diffkit.helpers.fit import FitSettings, fit
from diffkit.testing import components_under_test, run_checks
from diffkit.testing.component_under_test import Fixtures
from diffkit_latent.adversarial import Adversary, hinge
from diffkit_latent.kl import KL
from diffkit_latent.network import Architecture, Network, Posterior
from diffkit_latent.perceptual import trained_features
from diffkit_latent.training import (
    Reconstruction,
    Weights,
    initialised,
    latent_scale,
    losses,
    write_autoencoder,
)

SIZES = Architecture(channels=1, width=8, multipliers=(1, 2), latent_channels=3)


def trained(data, weights: Weights | None = None, **settings) -> Network:
    how = FitSettings(**{"batch_size": 16, **settings})
    network = initialised(SIZES, how.seed)
    fit(network, data, Reconstruction(network, data, how, weights or Weights()), how)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kl")
    write_autoencoder(folder, trained(Digits(), Weights(kl=1e-3), steps=60), SIZES, Digits())
    return folder


def reconstruction_error(network: Network, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((network.images(network.posterior(x).mean) - x).square().mean())


def test_training_reduces_the_error_of_reconstruction() -> None:
    x = Digits().batch(range(256)).x_0
    before = trained(Digits(), steps=1, max_seconds=1e-9)
    after = trained(Digits(), steps=150, batch_size=32)
    assert reconstruction_error(after, x) < 0.2 * reconstruction_error(before, x)


def test_training_depends_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (trained(Digits(), steps=3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_kl_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    ours = Posterior(mean, log_variance).kl()
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    wanted = torch.distributions.kl_divergence(normal, standard).flatten(1).sum(1)
    torch.testing.assert_close(ours, wanted)
    assert Posterior(torch.zeros(1, 2), torch.zeros(1, 2)).kl() == 0


def test_the_terms_are_those_of_the_bound() -> None:
    """With a normal decoder of variance v, 2 v times the negative bound is the loss at w = 2 v,
    but for a constant.
    """
    network, x = Network(SIZES), Digits().batch(range(3)).x_0
    epsilon = torch.randn(3, 3, 4, 4)
    decoded, posterior = network(x, epsilon)
    terms, variance = losses(x, decoded, posterior), torch.tensor(0.05)
    constant = 0.5 * torch.log(2 * torch.pi * variance) * x[0].numel()
    likelihood = torch.distributions.Normal(decoded, variance.sqrt()).log_prob(x).flatten(1).sum(1)
    bound = (posterior.kl() - likelihood - constant).mean() / x[0].numel()
    loss = terms["squared_error"] + 2 * variance * terms["kl"]
    torch.testing.assert_close(2 * variance * bound, loss)


def test_latents_have_mean_0_and_deviation_1_over_the_data(folder) -> None:
    autoencoder, data = KL(folder=str(folder)), Digits()
    z = autoencoder.encode(data.batch(range(len(data))).x_0)
    torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    deviation = z.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-4, rtol=0)


def test_what_is_read_is_what_was_written(folder, tmp_path) -> None:
    first = KL(folder=str(folder))
    network = Network(SIZES)
    network.load_state_dict(first.network.state_dict())
    write_autoencoder(tmp_path, network, SIZES, Digits())
    again = KL(folder=str(tmp_path))
    x = Digits().batch(range(4)).x_0
    torch.testing.assert_close(again.encode(x), first.encode(x))
    assert again.identity() == first.identity()


def test_it_keeps_the_laws_of_its_kind(folder) -> None:
    config = {"latent.kl": [{"folder": str(folder)}]}
    found = components_under_test(
        "latent.kl", configurations=config, fixtures={"latent.kl": Fixtures((1, 8, 8))}
    )
    outcomes = list(run_checks(found))
    assert not [o.message for o in outcomes if o.status == "failed"]
    assert [o for o in outcomes if o.status == "passed"]


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 7, 8), "2 does not divide 7x8"), ((3, 8, 8), "of 1 channels"), ((64,), "takes images")],
)
def test_images_that_do_not_fit_are_named(folder, shape, said: str) -> None:
    with pytest.raises(ComponentError, match=said):
        KL.latent_shape(SimpleNamespace(folder=str(folder)), shape)


def test_the_shape_is_the_one_that_is_given(folder) -> None:
    config = SimpleNamespace(folder=str(folder))
    assert KL.latent_shape(config, (1, 12, 8)) == (3, 6, 4)
    assert KL(folder=str(folder)).encode(torch.zeros(2, 1, 12, 8)).shape == (2, 3, 6, 4)


def test_data_in_another_range_are_refused(folder, tmp_path) -> None:
    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": "mlp",
        "loss": "simple",
        "sampler": "ddpm",
        "autoencoder": {"id": "latent.kl", "config": {"folder": str(folder)}},
    }
    diffkit.build({**spec, "data": {"shape": [1, 8, 8], "range": [-1, 1]}}, device="cpu")
    with pytest.raises(SpecError, match=r"trained on data in \[-1.0, 1.0\]"):
        diffkit.build({**spec, "data": {"shape": [1, 8, 8], "range": [0, 1]}}, device="cpu")
    spec["autoencoder"] = {"id": "latent.kl", "config": {"folder": str(tmp_path / "none")}}
    with pytest.raises(SpecError, match="cannot be read"):
        diffkit.build({**spec, "data": {"shape": [1, 8, 8], "range": [-1, 1]}}, device="cpu")


def test_folders_that_hold_something_else_are_named(folder, tmp_path) -> None:
    with pytest.raises(ComponentError, match="train-autoencoder"):
        KL(folder=str(tmp_path))
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ComponentError, match="diffusers-kl"):
        KL(folder=str(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "width": 16}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ComponentError, match="weights"):
        KL(folder=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "breadth": 16}))
    with pytest.raises(ComponentError, match="breadth"):
        KL(folder=str(tmp_path))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"groups": 3}, {"multipliers": ()}])
def test_sizes_that_do_not_fit_are_refused(wrong) -> None:
    with pytest.raises(ComponentError, match="kl:"):
        Architecture(**wrong)


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(TrainingError, match="not finite"):
        trained(_Constant(float("nan")), steps=2)


def test_features_are_those_that_tell_labels_apart() -> None:
    data = Digits()
    features, batch = trained_features(data, 60, seed=0), data.batch(range(300))
    right = features(batch.x_0).argmax(dim=1) == batch.condition["label"]
    assert right.float().mean() > 0.7
    assert features.distance(batch.x_0, batch.x_0) == 0
    noisy = batch.x_0 + 0.3 * torch.randn(batch.x_0.shape)
    noisier = batch.x_0 + torch.randn(batch.x_0.shape)
    distances = [float(features.distance(batch.x_0, other)) for other in (noisy, noisier)]
    assert 0 < distances[0] < distances[1]


def test_the_perceptual_term_needs_labels() -> None:
    with pytest.raises(DataError, match="perceptual_weight"):
        trained(_Constant(0.0), Weights(perceptual=0.1), steps=1)


def test_the_perceptual_term_makes_what_is_decoded_nearer_in_features() -> None:
    data = Digits()
    features, x = trained_features(data, 300, seed=0), data.batch(range(256)).x_0
    found = []
    for weight in (0.0, 1.0):
        network = trained(data, Weights(perceptual=weight), steps=60)
        with torch.no_grad():
            found.append(float(features.distance(network.images(network.posterior(x).mean), x)))
    assert found[1] < found[0]


def test_a_critic_tells_blurred_images_from_sharp_ones() -> None:
    x = Digits().batch(range(64)).x_0
    blurred = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    adversary = Adversary(1, 1e-3, seed=0, device=None)
    first, *_, last = [float(adversary.learn(x, blurred)) for _ in range(60)]
    assert last < 0.5 * first


def test_the_adversarial_term_weighs_as_much_as_the_reconstruction() -> None:
    """At the last layer, whose gradient the balance of eq. 7 is made of."""
    network, x = Network(SIZES), Digits().batch(range(8)).x_0
    decoded, _ = network(x, torch.randn(8, 3, 4, 4))
    error = (decoded - x).square().mean()
    term = Adversary(1, 1e-3, seed=0, device=None).term(decoded, error, network.last)
    (ours,) = torch.autograd.grad(error, network.last, retain_graph=True)
    (theirs,) = torch.autograd.grad(term, network.last)
    torch.testing.assert_close(theirs.norm(), ours.norm(), rtol=0.05, atol=0)


def test_the_hinge_is_0_where_the_critic_is_sure() -> None:
    assert hinge(torch.tensor(1.5), torch.tensor(-1.5)) == 0
    assert hinge(torch.tensor(0.0), torch.tensor(0.0)) == 1


def test_the_critic_changes_the_second_half_of_training_alone() -> None:
    plain, half, whole = (
        trained(Digits(), Weights(adversarial=weight), steps=4) for weight in (0.0, 0.1, 0.2)
    )
    assert not torch.equal(plain.last, half.last)
    assert not torch.equal(half.last, whole.last)


def test_latents_that_are_constant_cannot_be_scaled() -> None:
    network = Network(SIZES).eval()
    torch.nn.init.zeros_(network.down[-1].weight)
    with pytest.raises(DataError, match="same for all data"):
        latent_scale(network, Digits())


class _Constant(Dataset):
    def __init__(self, value: float) -> None:
        self._value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 8, 8)

    def __len__(self) -> int:
        return 4

    def batch(self, indices) -> Batch:
        return Batch(torch.full((len(indices), 1, 8, 8), self._value))


# -- the verb ----------------------------------------------------------------------------------


def test_the_verb_writes_what_a_spec_can_refer_to(tmp_path) -> None:
    from click.testing import CliRunner

    out = tmp_path / "ae"
    words = ["train-autoencoder", "digits", "--out", str(out), "--steps", "2", "--batch-size", "4"]
    words += ["--multipliers", "1,2", "--width", "8", "--latent-channels", "2"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert f"config: {{folder: {out}}}" in result.output
    assert KL.latent_shape(SimpleNamespace(folder=str(out)), (1, 8, 8)) == (2, 4, 4)
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 2
    assert "holds an autoencoder already" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--multipliers", "1,x"], "--multipliers 1,x"),
        (["digits", "--multipliers", "1,1,1,1,1"], "16 does not divide"),
        (["nothing"], "nothing"),
        (["{id: digits, config: {size: 3}}"], "dataset"),
    ],
)
def test_the_verb_says_what_is_wrong(tmp_path, words, said: str) -> None:
    from click.testing import CliRunner

    result = CliRunner().invoke(cli, ["train-autoencoder", *words, "--out", str(tmp_path / "ae")])
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "ae").exists()
