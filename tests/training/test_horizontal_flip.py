"""What is mirrored, and what with it."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.core.data import is_picture
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError, SpecError
from diffkit.training.horizontal_flip import mirrored

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
}


@pytest.mark.parametrize("shape", [[2], [1, 8], [2, 8, 8], [16, 8, 8], [1, 4, 8, 8]], ids=str)
def test_data_that_are_no_pictures_are_refused_at_build(shape):
    spec = {**SPEC, "data": {"shape": shape}}
    assert not is_picture(shape)
    with pytest.raises(SpecError, match=r"horizontal_flip: samples of the shape .* are no"):
        diffkit.build({**spec, "training": {"horizontal_flip": True}})
    with pytest.raises(SpecError, match="horizontal_flip"):
        diffkit.build(spec).train(horizontal_flip=True, steps=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_not(channels):
    assert is_picture((channels, 4, 6))
    spec = {**SPEC, "data": {"shape": [channels, 4, 6]}, "training": {"horizontal_flip": True}}
    diffkit.build(spec)


def test_what_belongs_together_is_mirrored_together():
    x = torch.randn(4, 3, 4, 6)
    condition = {
        "degraded": x[:, :1],
        "map": torch.arange(4 * 7 * 4 * 6).reshape(4, 7, 4, 6),
        "small": torch.randn(4, 3, 2, 3),
        "label": torch.arange(4),
        "vector": torch.randn(4, 6),
        "tokens": torch.randn(4, 5, 6),
    }
    chosen = torch.tensor([True, False, False, True])
    found = mirrored(Batch(x, condition), chosen)
    for row in range(4):
        turned = (lambda v: v.flip(-1)) if chosen[row] else (lambda v: v)
        assert torch.equal(found.x_0[row], turned(x[row]))
        for name in ("degraded", "map"):
            assert torch.equal(found.condition[name][row], turned(condition[name][row]))
    for name in ("small", "label", "vector", "tokens"):
        assert torch.equal(found.condition[name], condition[name])


def test_a_picture_without_channels_is_not_guessed_at():
    batch = Batch(torch.zeros(2, 1, 4, 6), {"mask": torch.zeros(2, 4, 6)})
    with pytest.raises(DataError, match=r"condition mask has the shape \[4, 6\]"):
        mirrored(batch, torch.tensor([True, False]))


class Pairs(Dataset):
    @property
    def shape(self):
        return (1, 4, 4)

    def __len__(self):
        return 64

    def batch(self, indices):
        generators = [torch.Generator().manual_seed(int(i)) for i in indices]
        x = torch.stack([torch.randn(1, 4, 4, generator=g) for g in generators])
        return Batch(x, {"degraded": x.clone()})


def test_pairs_stay_pairs_in_training():
    seen = []

    class Look(Simple):
        def __call__(self, batch, context):
            seen.append(batch)
            return super().__call__(batch, context)

    spec = {**SPEC, "loss": Look(), "dataset": Pairs()}
    pipeline = diffkit.build(spec, device="cpu")
    pipeline.train(steps=2, batch_size=32, horizontal_flip=True, progress=False)
    plain = Pairs()
    originals = plain.batch(range(64)).x_0
    for batch in seen:
        assert torch.equal(batch.x_0, batch.condition["degraded"])
        as_it_was = (batch.x_0[:, None] == originals[None]).flatten(2).all(2).any(1)
        assert 0 < int(as_it_was.sum()) < 32
