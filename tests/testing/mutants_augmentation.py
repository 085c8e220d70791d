"""Mistakes of augmentations."""

from __future__ import annotations

import torch

from diffkit.core import Augmentation, Batch

from .mutant import Mutant


def _drawn(noise, batch):
    return noise.uniform((len(batch), 1)).reshape(-1, *[1] * (batch.x_0.ndim - 1))


class Shade(Augmentation):
    """A right one: each sample darker by a share of its own."""

    def __call__(self, batch, noise, pictures):
        return Batch(batch.x_0 * (1.0 - 0.1 * _drawn(noise, batch)), batch.condition)


class Noisy(Augmentation):
    """A right one, which tells how noisy samples are."""

    @classmethod
    def facts(cls, config):
        return {"adds": {"level": (1,)}}

    def __call__(self, batch, noise, pictures):
        level = _drawn(noise, batch)
        x_0 = batch.x_0 + 0.1 * level * noise.normal(batch.x_0.shape)
        return Batch(x_0, {**batch.condition, "level": level.reshape(-1, 1)})


class GivesTheTensor(Augmentation):
    def __call__(self, batch, noise, pictures):
        return batch.x_0 * _drawn(noise, batch)


class Cuts(Augmentation):
    def __call__(self, batch, noise, pictures):
        return Batch((batch.x_0 * _drawn(noise, batch))[..., 1:], batch.condition)


class InHalf(Augmentation):
    def __call__(self, batch, noise, pictures):
        return Batch((batch.x_0 * _drawn(noise, batch)).half(), batch.condition)


class Divides(Augmentation):
    def __call__(self, batch, noise, pictures):
        return Batch(batch.x_0 / (_drawn(noise, batch) < 0.5).float(), batch.condition)


class AddsWithoutSaying(Noisy):
    @classmethod
    def facts(cls, config):
        return {}


class AddsAnotherShape(Noisy):
    @classmethod
    def facts(cls, config):
        return {"adds": {"level": (9,)}}


class DropsConditions(Shade):
    def __call__(self, batch, noise, pictures):
        return Batch(super().__call__(batch, noise, pictures).x_0, {})


class Shuffles(Augmentation):
    def __call__(self, batch, noise, pictures):
        order = noise.uniform((len(batch), 1)).flatten().argsort()
        return Batch(batch.x_0[order], {n: v[order] for n, v in batch.condition.items()})


class OfTheGlobalGenerator(Augmentation):
    def __call__(self, batch, noise, pictures):
        shade = torch.rand(len(batch)).reshape(-1, *[1] * (batch.x_0.ndim - 1))
        return Batch(batch.x_0 * shade, batch.condition)


class MixesNeighbours(Augmentation):
    def __call__(self, batch, noise, pictures):
        share = 0.5 * _drawn(noise, batch)
        return Batch(batch.x_0.lerp(batch.x_0.roll(1, 0), share), batch.condition)


class OneForAll(Augmentation):
    """Draws for the chosen rows alone, so that each gets another's numbers."""

    def __call__(self, batch, noise, pictures):
        mean = batch.x_0.mean()
        return Batch(batch.x_0 * (1.0 - 0.1 * _drawn(noise, batch)) - 0.1 * mean, batch.condition)


class DoesNothing(Augmentation):
    def __call__(self, batch, noise, pictures):
        noise.uniform((len(batch), 1))
        return batch


class AlwaysTheSame(Augmentation):
    def __call__(self, batch, noise, pictures):
        return Batch(-batch.x_0, batch.condition)


class WritesIntoTheBatch(Shade):
    def __call__(self, batch, noise, pictures):
        batch.x_0.mul_(1.0 - 0.1 * _drawn(noise, batch))
        return batch


RIGHT = (Shade, Noisy)
MUTANTS = (
    Mutant(GivesTheTensor, "samples where a batch belongs"),
    Mutant(Cuts, "samples of another size"),
    Mutant(InHalf, "samples in float16"),
    Mutant(Divides, "samples divided by 0 in half of the rows"),
    Mutant(AddsWithoutSaying, "a condition that no fact declares"),
    Mutant(AddsAnotherShape, "a condition of another shape than declared"),
    Mutant(DropsConditions, "conditions that are lost"),
    Mutant(Shuffles, "rows in another order"),
    Mutant(OfTheGlobalGenerator, "randomness of the global generator"),
    Mutant(MixesNeighbours, "a row that is mixed with its neighbour"),
    Mutant(OneForAll, "the mean of the whole batch"),
    Mutant(DoesNothing, "nothing at all"),
    Mutant(AlwaysTheSame, "the same always"),
    Mutant(WritesIntoTheBatch, "written into the batch"),
)
