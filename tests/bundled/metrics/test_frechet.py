from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffkit.bundled.datasets.digits import Digits
from diffkit.bundled.features.classifier import Classifier
from diffkit.bundled.metrics import frechet
from diffkit.bundled.metrics.frechet import Frechet
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.metric import FeatureExtractor
from diffkit.errors import DataError
from diffkit.functional.frechet import frechet_distance


class Memory(Dataset):
    """Samples from a tensor; remembers which were asked for."""

    def __init__(self, *, x_0: Tensor, label: Tensor | None = None) -> None:
        self.x_0, self.label = x_0, label
        self.read: list[list[int]] = []

    @property
    def shape(self):
        return tuple(self.x_0.shape[1:])

    def __len__(self):
        return len(self.x_0)

    def batch(self, indices):
        self.read.append(list(indices))
        condition = {} if self.label is None else {"label": self.label[list(indices)]}
        return Batch(self.x_0[list(indices)], condition)


class Flat(FeatureExtractor):
    """The coordinates themselves, times a factor."""

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, dataset, seed):
        return lambda samples: self.factor * samples.flatten(1)


def gaussian(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def measure(samples: Tensor, data: Dataset, seed: int = 0, max_samples: int = 5000):
    return Frechet(features=Flat(), max_samples=max_samples).measure(samples, data, seed)


@pytest.mark.parametrize(
    ("n", "max_samples", "needed"), [(100, 5000, 50), (101, 5000, 50), (100, 30, 30), (4, 2, 2)]
)
def test_needs_half_the_data_up_to_a_limit(n, max_samples, needed):
    metric = Frechet(features=Flat(), max_samples=max_samples)
    data = Memory(x_0=gaussian(n, 2))
    assert metric.samples_needed(data) == needed
    metric.measure(gaussian(needed, 2, seed=1), data, 0)


@pytest.fixture
def asked(monkeypatch):
    """The pairs of features whose distance was asked for."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def record(features_a: Tensor, features_b: Tensor) -> Tensor:
        pairs.append((features_a, features_b))
        return frechet_distance(features_a, features_b)

    monkeypatch.setattr(frechet, "frechet_distance", record)
    return pairs


@pytest.mark.parametrize(("n", "max_samples"), [(1200, 5000), (1201, 5000), (3000, 600)])
def test_the_data_are_split_at_random_into_disjoint_halves_of_one_size(asked, n, max_samples):
    data = Memory(x_0=torch.arange(n)[:, None].double())
    samples = gaussian(600, 1)
    drawn = []
    for seed in (0, 0, 1):
        asked.clear()
        data.read.clear()
        Frechet(features=Flat(), max_samples=max_samples, splits=3).measure(samples, data, seed)
        assert max(map(len, data.read)) <= 500  # never all of the data at once
        assert sum(map(len, data.read)) == 1200  # and none of them twice
        splits = []
        for (sampled, half_a), (half_b, again) in zip(asked[::2], asked[1::2], strict=True):
            assert torch.equal(sampled, samples)
            assert torch.equal(half_a, again)
            assert len(half_a) == len(half_b) == 600
            splits.append((set(half_a[:, 0].tolist()), set(half_b[:, 0].tolist())))
            assert len(set.union(*splits[-1])) == 1200
        assert len({frozenset(half_a) for half_a, _ in splits}) == 3
        drawn.append(splits)
    assert drawn[0] == drawn[1] != drawn[2]


def test_each_number_is_the_mean_distance_that_it_says(asked):
    data, samples = Memory(x_0=gaussian(40, 3)), 2 * gaussian(20, 3, seed=1)
    values = Frechet(features=Flat(), splits=4).measure(samples, data, 0)
    distances = [float(frechet_distance(*pair)) for pair in asked]
    assert len(distances) == 8
    assert values["frechet"] == pytest.approx(sum(distances[::2]) / 4)
    assert values["frechet_real"] == pytest.approx(sum(distances[1::2]) / 4)
    assert values["frechet_ratio"] == values["frechet"] / values["frechet_real"]
    assert set(values) == {"frechet", "frechet_real", "frechet_ratio"}


def test_the_distance_is_between_the_features():
    data, samples = Memory(x_0=gaussian(40, 1, 2, 2)), gaussian(20, 1, 2, 2, seed=1)
    plain = Frechet(features=Flat()).measure(samples, data, 0)
    scaled = Frechet(features=Flat(factor=3.0)).measure(samples, data, 0)
    assert scaled["frechet"] == pytest.approx(9 * plain["frechet"])
    assert scaled["frechet_ratio"] == pytest.approx(plain["frechet_ratio"])


def test_perfect_samples_score_one():
    # Both distances estimate one bias. With 20 features an estimate is a sum of about 230 squares
    # (20 of means, 210 of covariances), so that it varies by sqrt(2/230) = 9 % and the mean of 10
    # ratios by sqrt(2/10) of that at most, 4 %; the bound is four times as wide.
    ratios = []
    for seed in range(10):
        data = Memory(x_0=gaussian(2000, 20, seed=seed))
        ratios.append(measure(gaussian(1000, 20, seed=seed + 100), data)["frechet_ratio"])
    assert sum(ratios) / 10 == pytest.approx(1, abs=0.16)


def test_the_bias_halves_when_the_sample_doubles():
    # Why both distances are between equally many. Each mean of 10 varies by 3 % at most (see
    # above), their quotient by 4 %; the bound is four times as wide.
    def mean_at(half: int) -> float:
        data = [Memory(x_0=gaussian(2 * half, 20, seed=seed)) for seed in range(10)]
        samples = gaussian(half, 20, seed=99)
        return sum(measure(samples, d)["frechet_real"] for d in data) / 10

    assert mean_at(500) / mean_at(1000) == pytest.approx(2, rel=0.16)


@pytest.mark.parametrize(
    "worse", [lambda x: 1.1 * x, lambda x: x + 0.1, lambda x: x[:1].expand_as(x)]
)
def test_worse_samples_score_above_one(worse):
    data = Memory(x_0=gaussian(8000, 4))
    # Both errors are 0.1^2 a feature, against a bias of about 14/4000 in all.
    assert measure(worse(gaussian(4000, 4, seed=1)), data)["frechet_ratio"] > 3


def test_real_digits_score_about_one_and_blurred_ones_do_not():
    digits = Digits().batch(range(1797))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    held_out, kept = order[:599], order[599:]
    data = Memory(x_0=digits.x_0[kept], label=digits.condition["label"][kept])
    metric = Frechet(features=Classifier(steps=150, width=16))
    samples = digits.x_0[held_out]
    # 600 digits fall unevenly over ten classes, which is most of the distance: over 24 choices of
    # the held-out digits the ratio was 1.1 with a deviation of 0.27, all between 0.7 and 1.7.
    assert 0.5 < metric.measure(samples, data, 0)["frechet_ratio"] < 2.2
    blurred = torch.nn.functional.avg_pool2d(samples, 3, stride=1, padding=1)
    assert metric.measure(blurred, data, 0)["frechet_ratio"] > 5


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (gaussian(21, 3), r"shape \[21, 3\], .* \[n, 3\] with n from 2 to 20"),
        (gaussian(1, 3), r"shape \[1, 3\], .* with n from 2 to 20"),
        (gaussian(20, 4), r"\[20, 4\]"),
        (gaussian(20, 3, 1), r"\[20, 3, 1\]"),
        (gaussian(20), r"\[20\]"),
        (torch.tensor([[1.0, 2.0, torch.nan]] * 2 + [[1.0, 2.0, 3.0]] * 18), "2 of 20 samples"),
        (torch.full((20, 3), torch.inf), "20 of 20 samples are not finite"),
    ],
)
def test_wrong_samples_are_refused_before_any_work(samples, message):
    data = Memory(x_0=gaussian(40, 3))
    with pytest.raises(DataError, match=message):
        measure(samples, data)
    assert not data.read


def test_too_few_data_are_refused():
    with pytest.raises(DataError, match="all data are 3"):
        Frechet(features=Flat()).samples_needed(Memory(x_0=gaussian(3, 2)))


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e6 / 3])
def test_halves_at_distance_zero_are_refused(constant):
    with pytest.raises(DataError, match="nothing to compare with"):
        measure(gaussian(20, 3), Memory(x_0=torch.full((40, 3), constant)))


def test_a_small_spread_around_a_large_mean_is_no_rounding():
    data = Memory(x_0=1e3 + 1e-3 * gaussian(40, 3).double())
    assert 0.2 < measure(1e3 + 1e-3 * gaussian(20, 3, seed=1).double(), data)["frechet_ratio"] < 5


def test_nothing_global_is_touched():
    data, samples = Memory(x_0=gaussian(40, 3)), gaussian(20, 3, seed=1)
    before, kept = torch.get_rng_state(), samples.clone()
    measure(samples, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(samples, kept)


def test_of_fewer_samples_both_distances_are_between_so_many() -> None:
    """So that the bias, of the order of 1/n, is alike in both: the ratio of the data's own is 1."""
    data = Memory(x_0=gaussian(400, 3))
    ratios = [
        Frechet(features=Flat()).measure(gaussian(20, 3, seed=seed), data, seed)["frechet_ratio"]
        for seed in range(20, 40)
    ]
    # Of 20 independent ratios, each within a factor of two or so.
    assert 0.7 < sum(ratios) / len(ratios) < 1.6
