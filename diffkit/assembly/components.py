"""The components that a pipeline consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffkit.assembly.condition_flow import ConditionFlow
from diffkit.assembly.latents import LatentSpace
from diffkit.core.data import DataType
from diffkit.core.denoiser import Declared
from diffkit.core.encoder import Encoder
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Loss
from diffkit.core.model import EpsilonModel
from diffkit.core.parameterization import Parameterization
from diffkit.core.process import ForwardProcess
from diffkit.core.sampler import Sampler
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.spacing import Spacing
from diffkit.core.times import TrainingTimes


@dataclass(frozen=True)
class Components:
    """One component of each kind, and what is known of the data."""

    schedule: NoiseSchedule
    process: ForwardProcess
    model: EpsilonModel
    loss: Loss
    sampler: Sampler
    parameterization: Parameterization
    times: TrainingTimes
    spacing: Spacing
    shape: tuple[int, ...]
    data_range: tuple[float, float] | None
    """What the model works in: of the data, or of their latents."""
    sample_shape: tuple[int, ...]
    sample_range: tuple[float, float] | None
    """What comes out in the end: of the data."""
    latents: LatentSpace | None = None
    """The space that the model works in, where it is not that of the data."""
    flow: ConditionFlow = field(default_factory=ConditionFlow)
    """Which conditions there are, and who takes them."""
    dtype: DataType = "float32"
    """Of samples."""
    model_steps: int | None = None
    """T of a model that can be asked at multiples of 1/T only."""
    learned_variance: bool = False
    """Whether the model says where the reverse variance lies, in channels of their own."""
    declared: Declared = field(default_factory=Declared)
    """What the model may be told with a question."""
    encoder: Encoder | None = None
    guidance: Guidance | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions that the model takes."""
        return self.flow.model

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the conditions that a sample is given: what the encoder takes, and what
        comes to the model as it is.
        """
        return self.flow.taken

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that the process and the loss read in training, as they were given."""
        return tuple(dict.fromkeys((*self.process.takes, *self.loss.takes)))
