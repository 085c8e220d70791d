"""The interfaces and the records that pass between them.

`from diffkit.core import Sampler, State` works for all of them; each is loaded when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit.core.autoencoder import Autoencoder
    from diffkit.core.bound import Bound
    from diffkit.core.clipping import ClippedDenoiser
    from diffkit.core.component import Component, Config, Facts, arguments_of
    from diffkit.core.data import DataShape, Supplied, TokenWidth, VectorWidth, is_picture
    from diffkit.core.dataset import Dataset
    from diffkit.core.denoiser import (
        DataRange,
        Denoiser,
        GaussianDenoiser,
        ModelDenoiser,
        Preconditioning,
    )
    from diffkit.core.encoder import MASK, TOKENS, VECTOR, Encoder, Given
    from diffkit.core.gaussian_sampler import (
        GaussianPredictor,
        GaussianSampler,
        GaussianStepSampler,
    )
    from diffkit.core.guidance import Conditioning, Guidance, MakeDenoiser
    from diffkit.core.loss import Batch, Loss, LossContext, LossRecord
    from diffkit.core.metric import (
        Denoising,
        Embedding,
        FeatureExtractor,
        Measured,
        Metric,
        ModelMetric,
        SampleMetric,
    )
    from diffkit.core.model import Condition, EpsilonModel, Network
    from diffkit.core.noise import BatchNoise, Noise, SampleNoise, mix
    from diffkit.core.parameterization import TIME_SCALE, Parameterization
    from diffkit.core.prediction import GaussianPrediction, Prediction, Target
    from diffkit.core.process import ForwardProcess, Gaussian, GaussianProcess, Level
    from diffkit.core.random_state import seeded
    from diffkit.core.sampler import Sampler, State, StepSampler
    from diffkit.core.schedule import DiscreteSchedule, NoiseSchedule, Time, as_time
    from diffkit.core.spacing import Spacing
    from diffkit.core.text import as_strings, as_text
    from diffkit.core.times import DrawnTimes, TimesState, TrainingTimes
    from diffkit.core.weighting import Unweighted, WeightedError, Weighting

_NAMES = {
    "autoencoder": ("Autoencoder",),
    "bound": ("Bound",),
    "clipping": ("ClippedDenoiser",),
    "component": (
        "Component",
        "Config",
        "Facts",
        "arguments_of",
    ),
    "data": (
        "DataShape",
        "Supplied",
        "TokenWidth",
        "VectorWidth",
        "is_picture",
    ),
    "dataset": ("Dataset",),
    "denoiser": (
        "DataRange",
        "Denoiser",
        "GaussianDenoiser",
        "ModelDenoiser",
        "Preconditioning",
    ),
    "encoder": (
        "MASK",
        "TOKENS",
        "VECTOR",
        "Encoder",
        "Given",
    ),
    "gaussian_sampler": (
        "GaussianPredictor",
        "GaussianSampler",
        "GaussianStepSampler",
    ),
    "guidance": (
        "Conditioning",
        "Guidance",
        "MakeDenoiser",
    ),
    "loss": (
        "Batch",
        "Loss",
        "LossContext",
        "LossRecord",
    ),
    "metric": (
        "Denoising",
        "Embedding",
        "FeatureExtractor",
        "Measured",
        "Metric",
        "ModelMetric",
        "SampleMetric",
    ),
    "model": (
        "Condition",
        "EpsilonModel",
        "Network",
    ),
    "noise": (
        "BatchNoise",
        "Noise",
        "SampleNoise",
        "mix",
    ),
    "parameterization": (
        "TIME_SCALE",
        "Parameterization",
    ),
    "prediction": (
        "GaussianPrediction",
        "Prediction",
        "Target",
    ),
    "process": (
        "ForwardProcess",
        "Gaussian",
        "GaussianProcess",
        "Level",
    ),
    "sampler": (
        "Sampler",
        "State",
        "StepSampler",
    ),
    "schedule": (
        "DiscreteSchedule",
        "NoiseSchedule",
        "Time",
        "as_time",
    ),
    "random_state": ("seeded",),
    "spacing": ("Spacing",),
    "text": (
        "as_strings",
        "as_text",
    ),
    "times": (
        "DrawnTimes",
        "TimesState",
        "TrainingTimes",
    ),
    "weighting": (
        "Unweighted",
        "WeightedError",
        "Weighting",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "MASK",
    "TIME_SCALE",
    "TOKENS",
    "VECTOR",
    "Autoencoder",
    "Batch",
    "BatchNoise",
    "Bound",
    "ClippedDenoiser",
    "Component",
    "Condition",
    "Conditioning",
    "Config",
    "DataRange",
    "DataShape",
    "Dataset",
    "Denoiser",
    "Denoising",
    "DiscreteSchedule",
    "DrawnTimes",
    "Embedding",
    "Encoder",
    "EpsilonModel",
    "Facts",
    "FeatureExtractor",
    "ForwardProcess",
    "Gaussian",
    "GaussianDenoiser",
    "GaussianPrediction",
    "GaussianPredictor",
    "GaussianProcess",
    "GaussianSampler",
    "GaussianStepSampler",
    "Given",
    "Guidance",
    "Level",
    "Loss",
    "LossContext",
    "LossRecord",
    "MakeDenoiser",
    "Measured",
    "Metric",
    "ModelDenoiser",
    "ModelMetric",
    "Network",
    "Noise",
    "NoiseSchedule",
    "Parameterization",
    "Preconditioning",
    "Prediction",
    "SampleMetric",
    "SampleNoise",
    "Sampler",
    "Spacing",
    "State",
    "StepSampler",
    "Supplied",
    "Target",
    "Time",
    "TimesState",
    "TokenWidth",
    "TrainingTimes",
    "Unweighted",
    "VectorWidth",
    "WeightedError",
    "Weighting",
    "arguments_of",
    "as_strings",
    "as_text",
    "as_time",
    "is_picture",
    "mix",
    "seeded",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit.core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"diffkit.core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
