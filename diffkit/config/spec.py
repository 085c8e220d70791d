"""The spec of a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from diffkit.arguments import plain
from diffkit.core.data import ConditionInfo, DataType
from diffkit.plugins.metadata import unreadable_left_out

with unreadable_left_out():
    # pydantic looks for plugins of its own once, for the first schema, among everybody's metadata.
    create_model("First")

_FLOAT32 = 3.4028234e38
"""The largest number of data."""


class SpecModel(BaseModel):
    """Frozen, strict, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class ComponentSpec(SpecModel):
    """A component by its id, with its configuration. A bare name is short for `{id: name}`."""

    kind: ClassVar[str | None] = None

    id: str
    config: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value


class DataSpec(SpecModel):
    """What is known of the data: the dataset's, where it is left out."""

    shape: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1, max_length=16)]
    """Of one sample."""
    range: tuple[float, float] | None = None
    """The smallest and largest value that a sample can have."""
    dtype: DataType = "float32"
    """int64 of tokens."""
    vocabulary: Annotated[int, Field(gt=0)] | None = None
    """How many different tokens there are."""
    conditions: dict[str, ConditionInfo] | None = None
    """What comes with each sample. None: not declared; looked at when training begins."""

    @field_validator("range")
    @classmethod
    def _rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not -_FLOAT32 <= value[0] < value[1] <= _FLOAT32:
            raise PydanticCustomError(
                "range", "the first is the smaller one, and both are numbers of float32"
            )
        return value


Precision = Literal["float32", "bfloat16", "auto"]
Compilation = Literal["off", "auto", "default", "reduce-overhead"]

_Count = Annotated[int, Field(le=10**12)]
"""No more than anybody has; arithmetic with it stays within floating-point numbers."""

_Share = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSpec(ComponentSpec):
    """An optimiser."""

    kind: ClassVar[str | None] = "optimizer"


class LearningRateSpec(ComponentSpec):
    """A law of the learning rate; a number is a constant one."""

    kind: ClassVar[str | None] = "learning-rate"

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        if isinstance(value, str) and _is_number(value):
            raise PydanticCustomError(
                "rate", "it is a text, and should be a number; PyYAML reads 1e-3 as a text"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if not 0.0 < value < math.inf:
            raise PydanticCustomError("rate", "a learning rate is a finite number above 0")
        return {"id": "diffkit.constant", "config": {"rate": float(value)}}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class AverageSpec(ComponentSpec):
    """An average of the weights."""

    kind: ClassVar[str | None] = "average"


def _not_taken(name: str) -> str:
    if name in ("model", "optimizer", "times", "latest"):
        raise PydanticCustomError("name", "an average cannot be called so; the name has a meaning")
    return name


class AugmentationSpec(ComponentSpec):
    """An augmentation."""

    kind: ClassVar[str | None] = "augmentation"


class ObserverSpec(ComponentSpec):
    """An observer of training."""

    kind: ClassVar[str | None] = "observer"


AverageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_not_taken)]
"""Of a file, and of what people ask for."""
EMA_DECAY = "ema_decay"


def spelled_out(training: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of training with `ema_decay` written out. Raises ValueError where it is none."""
    found = dict(training)
    if EMA_DECAY in found:
        decay = plain(found.pop(EMA_DECAY))
        wrong = isinstance(decay, bool) or not isinstance(decay, int | float)
        if decay is not None and (wrong or not 0.0 <= decay < 1.0):
            raise ValueError(f"{EMA_DECAY} is at least 0 and less than 1, or null for no average")
        ema = {"id": "diffkit.ema", "config": {"decay": decay}}
        found["averages"] = {} if decay is None else {"ema": ema}
    return found


class TrainingSpec(SpecModel):
    """How to train."""

    steps: Annotated[_Count, Field(ge=0)] = 20_000
    """Updates in all."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Stop earlier, once so much time was spent training."""
    batch_size: Annotated[int, Field(ge=1, le=10**7)] = 128
    """Of an update, over all processes and micro-batches."""
    accumulate: Annotated[_Count, Field(ge=1)] = 1
    """In how many micro-batches each process computes its share of a batch, to save memory."""
    optimizer: OptimizerSpec = OptimizerSpec(id="diffkit.adamw")
    learning_rate: LearningRateSpec = LearningRateSpec(id="diffkit.constant")
    """A number is short for `{id: diffkit.constant, config: {rate: number}}`."""
    warmup_steps: Annotated[_Count, Field(ge=0)] = 500
    """The learning rate is multiplied by `(n + 1) / (warmup_steps + 1)` at the first updates."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """The largest norm of all gradients together."""
    averages: dict[AverageName, AverageSpec] = {"ema": AverageSpec(id="diffkit.ema")}
    """By name; the first is sampled with. `ema_decay: 0.999` is short for
    `averages: {ema: {id: diffkit.ema, config: {decay: 0.999}}}`, and null for none."""
    condition_dropout: _Share | dict[str, _Share] | None = None
    """How often conditions are replaced by what stands for none, so that the network can be guided
    without a classifier: all of a sample together; or by name, each on its own, and those that are
    not named never. None: 0.1, of those that an encoder or the model has a null for."""
    init: str | None = None
    """The directory of a run whose weights training begins with: those that are sampled with
    there, as far as names and shapes are the same."""
    latents: str | None = None
    """The folder that an autoencoder's latents of the data are kept in. None: `latents` in the run,
    or the memory where there is no run directory."""
    augmentations: Annotated[tuple[AugmentationSpec, ...], Field(strict=False)] = ()
    """Change batches as they are read, each in turn; those of latents are kept as they are."""
    observers: Annotated[tuple[ObserverSpec, ...], Field(strict=False)] = (
        ObserverSpec(id="diffkit.tensorboard"),
    )
    """Are told of training; one that is not installed is left out, with a warning."""
    log_every: Annotated[_Count, Field(ge=1)] = 50
    checkpoint_every: Annotated[_Count, Field(ge=1)] = 1000
    keep: Annotated[_Count, Field(ge=1)] = 3
    """How many of the last checkpoints to keep."""
    keep_best: Annotated[_Count, Field(ge=0)] = 1
    """How many checkpoints to keep beside those: the ones before which the mean loss was least."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What an update does whose loss or gradient is not finite, and which is never applied: stop
    the run when metrics are next taken, or be left out."""

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, value: Any) -> Any:
        if not isinstance(value, dict) or EMA_DECAY not in value:
            return value
        if "averages" in value:
            raise PydanticCustomError(
                "averages", "ema_decay is short for averages; give one of them"
            )
        return spelled_out(value)


def _kind_of(annotation: Any) -> str | None:
    """The kind of component that a field holds, one or several."""
    if isinstance(annotation, type) and issubclass(annotation, ComponentSpec):
        return annotation.kind
    kinds = (_kind_of(argument) for argument in get_args(annotation))
    return next((kind for kind in kinds if kind is not None), None)


TRAINING_KINDS = {
    name: kind
    for name, field in TrainingSpec.model_fields.items()
    if (kind := _kind_of(field.annotation)) is not None
}
"""The fields of `training` that hold components, with their kinds."""
TRAINING_KEYS = (*TrainingSpec.model_fields, EMA_DECAY)
"""Everything that may be written under `training`."""


class ClipSpec(SpecModel):
    """How predictions are clipped."""

    dynamic: Annotated[float, Field(gt=0, le=1)] | None = None
    """The quantile of dynamic thresholding (Saharia et al., 2022, section 2.3: 0.995). None: the
    range itself is the threshold."""
    before_guidance: bool = False
    """Clip what guidance combines, and not what it makes of that."""


class Provenance(SpecModel):
    """Where a component of a saved spec came from."""

    distribution: str
    version: str
    sha256: str | None = None


class PipelineSpec(SpecModel):
    """A whole pipeline. The five components have to be named; the rest has defaults."""

    schedule: ComponentSpec
    process: ComponentSpec
    model: ComponentSpec
    loss: ComponentSpec
    sampler: ComponentSpec
    parameterization: ComponentSpec = ComponentSpec(id="diffkit.epsilon")
    times: ComponentSpec = ComponentSpec(id="diffkit.uniform")
    spacing: ComponentSpec = ComponentSpec(id="diffkit.trailing")
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Sampling steps. None: as many as the schedule has, or 1000 where it is continuous."""
    clip: bool | ClipSpec = True
    """Whether the predicted x_0 is clipped to `data.range` in each step of a trajectory, whatever
    the sampler, or how. Where no range is declared, as of latents, there is nothing to clip to."""
    encoder: ComponentSpec | None = None
    """Of the dataset's conditions. None: the model takes the dataset's as they are, or none."""
    guidance: ComponentSpec | None = None
    """How sampling with a condition is led towards it. None: the condition alone leads."""
    autoencoder: ComponentSpec | None = None
    """Takes data to latents, which all of the above then works in. None: it works in the data."""
    dataset: ComponentSpec | None = None
    data: DataSpec | None = None
    """None: the dataset's; without a dataset, images of 3x32x32 in [-1, 1]."""
    metric: ComponentSpec = ComponentSpec(id="diffkit.frechet")
    features: ComponentSpec = ComponentSpec(id="diffkit.classifier")
    training: TrainingSpec = TrainingSpec()
    precision: Precision = "float32"
    """Of the network's products and convolutions, in training and in sampling; all else is float32,
    and coefficients are float64. `auto` is bfloat16 on devices made for it."""
    compile: Compilation = "off"
    """How the network is compiled for sampling, by torch.compile. `auto` is reduce-overhead, which
    records CUDA graphs, on CUDA, and off elsewhere."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the initial weights and of training."""
    provenance: dict[str, Provenance] = {}
    """Written on saving: the distribution and version of each component, by full id."""


COMPONENT_FIELDS = tuple(
    name
    for name, field in PipelineSpec.model_fields.items()
    if field.annotation in (ComponentSpec, ComponentSpec | None)
)
"""The fields of a spec that hold one component each; each is called like its kind."""
