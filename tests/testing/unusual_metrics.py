"""Right metrics that are unusual: of pairs, and of tokens."""

from __future__ import annotations

import torch

from diffkit.core.example import Example
from diffkit.core.metric import SampleMetric
from diffkit.errors import DataError


class Brightness(SampleMetric):
    """How far samples are from the brightness that they were asked for, and from their data."""

    @classmethod
    def examples(cls):
        return [Example(conditions={"brightness": lambda count: torch.arange(count) / count})]

    def samples_needed(self, dataset):
        return 40

    def measure(self, samples, dataset, seed, of):
        if of is None or samples.shape != of.x_0.shape or not bool(samples.isfinite().all()):
            raise DataError("brightness: samples of the data's shape and their conditions")
        found = samples.flatten(1).mean(1) - of.condition["brightness"]
        return {
            "brightness": float(found.square().mean()),
            "error": float((samples - of.x_0).square().mean()),
        }


class Counts(SampleMetric):
    """How far the shares of tokens, place by place, are from those of data."""

    @classmethod
    def examples(cls):
        return [Example(shape=(6,), vocabulary=7)]

    def samples_needed(self, dataset):
        return 200

    def measure(self, samples, dataset, seed, of):
        if tuple(samples.shape[1:]) != dataset.shape:
            raise DataError("counts: samples are tokens of the data's shape")
        data = dataset.batch(range(len(dataset))).x_0
        count = dataset.vocabulary
        ours, theirs = (
            torch.nn.functional.one_hot(x, count).double().mean(0) for x in (samples, data)
        )
        return {"counts": float((ours - theirs).abs().sum())}


METRICS = (Brightness, Counts)
