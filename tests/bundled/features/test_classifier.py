from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from diffkit.bundled.datasets.digits import Digits
from diffkit.bundled.datasets.idx import Idx
from diffkit.bundled.features.classifier import Classifier
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist


class Memory(Dataset):
    """Samples and conditions from tensors."""

    def __init__(self, *, x_0: Tensor, condition: dict[str, Tensor]) -> None:
        self.x_0, self.condition = x_0, condition

    @property
    def shape(self):
        return tuple(self.x_0.shape[1:])

    def __len__(self):
        return len(self.x_0)

    def batch(self, indices):
        rows = torch.as_tensor(indices)
        return Batch(self.x_0[rows], {k: v[rows] for k, v in self.condition.items()})


def memory(*shape: int, n: int = 30, classes: int = 3) -> Memory:
    x_0 = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return Memory(x_0=x_0, condition={"label": torch.arange(n) % classes})


def small() -> Classifier:
    return Classifier(width=4, features=5, steps=3, batch_size=8)


def probe_accuracy(embedding, train: Batch, test: Batch) -> float:
    """How well a linear classifier of the embedding does on what nothing was trained on."""
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(max_iter=2000)
    probe.fit(embedding(train.x_0), train.condition["label"])
    return float(probe.score(embedding(test.x_0), test.condition["label"]))


def test_half_the_digits_teach_it_the_other_half():
    digits = Digits().batch(range(1797))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    half, other = (
        Memory(x_0=digits.x_0[rows], condition={"label": digits.condition["label"][rows]})
        for rows in (order[:898], order[898:])
    )
    embedding = Classifier().fit(half, seed=0)
    train, test = half.batch(range(898)), other.batch(range(899))
    # 98 % is usual; 1 % is two deviations of a count of 18 errors in 899.
    assert probe_accuracy(embedding, train, test) >= 0.97
    features = embedding(test.x_0)
    assert features.shape == (899, 64)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert bool((features >= 0).all())
    assert bool(features.std(0).gt(0).sum() > 32)  # most of them are alive
    one_by_one = torch.cat([embedding(x[None]) for x in test.x_0[:10]])
    torch.testing.assert_close(one_by_one, features[:10])


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    train, test = (
        Idx(
            images=str(FASHION / f"{part}-images-idx3-ubyte.gz"),
            labels=str(FASHION / f"{part}-labels-idx1-ubyte.gz"),
        )
        for part in ("train", "t10k")
    )
    embedding = Classifier().fit(train, seed=0)
    accuracy = probe_accuracy(embedding, train.batch(range(6000)), test.batch(range(10_000)))
    assert accuracy >= 0.87


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "sides", [(8, 8), (9, 11), (28, 28), (32, 32), (33, 33), (64, 64), (64, 8), (4, 4)]
)
def test_takes_images_of_any_size(channels, sides):
    data = memory(channels, *sides, n=10)
    features = small().fit(data, seed=0)(data.x_0)
    assert features.shape == (10, 5)
    assert bool(features.isfinite().all())


def test_depends_on_the_seed_alone():
    data = memory(1, 8, 8)
    torch.manual_seed(1)
    first = small().fit(data, seed=7)(data.x_0)
    torch.manual_seed(2)
    assert torch.equal(small().fit(data, seed=7)(data.x_0), first)
    assert not torch.equal(small().fit(data, seed=8)(data.x_0), first)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_under_any_gradient_mode_and_leaves_it(mode):
    data = memory(1, 8, 8)
    expected = small().fit(data, seed=0)(data.x_0)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        features = small().fit(data, seed=0)(data.x_0)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert torch.equal(features, expected)


def test_training_changes_the_features():
    data = memory(1, 8, 8)
    short, longer = (
        Classifier(width=4, features=5, steps=steps).fit(data, 0)(data.x_0) for steps in (2, 30)
    )
    assert not torch.allclose(short, longer)


def test_nothing_global_and_no_argument_is_touched():
    data = memory(1, 8, 8)
    torch.manual_seed(1)  # a state that no other test has left
    before, kept = torch.get_rng_state(), data.x_0.clone()
    embedding = small().fit(data, seed=0)
    samples = data.x_0.double().requires_grad_()
    assert not embedding(samples).requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(data.x_0, kept)


def test_labels_may_be_any_whole_numbers():
    data = memory(1, 8, 8)
    far = Memory(x_0=data.x_0, condition={"label": 1000 * data.condition["label"] - 7})
    assert torch.equal(small().fit(data, 0)(data.x_0), small().fit(far, 0)(data.x_0))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({}, r"Memory has no condition 'label'.*conditions: none.*choose another feature"),
        ({"text": torch.zeros(30, 4)}, "its conditions: text"),
        ({"label": torch.zeros(30)}, r"torch.float32 \(30,\)"),
        ({"label": torch.zeros(30, 10, dtype=torch.int64)}, r"torch.int64 \(30, 10\)"),
        ({"label": torch.full((30,), 4)}, "the same label"),
    ],
)
def test_data_without_usable_labels_are_refused(condition, message):
    data = Memory(x_0=torch.zeros(30, 1, 8, 8), condition=condition)
    with pytest.raises(DataError, match=message):
        small().fit(data, seed=0)


def test_data_that_are_no_images_are_refused():
    with pytest.raises(DataError, match=r"shape \(2,\); choose another feature extractor"):
        small().fit(memory(2), seed=0)
    config = SimpleNamespace()
    assert len(list(Classifier.requires(config, {"data.shape": (2,)}))) == 1
    assert not list(Classifier.requires(config, {"data.shape": (1, 8, 8)}))
    assert not list(Classifier.requires(config, {}))


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("shape", [(5, 1, 9, 8), (5, 3, 8, 8), (1, 8, 8)])
def test_samples_of_another_shape_are_refused(shape):
    embedding = small().fit(memory(1, 8, 8), seed=0)
    with pytest.raises(DataError, match="cannot be compared with data of the shape"):
        embedding(torch.zeros(shape))
