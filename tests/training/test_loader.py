"""Whatever way rows come to the device, they are the same rows."""

from __future__ import annotations

import threading

import pytest
import torch

from diffkit.bundled.datasets.digits import Digits
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.errors import DataError
from diffkit.training.loader import DirectLoader, OnDeviceLoader, PrefetchingLoader, loader_for
from diffkit.training.order import DataOrder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits()


@pytest.mark.parametrize("feed", [PrefetchingLoader, OnDeviceLoader])
@pytest.mark.parametrize("count", [7, 100])
def test_all_feeds_give_the_same(feed, count, digits) -> None:
    direct, other = (
        DirectLoader(digits, DataOrder(len(digits), 3), CPU),
        feed(digits, DataOrder(len(digits), 3), CPU),
    )
    # The end of an epoch lies within; the last jump is as a resumed run makes it.
    starts = [0, count, 2 * count, 1797 - count // 2, 5000]
    for start, then in zip(starts, [*starts[1:], 0], strict=True):
        ours, theirs = direct.take(start, count, then), other.take(start, count, then)
        assert torch.equal(ours.x_0, theirs.x_0)
        assert torch.equal(ours.condition["label"], theirs.condition["label"])


class RecordingDenoiser(Dataset):
    """Notes the thread of each read, and fails from a row on."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __len__(self) -> int:
        return 50

    def batch(self, indices) -> Batch:
        self.threads.append(threading.current_thread().name)
        if len(self.threads) > 2:
            raise DataError("gone")
        return Batch(torch.zeros(len(indices), 2))


def test_reading_ahead_is_done_elsewhere_and_its_errors_come_here() -> None:
    data = RecordingDenoiser()
    feed = PrefetchingLoader(data, DataOrder(len(data), 0), CPU)
    feed.take(0, 5, then=5)
    feed.take(5, 5, then=10)
    with pytest.raises(DataError, match="gone"):
        feed.take(10, 5, then=15)
    assert all(name.startswith("diffkit-reader") for name in data.threads)
    # Each batch was read once.
    assert len(data.threads) == 3


def test_small_data_live_on_a_device_and_large_ones_are_read_ahead(digits, monkeypatch) -> None:
    meta = torch.device("meta")
    assert isinstance(loader_for(digits, 0, CPU), DirectLoader)
    assert isinstance(loader_for(digits, 0, meta), OnDeviceLoader)
    monkeypatch.setattr("diffkit.training.loader._LARGEST_RESIDENT", 1000)
    assert isinstance(loader_for(digits, 0, meta), PrefetchingLoader)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("feed", [PrefetchingLoader, OnDeviceLoader])
def test_on_a_gpu_too(feed, digits) -> None:
    device = torch.device("cuda")
    direct, other = (
        DirectLoader(digits, DataOrder(len(digits), 3), CPU),
        feed(digits, DataOrder(len(digits), 3), device),
    )
    for start in (0, 16, 32):
        theirs = other.take(start, 16, start + 16)
        assert theirs.x_0.device.type == "cuda"
        assert torch.equal(direct.take(start, 16, start + 16).x_0, theirs.x_0.cpu())
