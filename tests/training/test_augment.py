"""What is changed of batches in training, and what with it."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.augmentations.flip import Flip
from diffkit.bundled.losses.simple import Simple
from diffkit.core import Augmentation, EpsilonModel
from diffkit.core.data import is_picture
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.noise import BatchNoise
from diffkit.errors import DataError, SpecError
from diffkit.training.augment import augmented, pictures_of

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
    with pytest.raises(SpecError, match=r"augmentations\[0\]: samples of the shape .* are no"):
        diffkit.build({**spec, "training": {"augmentations": ["flip"]}})
    with pytest.raises(SpecError, match="are no pictures"):
        diffkit.build(spec).train(augmentations=["flip"], steps=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_not(channels):
    assert is_picture((channels, 4, 6))
    spec = {**SPEC, "data": {"shape": [channels, 4, 6]}, "training": {"augmentations": ["flip"]}}
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
    batch = Batch(x, condition)
    noise = BatchNoise(seed=1, step=0, rows=range(4), total=4)
    found = Flip()(batch, noise, pictures_of(batch))
    drawn = BatchNoise(seed=1, step=0, rows=range(4), total=4).uniform((4, 1))
    chosen = (drawn < 0.5).flatten()
    assert 0 < int(chosen.sum()) < 4
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
        pictures_of(batch)


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
    pipeline.train(steps=2, batch_size=32, augmentations=["flip"], progress=False)
    plain = Pairs()
    originals = plain.batch(range(64)).x_0
    for batch in seen:
        assert torch.equal(batch.x_0, batch.condition["degraded"])
        as_it_was = (batch.x_0[:, None] == originals[None]).flatten(2).all(2).any(1)
        assert 0 < int(as_it_was.sum()) < 32


ALL = ["flip", {"id": "crop", "config": {"padding": 2}}, "non-leaking"]


class Told(EpsilonModel):
    """A network that is told what was done to its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Conv2d(2, 1, 3, padding=1)
        self.label = torch.nn.Linear(9, 1)
        self.seen = []

    @classmethod
    def facts(cls, config):
        return {"conditions": ("augmentation",)}

    def forward(self, x, c_noise, condition):
        self.seen.append(condition["augmentation"].detach().clone())
        told = self.label(condition["augmentation"])[:, :, None, None].expand_as(x)
        return self.last(torch.cat([x, told], dim=1))


def told(**training):
    spec = {**SPEC, "model": Told(), "dataset": "digits", "steps": 3}
    spec["training"] = {"batch_size": 8, "steps": 4, "augmentations": ALL, **training}
    return diffkit.build(spec, device="cpu")


def test_the_network_is_told_in_training_and_gets_zeros_in_sampling():
    pipeline = told().train(progress=False)
    model = pipeline.parts.model
    assert {tuple(label.shape) for label in model.seen} == {(8, 9)}
    assert all(label.any() for label in model.seen)
    average = pipeline.average.parts.model
    average.seen.clear()
    pipeline.sample(3)
    assert average.seen
    assert not any(label.any() for label in average.seen)
    average.seen.clear()
    pipeline.sample(2, condition={"augmentation": torch.ones(1, 9)})
    assert all(label.eq(1).all() for label in average.seen)


def test_what_adds_needs_a_network_that_takes_it():
    spec = {**SPEC, "dataset": "digits", "training": {"augmentations": ["non-leaking"]}}
    with pytest.raises(SpecError, match=r"add the conditions augmentation, which the model does"):
        diffkit.build(spec)
    with pytest.raises(SpecError, match="built with others"):
        told().train(augmentations=["flip"], progress=False)


def test_an_own_loop_has_the_same():
    from diffkit.training.order import DataOrder

    trained, own = told(steps=2).train(steps=2, progress=False), told(steps=2)
    data, order = own.dataset(), DataOrder(len(own.dataset()), 0)
    for step in range(2):
        own.loss(data.batch(order.rows(8 * step, 8)).x_0)
    labels = trained.parts.model.seen
    assert all(map(torch.equal, labels[:1], own.parts.model.seen[:1]))
    assert len(labels) == len(own.parts.model.seen)


@pytest.mark.parametrize("ids", [["flip"], ["crop"], ["non-leaking"], ["flip", "non-leaking"]])
def test_a_row_is_changed_alike_whoever_computes_it(ids):
    """All rows at once, and in two shares."""
    made = [diffkit.resolve("augmentation", name)() for name in ids]
    x = torch.rand(8, 1, 16, 12) * 2 - 1
    batch = Batch(x, {"map": x.clone()})
    whole = augmented(batch, made, 3, 5, range(8), 8)
    for rows in (range(5), range(5, 8)):
        part = Batch(x[rows.start : rows.stop], {"map": x[rows.start : rows.stop]})
        found = augmented(part, made, 3, 5, rows, 8)
        assert torch.equal(found.x_0, whole.x_0[rows.start : rows.stop])
        assert torch.equal(found.x_0, found.condition["map"])
    assert not torch.equal(whole.x_0, x)
    assert torch.equal(batch.condition["map"], x), "inputs are not written to"


def test_latents_are_not_augmented():
    flip = diffkit.resolve("augmentation", "flip")
    facts = {"data.shape": (4, 8, 8), "data.latents": True}
    assert "latents are computed once" in next(iter(flip.requires(None, facts)))


class Enlarges(Augmentation):
    def __call__(self, batch, noise, pictures):
        return Batch(torch.cat([batch.x_0, batch.x_0], dim=-1), batch.condition)


def test_another_shape_is_refused():
    spec = {**SPEC, "dataset": "digits", "training": {"batch_size": 4}}
    with pytest.raises(diffkit.ComponentError, match=r"Enlarges gives .* \[4, 1, 8, 16\]"):
        diffkit.build(spec).train(steps=1, augmentations=[Enlarges()], progress=False)
