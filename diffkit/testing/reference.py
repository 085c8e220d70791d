"""Components to test others with: smooth, small, and exactly known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffkit.core.component import Config
from diffkit.core.data import ConditionInfo, Conditions, DataShape, DataType
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import DataRange
from diffkit.core.loss import Batch
from diffkit.core.metric import Embedding, FeatureExtractor
from diffkit.core.schedule import NoiseSchedule, Time, as_time
from diffkit.errors import ComponentError

if TYPE_CHECKING:
    from jaxtyping import Float64


class UniformLogSNR(NoiseSchedule):
    """`l(t) = first + (last - first) t`: as smooth as can be, and finite at both ends.

    On it an even trajectory in t is even in log-SNR, where orders of convergence are defined.

    Args:
        first: the log-SNR as t falls to 0.
        last: the log-SNR at t = 1, below the first.
    """

    def __init__(self, *, first: float = 8.0, last: float = -8.0) -> None:
        if not last < first:
            raise ComponentError(f"UniformLogSNR: last {last} must be below first {first}")
        self._first, self._last = first, last

    @property
    def t_min(self) -> float:
        """A thousandth."""
        return 1e-3

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The line; +inf at t = 0."""
        t = as_time(t)
        return torch.where(t == 0, torch.inf, torch.lerp(*self._ends(t), t))

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Its inverse. Raises ComponentError outside [last, first]."""
        t = (self._first - log_snr.double()) / (self._first - self._last)
        t = torch.where(torch.isposinf(log_snr), 0.0, t)
        # What rounding carries over the edge is the edge.
        if not bool(((t >= -1e-12) & (t <= 1 + 1e-12)).all()):
            raise ComponentError(
                f"UniformLogSNR: log-SNRs lie in [{self._last}, {self._first}], and "
                f"{log_snr.min().item():.6g}..{log_snr.max().item():.6g} was asked for"
            )
        return t.clamp(0.0, 1.0)

    def _ends(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, self._first), torch.full_like(t, self._last)


class ZeroTerminal(NoiseSchedule):
    """`l(t) = -2 log tan(pi t / 2)`: no signal at all is left at t = 1.

    Hoogeboom et al. (2023), section 3.1, the unshifted cosine in continuous time.
    """

    @property
    def t_min(self) -> float:
        """A thousandth."""
        return 1e-3

    def log_snr(self, t: Time) -> Float64[Tensor, "..."]:
        """The formula; -inf at t = 1."""
        t = as_time(t)
        inside = -2.0 * torch.log(torch.tan(t * (torch.pi / 2)))
        return torch.where(t == 1, -torch.inf, inside)

    def time_at(self, log_snr: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Its inverse, defined everywhere."""
        return torch.atan(torch.exp(-0.5 * log_snr.double())) * (2 / torch.pi)


class Points(Dataset):
    """A few hundred samples from a mixture of Gaussians, in [-1, 1], always the same."""

    def __init__(self, *, shape: DataShape = (1, 8, 8), count: int = 256) -> None:
        self._shape = tuple(shape)
        generator = torch.Generator().manual_seed(count)
        centres = 0.5 * torch.randn(4, *self._shape, generator=generator)
        self._labels = torch.randint(4, (count,), generator=generator)
        spread = 0.1 * torch.randn(count, *self._shape, generator=generator)
        self._samples = (centres[self._labels] + spread).clamp(-1.0, 1.0)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `range` and `conditions`."""
        conditions = {"label": ConditionInfo(dtype="int64", classes=4)}
        return {"shape": tuple(config.shape), "range": (-1.0, 1.0), "conditions": conditions}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self._shape

    @property
    def range(self) -> DataRange | None:
        """[-1, 1]."""
        return (-1.0, 1.0)

    @property
    def conditions(self) -> Conditions:
        """`label`: four Gaussians."""
        return {"label": ConditionInfo(dtype="int64", classes=4)}

    def __len__(self) -> int:
        return self._samples.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these indices, and as `label` which Gaussian each is from."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(self._samples[rows], {"label": self._labels[rows]})


class TokenData(Dataset):
    """A few hundred samples of tokens, of which each place has a favourite; always the same."""

    def __init__(self, *, shape: DataShape = (8,), count: int = 256, vocabulary: int = 5) -> None:
        self._shape, self._vocabulary = tuple(shape), vocabulary
        generator = torch.Generator().manual_seed(count)
        favourite = torch.randint(vocabulary, self._shape, generator=generator)
        others = torch.randint(vocabulary, (count, *self._shape), generator=generator)
        strays = torch.rand(count, *self._shape, generator=generator) < 0.2
        self._samples = torch.where(strays, others, favourite)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`shape`, `dtype` and `vocabulary`."""
        shape = tuple(config.shape)
        return {"shape": shape, "dtype": "int64", "vocabulary": config.vocabulary}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self._shape

    @property
    def dtype(self) -> DataType:
        """Whole numbers."""
        return "int64"

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are."""
        return self._vocabulary

    def __len__(self) -> int:
        return self._samples.shape[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these indices."""
        return Batch(self._samples[torch.as_tensor(indices, dtype=torch.int64)])


class PixelFeatures(FeatureExtractor):
    """The sample itself, flattened."""

    def fit(self, dataset: Dataset, seed: int) -> Embedding:
        """The same for all data."""
        return lambda samples: samples.flatten(1)
