"""The Frechet distance, next to what real data score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, final

import torch
from annotated_types import Ge
from torch import Tensor

from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.metric import Embedding, FeatureExtractor, SampleMetric
from diffkit.core.noise import mix
from diffkit.errors import DataError
from diffkit.functional.frechet import frechet_distance

if TYPE_CHECKING:
    from jaxtyping import Float

_CHUNK = 500
# Below this share of the features' mean square a distance is rounding: 1e-16 squared, and more.
_ROUNDING = 1e-24


@final
class Frechet(SampleMetric):
    """The Frechet distance from samples to data, and from data to other data. Lower is better.

    The data are split at random into disjoint halves A and B of one size:

    - `frechet`: from the samples to A, Heusel et al. (2017), eq. 6, in the space of `features`;
    - `frechet_real`: from B to A, what perfect samples would score;
    - `frechet_ratio`: their quotient. 1 is as good as the data themselves.

    The estimator is biased: finite samples from one distribution have a positive distance, which
    shrinks as 1/n and depends on the features (Chong & Forsyth, 2020). So a distance means little
    alone, and distances at different sample sizes do not compare. Here both are between equally
    many, so that the bias is alike in both, and the ratio tells how far samples are from data.
    `frechet` is comparable only for the same features, data, `max_samples` and seed.

    One split alone is a rough yardstick: with features that tell classes apart, a distance between
    halves mostly says how unevenly the classes happened to fall. So the same data are split
    several times, and each distance is the mean over the splits. What remains is the luck of the
    samples.

    Args:
        features: the space in which samples and data are compared.
        max_samples: the largest half; smaller data are halved.
        splits: how many random splits are averaged over.
    """

    def __init__(
        self,
        *,
        features: FeatureExtractor,
        max_samples: Annotated[int, Ge(2)] = 5000,
        splits: Annotated[int, Ge(1)] = 10,
    ) -> None:
        self._features = features
        self._max_samples = max_samples
        self._splits = splits

    def samples_needed(self, dataset: Dataset) -> int:
        """Half the data, `max_samples` at most.

        Raises:
            DataError: there are fewer than four data, so that no covariance can be estimated.
        """
        half = min(len(dataset) // 2, self._max_samples)
        if half < 2:
            raise DataError(
                f"frechet: each half of the data needs 2 samples, but all data are {len(dataset)}; "
                "use more data, or another metric"
            )
        return half

    def measure(
        self,
        samples: Float[Tensor, " n *data"],
        dataset: Dataset,
        seed: int,
        of: Batch | None = None,
    ) -> Mapping[str, float]:
        """`frechet`, `frechet_real` and `frechet_ratio`; the splits depend on `seed` alone.

        `of` is not looked at: samples are compared with all data, whatever they were made of. Of
        fewer samples than half the data, the halves are as small.

        Raises:
            DataError: the samples are fewer than two or more than `samples_needed`, not of the
                shape of the data, or not finite; or the two halves of the data are alike to the
                features, at distance 0.
        """
        _check_samples(samples, self.samples_needed(dataset), tuple(dataset.shape))
        half = len(samples)
        generator = torch.Generator().manual_seed(mix(seed, "frechet"))
        drawn: list[int] = torch.randperm(len(dataset), generator=generator)[: 2 * half].tolist()
        embedding = self._features.fit(dataset, seed)
        data = _embed_data(embedding, dataset, drawn)
        sampled = torch.cat([embedding(chunk) for chunk in torch.split(samples, _CHUNK)])
        frechet, real = 0.0, 0.0
        for _ in range(self._splits):
            order = torch.randperm(2 * half, generator=generator).to(data.device)
            half_a, half_b = data[order[:half]], data[order[half:]]
            frechet += float(frechet_distance(sampled, half_a)) / self._splits
            real += float(frechet_distance(half_b, half_a)) / self._splits
        if real <= _ROUNDING * float(data.double().square().sum(1).mean()):
            raise DataError(
                "frechet: the two halves of the data are at distance 0, so that there is nothing "
                "to compare with; use other features, or data that differ"
            )
        return {"frechet": frechet, "frechet_real": real, "frechet_ratio": frechet / real}


def _embed_data(embedding: Embedding, dataset: Dataset, indices: Sequence[int]) -> Tensor:
    """`[len(indices), features]`, a chunk of the data in memory at a time."""
    starts = range(0, len(indices), _CHUNK)
    return torch.cat([embedding(dataset.batch(indices[s : s + _CHUNK]).x_0) for s in starts])


def _check_samples(samples: Tensor, most: int, shape: tuple[int, ...]) -> None:
    if tuple(samples.shape[1:]) != shape or not 2 <= len(samples) <= most:
        raise DataError(
            f"frechet: the samples have the shape {list(samples.shape)}, and should have "
            f"{['n', *shape]} with n from 2 to {most}, half the data or max_samples: leave num out "
            "for as many".replace("'", "")
        )
    broken = ~samples.flatten(1).isfinite().all(1)
    if bool(broken.any()):
        raise DataError(
            f"frechet: {int(broken.sum())} of {len(samples)} samples are not finite; the sampler "
            "diverged: take more steps, clip, or train longer"
        )
