"""Averages of other lengths, made after training."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.functional.power_average import gamma_of_length, post_hoc_weights, power_decay

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "training": {
        "batch_size": 16,
        "warmup_steps": 0,
        "learning_rate": 0.01,
        "steps": 400,
        "checkpoint_every": 50,
        "keep": 100,
        "averages": {
            "power": "power",
            "wanted": {"id": "power", "config": {"lengths": [0.075, 0.15]}},
        },
    },
}


@pytest.mark.parametrize(("length", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.15, 3.56)])
def test_lengths_are_those_of_the_paper(length, gamma) -> None:
    """Karras et al. (2024), below eq. 126: 0.05 and 0.10 are 16.97 and 6.94."""
    assert gamma_of_length(length) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_the_profile_has_its_length(length) -> None:
    """The deviation of the profile, as a share of 20,000 updates; 1e-4 is their grid."""
    gamma, steps = gamma_of_length(length), 20_000
    profile, kept = [], 1.0
    for step in reversed(range(steps)):
        decay = power_decay(step, gamma)
        profile.append(kept * (1.0 - decay))
        kept *= decay
    weights = torch.tensor(profile[::-1], dtype=torch.float64)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    mean = (weights * t).sum()
    assert weights.sum() == pytest.approx(1.0)
    assert ((weights * (t - mean) ** 2).sum().sqrt()) == pytest.approx(length, abs=1e-4)


def test_what_is_there_is_found_again() -> None:
    """One of the averages itself is the combination of it alone."""
    gammas = [gamma_of_length(0.05), gamma_of_length(0.1)]
    shares = post_hoc_weights([50, 50, 100, 100], gammas * 2, 100, gammas[1])
    assert shares == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("post_hoc") / "run"
    diffkit.build(SPEC).train(out=directory, progress=False)
    return directory


@pytest.mark.parametrize("length", [0.075, 0.15])
def test_it_is_the_average_that_would_have_been_kept(run, length) -> None:
    """Within 5 per cent of how far the average is from the weights: of the first 50 updates of 400,
    before the first of 8 checkpoints, two averages alone say something."""
    made = diffkit.post_hoc(run, length)
    kept = made._weights.averages[f"wanted-{length:g}"]
    others = [made._weights.averages[name] for name in ("power-0.05", "power-0.1")]

    def flat(system) -> torch.Tensor:
        return torch.cat([weight.detach().flatten() for weight in system.parameters()])

    scale = (flat(kept) - flat(made.system)).norm()
    assert (flat(made.average) - flat(kept)).norm() < 0.05 * scale
    assert all((flat(other) - flat(kept)).norm() > 0.1 * scale for other in others)
    assert torch.equal(made.sample(2), made.sample(2, average="post_hoc"))


def test_it_is_saved_and_loaded(run, tmp_path) -> None:
    made = diffkit.post_hoc(run, 0.12)
    again = diffkit.load(made.save(tmp_path / "saved"))
    assert torch.equal(again.sample(2), made.sample(2))


def test_what_cannot_be_made_is_said(run, tmp_path) -> None:
    with pytest.raises(diffkit.SpecError, match=r"length .* between 0 and 0.28"):
        diffkit.post_hoc(run, 0.5)
    with pytest.raises(diffkit.SpecError, match=r"averages: \{ema: power\}"):
        diffkit.post_hoc(run, 0.1, name="ema")
