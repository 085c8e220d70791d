"""Text-to-image diffusion in latents, every part of it named in one spec."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.datasets.digits import Digits
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit_latent.network import Architecture
from diffkit_latent.training import initialised, write_autoencoder

pytest.importorskip("diffkit_guidance")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Captioned(Dataset):
    """Handwritten digits with their names."""

    def __init__(self) -> None:
        self._digits = Digits()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._digits.shape

    @property
    def range(self) -> tuple[float, float] | None:
        return self._digits.range

    def __len__(self) -> int:
        return 64

    def batch(self, indices) -> Batch:
        read = self._digits.batch(indices)
        words = [WORDS[label] for label in read.condition["label"].tolist()]
        return Batch(read.x_0, {"caption": diffkit.as_text(words)})


@pytest.fixture
def spec(tmp_path):
    sizes = Architecture(channels=1, width=8, multipliers=(1, 2), latent_channels=2)
    network = initialised(sizes, seed=0)
    write_autoencoder(tmp_path / "ae", network, sizes, Digits())
    return {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "unet", "config": {"width": 16, "multipliers": [1], "groups": 8}},
        "loss": "simple",
        "sampler": "ddpm",
        "steps": 4,
        "encoder": {"id": "guidance.characters", "config": {"width": 16, "length": 8}},
        "guidance": "guidance.classifier-free",
        "autoencoder": {"id": "latent.kl", "config": {"folder": str(tmp_path / "ae")}},
        "data": {"shape": [1, 8, 8], "range": [-1.0, 1.0]},
    }


def test_it_trains_saves_loads_and_samples(spec, tmp_path) -> None:
    pipeline = diffkit.build(spec, device="cpu")
    assert pipeline.parts.shape == (2, 4, 4)
    pipeline.train(Captioned(), steps=4, batch_size=8, out=tmp_path / "run", learning_rate=1e-2)
    prompts = {"caption": ["one", "two", "three"]}
    samples = pipeline.sample(3, condition=prompts, seed=5)
    assert samples.shape == (3, 1, 8, 8)
    again = diffkit.load(tmp_path / "run", device="cpu")
    torch.testing.assert_close(again.sample(3, condition=prompts, seed=5), samples)
    one_by_one = again.sample(3, condition=prompts, seed=5, batch_size=1)
    torch.testing.assert_close(one_by_one, samples, atol=1e-4, rtol=0)
    assert not torch.equal(again.sample(3, seed=5), samples)


def test_training_goes_on_from_the_latents_that_are_there(spec, tmp_path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    diffkit.build(spec, device="cpu").train(Captioned(), steps=4, batch_size=8, out=whole)
    diffkit.build(spec, device="cpu").train(Captioned(), steps=2, batch_size=8, out=halves)
    written = (halves / "latents" / "latents.json").stat().st_mtime_ns
    again = diffkit.build(spec, device="cpu")
    again.train(Captioned(), steps=4, batch_size=8, out=halves, resume=True)
    assert (halves / "latents" / "latents.json").stat().st_mtime_ns == written
    one, other = (diffkit.load(path, device="cpu").sample(2) for path in (whole, halves))
    torch.testing.assert_close(one, other)
