"""Metrics with the mistakes that metrics are known for."""

from __future__ import annotations

import torch

from diffkit.core.metric import Measured, ModelMetric, SampleMetric
from diffkit.errors import DataError

from .mutant import Mutant


class Moments(SampleMetric):
    """How far mean and standard deviation are from the data's, right; mutants change one thing."""

    def samples_needed(self, dataset):
        return len(dataset) // 2

    def check(self, samples, dataset):
        expected = (self.samples_needed(dataset), *dataset.shape)
        if samples.shape != expected:
            raise DataError(f"moments: samples {tuple(samples.shape)}, expected {expected}")
        if not bool(samples.isfinite().all()):
            raise DataError("moments: samples that are not finite")

    def data(self, dataset, seed):
        return dataset.batch(range(len(dataset))).x_0

    def values(self, samples, data):
        mean = (samples.mean(0) - data.mean(0)).square().mean()
        spread = (samples.std(0) - data.std(0)).square().mean()
        return {"moments": float(mean + spread)}

    def measure(self, samples, dataset, seed, of):
        self.check(samples, dataset)
        return self.values(samples, self.data(dataset, seed))


class ZeroByZero(Moments):
    def values(self, samples, data):
        apart = (samples.mean(0) - data.mean(0)).square()
        return {"moments": float((apart / samples.var(0)).mean())}


class SampleAgainstDatum(Moments):
    def values(self, samples, data):
        return {"error": float((samples - data[: len(samples)] ** 2).square().mean())}


class FirstSamplesOnly(Moments):
    def values(self, samples, data):
        return super().values(samples[: len(samples) // 8], data)


class SamplesIgnored(Moments):
    def values(self, samples, data):
        return {"moments": float(data.std())}


class SamplesReplacedByData(Moments):
    def values(self, samples, data):
        return super().values(data[: len(samples)], data)


class SpreadIgnored(Moments):
    """Only the mean over everything counts, which noise does not move."""

    def values(self, samples, data):
        return {"mean": float(samples.mean().abs() + 1.0)}


class DataFromTheGlobalGenerator(Moments):
    def data(self, dataset, seed):
        return dataset.batch(torch.randperm(len(dataset))[:100].tolist()).x_0


class Counting(Moments):
    """The values of one instance depend on how often it was asked."""

    calls = 0

    def values(self, samples, data):
        self.calls += 1
        return {"moments": super().values(samples, data)["moments"] * self.calls}


class AnyShape(Moments):
    def check(self, samples, dataset):
        pass

    def values(self, samples, data):
        return {"mean": float(samples.mean() - data.mean()), "spread": float(samples.std())}


class NotFinitePasses(Moments):
    def check(self, samples, dataset):
        super().check(samples.nan_to_num(), dataset)

    def values(self, samples, data):
        return super().values(samples.nan_to_num(), data)


class TensorsAsValues(Moments):
    def values(self, samples, data):
        return {"moments": torch.tensor(super().values(samples, data)["moments"])}


class NoValues(Moments):
    def values(self, samples, data):
        return {}


class HalfASample(Moments):
    def samples_needed(self, dataset):
        return len(dataset) / 2


class NoSamplesNeeded(Moments):
    def samples_needed(self, dataset):
        return 0

    def values(self, samples, data):
        return {"moments": float(data.std())}


class Surprise(ModelMetric):
    """How far the predicted data are from the data, right; mutants change one thing."""

    def error(self, prediction, x_0):
        return (prediction.x_0 - x_0).square().mean()

    def noise(self, x_0, seed):
        return torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))

    def measure_model(self, model, dataset, seed, device):
        batch = dataset.batch(range(len(dataset)))
        denoiser = model(batch.condition)
        x_t = denoiser.process.diffuse(batch.x_0, 0.5, self.noise(batch.x_0, seed))
        return Measured({"error": float(self.error(denoiser(x_t, 0.5), batch.x_0).detach())})


class ModelIgnored(Surprise):
    def error(self, prediction, x_0):
        return (prediction.x_t - x_0).square().mean()


class NoiseFromTheGlobalGenerator(Surprise):
    def noise(self, x_0, seed):
        return torch.randn_like(x_0)


class LogOfNothing(Surprise):
    """The density of a point, where a probability was meant."""

    def error(self, prediction, x_0):
        return torch.log(torch.zeros(()))


RIGHT = (Moments, Surprise)

MUTANTS = (
    Mutant(ZeroByZero, "a division by a variance that can be 0"),
    Mutant(SampleAgainstDatum, "each sample compared with the datum of its number"),
    Mutant(FirstSamplesOnly, "only the first samples are looked at"),
    Mutant(SamplesIgnored, "the samples are not looked at"),
    Mutant(SamplesReplacedByData, "data measured in place of the samples"),
    Mutant(SpreadIgnored, "one number that noise does not move"),
    Mutant(DataFromTheGlobalGenerator, "data chosen by the global generator"),
    Mutant(Counting, "values that depend on the calls before"),
    Mutant(AnyShape, "samples of any shape are taken"),
    Mutant(NotFinitePasses, "samples that are not finite are replaced"),
    Mutant(TensorsAsValues, "tensors in place of numbers"),
    Mutant(NoValues, "no values at all"),
    Mutant(ModelIgnored, "a likelihood that does not ask the model"),
    Mutant(NoiseFromTheGlobalGenerator, "a likelihood whose noise is not the seed's"),
    Mutant(LogOfNothing, "the logarithm of a probability of 0"),
    Mutant(HalfASample, "a number of samples that is not whole"),
    Mutant(NoSamplesNeeded, "no samples needed"),
)
