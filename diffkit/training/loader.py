"""How rows of a dataset come to the device that trains."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from diffkit.core.dataset import Dataset
from diffkit.core.guided import joined
from diffkit.core.loss import Batch
from diffkit.errors import DataError
from diffkit.training.in_order import NumberOrder, in_order
from diffkit.training.order import DataOrder

Order = DataOrder | NumberOrder
_READ_AT_ONCE = 1024
_LARGEST_RESIDENT = 1 << 30
"""Bytes of float32 data up to which all of it is kept on the device."""


class Loader(ABC):
    """Gives the samples of training, by their place in the order of the data, on the device."""

    @abstractmethod
    def take(self, start: int, count: int, then: int) -> Batch:
        """Samples `start` to `start + count` of all training; as many from `then` on are next."""


class DirectLoader(Loader):
    """Reads when asked. Right where the host is the device."""

    def __init__(self, dataset: Dataset, order: Order, device: torch.device) -> None:
        self._dataset, self._order, self._device = dataset, order, device

    def take(self, start: int, count: int, then: int) -> Batch:
        read = self._dataset.batch(self._order.rows(start, count))
        return _each(read, lambda value: value.to(self._device))


class PrefetchingLoader(Loader):
    """Reads the next samples, into pinned memory, while the device works on those before."""

    def __init__(self, dataset: Dataset, order: Order, device: torch.device) -> None:
        self._dataset, self._order, self._device = dataset, order, device
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="diffkit-reader")
        self._next: tuple[tuple[int, int], Future[Batch]] | None = None

    def take(self, start: int, count: int, then: int) -> Batch:
        asked, read = self._next or ((-1, -1), None)
        if read is None or asked != (start, count):
            read = self._reader.submit(self._read, start, count)
        batch = read.result()
        self._next = ((then, count), self._reader.submit(self._read, then, count))
        return _each(batch, lambda value: value.to(self._device, non_blocking=True))

    def _read(self, start: int, count: int) -> Batch:
        read = self._dataset.batch(self._order.rows(start, count))
        pinned = self._device.type == "cuda"
        return _each(read, lambda value: value.pin_memory() if pinned else value)


class OnDeviceLoader(Loader):
    """Keeps the whole dataset on the device, and picks rows there."""

    def __init__(self, dataset: Dataset, order: Order, device: torch.device) -> None:
        self._order, self._device = order, device
        rows = range(len(dataset))
        parts = [
            _each(dataset.batch(rows[i : i + _READ_AT_ONCE]), lambda value: value.to(device))
            for i in range(0, len(rows), _READ_AT_ONCE)
        ]
        self._whole = Batch(
            torch.cat([part.x_0 for part in parts]),
            joined(*(part.condition for part in parts)),
            joined(*(part.given for part in parts)),
        )

    def take(self, start: int, count: int, then: int) -> Batch:
        rows = torch.tensor(self._order.rows(start, count))
        if self._device.type == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(self._device, non_blocking=True)
        return _each(self._whole, lambda value: value.index_select(0, rows))


def loader_for(
    dataset: Dataset, seed: int, device: torch.device, *, streams: bool = False
) -> Loader:
    """The feed that suits the device: beside CPUs, small datasets are kept there whole.

    One that `streams` has no length, and is read in its own order.
    """
    order = NumberOrder() if streams else DataOrder(len(dataset), seed)
    if device.type == "cpu":
        return DirectLoader(dataset, order, device)
    if streams or 4 * len(dataset) * math.prod(dataset.shape) > _LARGEST_RESIDENT:
        return PrefetchingLoader(dataset, order, device)
    return OnDeviceLoader(dataset, order, device)


def check_samples(dataset: Dataset, shape: tuple[int, ...]) -> None:
    """Raise DataError where there are no samples, or of another shape than the network works in."""
    if not in_order(dataset) and len(dataset) == 0:
        raise DataError("the dataset is empty; training needs at least one sample")
    if tuple(dataset.shape) != shape:
        raise DataError(
            f"the dataset has samples of the shape {list(dataset.shape)}, and the pipeline "
            f"was built for {list(shape)}; set data.shape, or the dataset in "
            "the spec"
        )


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    condition, given = (
        {name: change(value) for name, value in told.items()}
        for told in (batch.condition, batch.given)
    )
    return Batch(change(batch.x_0), condition, given)
