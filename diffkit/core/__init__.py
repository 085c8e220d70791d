"""The interfaces and the records that pass between them.

`from diffkit.core import Sampler, State` works for all of them; each is loaded when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit.core.augmentation import Augmentation as Augmentation
    from diffkit.core.autoencoder import Autoencoder as Autoencoder
    from diffkit.core.average import Average as Average
    from diffkit.core.bound import Bound as Bound
    from diffkit.core.clipping import ClippedDenoiser as ClippedDenoiser
    from diffkit.core.clipping import Clipping as Clipping
    from diffkit.core.component import Component as Component
    from diffkit.core.component import Config as Config
    from diffkit.core.component import Facts as Facts
    from diffkit.core.component import arguments_of as arguments_of
    from diffkit.core.component import facts_of as facts_of
    from diffkit.core.component import requires_of as requires_of
    from diffkit.core.data import ConditionInfo as ConditionInfo
    from diffkit.core.data import Conditions as Conditions
    from diffkit.core.data import DataShape as DataShape
    from diffkit.core.data import Supplied as Supplied
    from diffkit.core.data import TokenWidth as TokenWidth
    from diffkit.core.data import VectorWidth as VectorWidth
    from diffkit.core.data import Vocabulary as Vocabulary
    from diffkit.core.data import is_picture as is_picture
    from diffkit.core.dataset import Dataset as Dataset
    from diffkit.core.dataset import WrappedDataset as WrappedDataset
    from diffkit.core.denoiser import DataRange as DataRange
    from diffkit.core.denoiser import Declared as Declared
    from diffkit.core.denoiser import Denoiser as Denoiser
    from diffkit.core.denoiser import ModelDenoiser as ModelDenoiser
    from diffkit.core.denoiser import Times as Times
    from diffkit.core.denoiser import WrappedDenoiser as WrappedDenoiser
    from diffkit.core.encoder import MASK as MASK
    from diffkit.core.encoder import TOKENS as TOKENS
    from diffkit.core.encoder import VECTOR as VECTOR
    from diffkit.core.encoder import ConditionGroup as ConditionGroup
    from diffkit.core.encoder import Encoder as Encoder
    from diffkit.core.encoder import Given as Given
    from diffkit.core.encoder import gives_of as gives_of
    from diffkit.core.example import Example as Example
    from diffkit.core.gaussian_denoiser import GaussianDenoiser as GaussianDenoiser
    from diffkit.core.gaussian_denoiser import Preconditioning as Preconditioning
    from diffkit.core.gaussian_sampler import GaussianPredictor as GaussianPredictor
    from diffkit.core.gaussian_sampler import GaussianSampler as GaussianSampler
    from diffkit.core.gaussian_sampler import GaussianStepSampler as GaussianStepSampler
    from diffkit.core.guidance import Conditioning as Conditioning
    from diffkit.core.guidance import Guidance as Guidance
    from diffkit.core.guidance import MakeDenoiser as MakeDenoiser
    from diffkit.core.guided import GuidedDenoiser as GuidedDenoiser
    from diffkit.core.guided import joined as joined
    from diffkit.core.guided import repeated as repeated
    from diffkit.core.guided import said_of_copies as said_of_copies
    from diffkit.core.learning_rate import LearningRate as LearningRate
    from diffkit.core.loss import Batch as Batch
    from diffkit.core.loss import Loss as Loss
    from diffkit.core.loss import LossContext as LossContext
    from diffkit.core.loss import LossRecord as LossRecord
    from diffkit.core.metric import Denoising as Denoising
    from diffkit.core.metric import Embedding as Embedding
    from diffkit.core.metric import FeatureExtractor as FeatureExtractor
    from diffkit.core.metric import Measured as Measured
    from diffkit.core.metric import Metric as Metric
    from diffkit.core.metric import ModelMetric as ModelMetric
    from diffkit.core.metric import SampleMetric as SampleMetric
    from diffkit.core.model import Condition as Condition
    from diffkit.core.model import EpsilonModel as EpsilonModel
    from diffkit.core.model import Network as Network
    from diffkit.core.model import Output as Output
    from diffkit.core.noise import BatchNoise as BatchNoise
    from diffkit.core.noise import Noise as Noise
    from diffkit.core.noise import SampleNoise as SampleNoise
    from diffkit.core.noise import mix as mix
    from diffkit.core.observer import Observer as Observer
    from diffkit.core.optimizer import Optimizer as Optimizer
    from diffkit.core.parameterization import TIME_SCALE as TIME_SCALE
    from diffkit.core.parameterization import Parameterization as Parameterization
    from diffkit.core.prediction import Extras as Extras
    from diffkit.core.prediction import GaussianPrediction as GaussianPrediction
    from diffkit.core.prediction import Prediction as Prediction
    from diffkit.core.prediction import Target as Target
    from diffkit.core.process import NO_CONDITION as NO_CONDITION
    from diffkit.core.process import ForwardProcess as ForwardProcess
    from diffkit.core.process import Gaussian as Gaussian
    from diffkit.core.process import GaussianProcess as GaussianProcess
    from diffkit.core.process import Level as Level
    from diffkit.core.random_state import seeded as seeded
    from diffkit.core.run import Run as Run
    from diffkit.core.sampler import Sampler as Sampler
    from diffkit.core.sampler import State as State
    from diffkit.core.sampler import StepSampler as StepSampler
    from diffkit.core.schedule import DiscreteSchedule as DiscreteSchedule
    from diffkit.core.schedule import NoiseSchedule as NoiseSchedule
    from diffkit.core.schedule import Time as Time
    from diffkit.core.schedule import as_time as as_time
    from diffkit.core.spacing import Spacing as Spacing
    from diffkit.core.stream import Stream as Stream
    from diffkit.core.text import as_strings as as_strings
    from diffkit.core.text import as_text as as_text
    from diffkit.core.times import DrawnTimes as DrawnTimes
    from diffkit.core.times import TimesState as TimesState
    from diffkit.core.times import TrainingTimes as TrainingTimes
    from diffkit.core.weighting import Unweighted as Unweighted
    from diffkit.core.weighting import WeightedError as WeightedError
    from diffkit.core.weighting import Weighting as Weighting

_NAMES = {
    "augmentation": "Augmentation",
    "autoencoder": "Autoencoder",
    "average": "Average",
    "bound": "Bound",
    "clipping": "ClippedDenoiser Clipping",
    "component": "Component Config Facts arguments_of facts_of requires_of",
    "data": (
        "ConditionInfo Conditions DataShape InCode Supplied TokenWidth VectorWidth Vocabulary "
        "is_picture"
    ),
    "dataset": "Dataset WrappedDataset",
    "denoiser": "DataRange Declared Denoiser ModelDenoiser Times WrappedDenoiser",
    "encoder": "MASK TOKENS VECTOR ConditionGroup Encoder Given gives_of",
    "example": "Example",
    "gaussian_denoiser": "GaussianDenoiser Preconditioning",
    "gaussian_sampler": "GaussianPredictor GaussianSampler GaussianStepSampler",
    "guidance": "Conditioning Guidance MakeDenoiser",
    "guided": "GuidedDenoiser joined repeated said_of_copies",
    "learning_rate": "LearningRate",
    "loss": "Batch Loss LossContext LossRecord",
    "metric": "Denoising Embedding FeatureExtractor Measured Metric ModelMetric SampleMetric",
    "model": "Condition EpsilonModel Network Output",
    "noise": "BatchNoise Noise SampleNoise mix",
    "observer": "Observer",
    "optimizer": "Optimizer",
    "parameterization": "TIME_SCALE Parameterization",
    "prediction": "Extras GaussianPrediction Prediction Target",
    "process": "NO_CONDITION ForwardProcess Gaussian GaussianProcess Level",
    "sampler": "Sampler State StepSampler",
    "schedule": "DiscreteSchedule NoiseSchedule Time as_time",
    "random_state": "seeded",
    "run": "Run",
    "spacing": "Spacing",
    "stream": "Stream",
    "text": "as_strings as_text",
    "times": "DrawnTimes TimesState TrainingTimes",
    "weighting": "Unweighted WeightedError Weighting",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit.core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"diffkit.core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
