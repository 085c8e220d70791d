"""Data as training and metrics read them: looked at, with conditions that an encoder prepared."""

from __future__ import annotations

from collections.abc import Sequence

from diffkit.assembly.components import Components
from diffkit.assembly.condition_flow import missing_problem, takers
from diffkit.core.dataset import Dataset, WrappedDataset
from diffkit.core.loss import Batch
from diffkit.core.model import Condition
from diffkit.errors import DataError


class Prepared(WrappedDataset):
    """A dataset whose conditions an encoder has prepared, on the host, as they are read."""

    def __init__(self, *, dataset: Dataset, parts: Components) -> None:
        super().__init__(dataset=dataset)
        self._parts = parts

    @property
    def conditions(self) -> None:
        """They are the encoder's, which declares none."""
        return

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples, with prepared conditions. Raises DataError where one is not there."""
        return prepared_batch(self.wrapped.batch(indices), self._parts)


def prepared_batch(read: Batch, parts: Components) -> Batch:
    """A dataset's batch as a loss is given it: on the host, with conditions that are prepared.

    What passes to the model as it is, is beside them; what the process and the loss read, in
    `given`. Raises DataError where one is not there.
    """
    raw, flow = read.condition, parts.flow
    wanted = takers(flow, parts.process, parts.loss)
    if problem := missing_problem(wanted, flow, raw):
        raise DataError(problem)
    given = {name: raw[name] for name in parts.given if name in raw}
    if parts.encoder is None:
        return Batch(read.x_0, raw, given)
    told = parts.encoder.prepare({name: raw[name] for name in flow.encoder or ()})
    passed = {name: raw[name] for name in flow.passed if name in raw}
    check_apart(told, passed)
    return Batch(read.x_0, {**passed, **told}, given)


def check_apart(told: Condition, passed: Condition) -> None:
    """Raise DataError where what was prepared has the name of what passes to the model."""
    if both := sorted(told.keys() & passed.keys()):
        raise DataError(
            f"the condition {both[0]} is what the encoder prepares, and the model takes one of "
            "that name from the dataset; rename one of them (the encoder 'renamed' does)"
        )


def check_data(dataset: Dataset, parts: Components) -> None:
    """Raise DataError where samples are not of the shape or the range that a pipeline is for."""
    if tuple(dataset.shape) != parts.sample_shape:
        raise DataError(
            f"the dataset has samples of the shape {list(dataset.shape)}, and the pipeline was "
            f"built for {list(parts.sample_shape)}; give data of that shape, or set data.shape"
        )
    if dataset.dtype != parts.dtype:
        raise DataError(
            f"the dataset has samples of the type {dataset.dtype}, and the pipeline was built for "
            f"{parts.dtype}; give data of that type, or set data.dtype"
        )
    wanted, declared = parts.sample_range, dataset.range
    if declared is not None and wanted is not None and tuple(declared) != tuple(wanted):
        raise DataError(
            f"the dataset has samples in {list(declared)}, and the pipeline was built for "
            f"{list(wanted)}; give data in that range"
        )


def check_conditions(dataset: Dataset, parts: Components) -> None:
    """Raise DataError where a dataset lacks a condition that somebody takes in training.

    One that declares nothing is asked for its first sample.
    """
    wanted = takers(parts.flow, parts.process, parts.loss)
    if not wanted:
        return
    declared = dataset.conditions
    offered = tuple(dataset.batch([0]).condition if declared is None else declared)
    if problem := missing_problem(wanted, parts.flow, offered):
        raise DataError(problem)


def prepared(dataset: Dataset, parts: Components) -> Dataset:
    """The dataset as training reads it."""
    if parts.encoder is None and not parts.given and not parts.flow.taken:
        return dataset
    return Prepared(dataset=dataset, parts=parts)
