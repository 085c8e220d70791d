"""Feature extractors with the mistakes that they are known for."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from diffkit.core.metric import FeatureExtractor

from .mutant import Mutant


class Projection(FeatureExtractor):
    """A random layer, right; the mutants below change one thing."""

    def layer(self, dataset, seed):
        generator = torch.Generator().manual_seed(seed)
        layer = nn.Linear(math.prod(dataset.shape), 8, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        return layer

    def features(self, layer, samples):
        with torch.no_grad():
            return layer(samples.flatten(1)).relu()

    def fit(self, dataset, seed):
        with torch.random.fork_rng(devices=[]):
            layer = self.layer(dataset, seed)
        return lambda samples: self.features(layer, samples)


class StatisticsOfTheBatch(Projection):
    def features(self, layer, samples):
        features = super().features(layer, samples)
        return (features - features.mean(0)) / (features.std(0, correction=0) + 1e-5)


class DropoutWhenEmbedding(Projection):
    def features(self, layer, samples):
        return F.dropout(super().features(layer, samples), 0.2)


class GradientsKept(Projection):
    def features(self, layer, samples):
        return layer(samples.flatten(1)).relu()


class WeightsFromTheGlobalGenerator(Projection):
    def fit(self, dataset, seed):
        layer = nn.Linear(math.prod(dataset.shape), 8)
        return lambda samples: self.features(layer, samples)


class SeedOfTheClock(Projection):
    """Every fit has its own weights, though the global generator is left alone."""

    def layer(self, dataset, seed):
        return super().layer(dataset, torch.seed() % 2**31)


class Dead(Projection):
    def features(self, layer, samples):
        return -super().features(layer, samples).relu() * 0.0


class LogarithmOfNegatives(Projection):
    def features(self, layer, samples):
        return super().features(layer, samples.log())


class OneRowForAll(Projection):
    def features(self, layer, samples):
        return super().features(layer, samples).mean(0, keepdim=True)


class Counted(Projection):
    def features(self, layer, samples):
        return super().features(layer, samples).gt(1).sum(1, keepdim=True)


RIGHT = (Projection,)

MUTANTS = (
    Mutant(StatisticsOfTheBatch, "features normalised by the batch"),
    Mutant(DropoutWhenEmbedding, "dropout when embedding"),
    Mutant(GradientsKept, "features that keep their graph"),
    Mutant(WeightsFromTheGlobalGenerator, "weights from the global generator"),
    Mutant(SeedOfTheClock, "weights that the seed does not decide"),
    Mutant(Dead, "features that are zero for all samples"),
    Mutant(LogarithmOfNegatives, "features that are not finite for negative values"),
    Mutant(OneRowForAll, "one row of features for all samples"),
    Mutant(Counted, "features that are whole numbers"),
)
