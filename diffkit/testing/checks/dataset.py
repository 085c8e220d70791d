"""The laws of datasets. At most 64 samples are read, evenly spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.stream import Stream
from diffkit.errors import DiffkitError
from diffkit.testing.check import Check, check
from diffkit.testing.checks import stream
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.networks import facts_of

_AT_MOST, _OF_STREAMS = 64, 16
_WHY_SEED = "every update of a training is a function of the seed and its number"


@check
def facts_are_those_of_the_instance(subject: ComponentUnderTest) -> None:
    """The facts give the shape and the range that the dataset has."""
    facts = facts_of(subject)
    dataset: Dataset = subject.make()
    conditions = dataset.conditions
    declared = None if conditions is None else dict(conditions)
    require(
        facts.get("conditions") == declared,
        "the fact 'conditions'",
        measured=facts.get("conditions"),
        expected=f"{declared}, which the dataset declares",
        why="who takes which condition is matched before any data are read",
    )
    tokens = (facts.get("dtype", "float32"), facts.get("vocabulary"))
    require(
        tokens == (dataset.dtype, dataset.vocabulary),
        "the facts 'dtype' and 'vocabulary'",
        measured=tokens,
        expected=f"{(dataset.dtype, dataset.vocabulary)}, which the dataset has",
        why="a network for tokens is made for as many as the facts say",
    )
    for name, real in (("shape", tuple(dataset.shape)), ("range", dataset.range)):
        told = facts.get(name)
        told = None if told is None else tuple(told)
        require(
            told == real,
            f"the fact {name!r}",
            measured=told,
            expected=f"{real}, which the dataset has",
            why="the network is made for what the facts say, before any data are read",
        )


@check
def length_is_the_number_of_samples(subject: ComponentUnderTest) -> None:
    """There is at least one sample, the last index can be read, and the one after it cannot."""
    dataset = _at_random(subject)
    count = len(dataset)
    require(count >= 1, "the length", measured=count, expected="at least 1")
    last = len(dataset.batch([count - 1]))
    require(last == 1, f"the samples in batch([{count - 1}])", measured=last, expected=1)
    try:
        beyond = dataset.batch([count])
    except (IndexError, DiffkitError):
        return
    require(
        False,
        f"batch([{count}]), where the length is {count}",
        measured=f"a batch of {len(beyond)}",
        expected="IndexError or a DiffkitError",
        why="a sample that is never counted is never seen, and one counted twice is seen twice",
    )


@check
def batches_are_what_is_declared(subject: ComponentUnderTest) -> None:
    """A batch is dense, on the host, of the declared dtype, shape, and range or vocabulary."""
    dataset: Dataset = subject.make()
    indices = _spread(dataset)
    x_0 = dataset.batch(indices).x_0
    found = (x_0.dtype, x_0.device.type, tuple(x_0.shape))
    declared = (getattr(torch, dataset.dtype), "cpu", (len(indices), *dataset.shape))
    require(found == declared, "a batch", measured=found, expected=declared)
    require(x_0.is_contiguous(), "a batch", measured=f"strides {x_0.stride()}", expected="dense")
    require(
        bool(x_0.isfinite().all()),
        f"{len(indices)} samples",
        measured=f"{int((~x_0.isfinite()).sum())} numbers not finite",
        expected="all finite",
    )
    if dataset.vocabulary is not None:
        require(
            dataset.dtype == "int64" and 0 <= int(x_0.min()) <= int(x_0.max()) < dataset.vocabulary,
            f"the tokens of {len(indices)} samples",
            measured=f"{dataset.dtype}, {x_0.min()} to {x_0.max()}",
            expected=f"int64, 0 to {dataset.vocabulary - 1}",
            why="an embedding has a row for each token of the vocabulary, and no other",
        )
    if dataset.range is not None:
        low, high = dataset.range
        require(
            low <= float(x_0.min()) and float(x_0.max()) <= high,
            f"the values of {len(indices)} samples",
            measured=f"{float(x_0.min()):.6g} to {float(x_0.max()):.6g}",
            expected=f"within the declared range, {low:g} to {high:g}",
            why="x_0 is clipped to the range, and pictures are drawn by it",
        )


@check
def conditions_are_batch_first(subject: ComponentUnderTest) -> None:
    """Conditions are tensors on the host by name, with one row a sample."""
    dataset: Dataset = subject.make()
    indices = _spread(dataset)
    condition = dataset.batch(indices).condition
    if not condition:
        raise NotApplicable("it has no conditions")
    for name, value in condition.items():
        require(
            isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(indices),
            f"the condition {name!r} of {len(indices)} samples",
            measured=f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))}",
            expected=f"a tensor with {len(indices)} rows",
        )
        require(
            value.device.type == "cpu", f"{name!r}", measured=value.device, expected="on the host"
        )


@check
def conditions_are_what_is_declared(subject: ComponentUnderTest) -> None:
    """A batch has the conditions that are declared, and no other, of that shape and dtype."""
    dataset: Dataset = subject.make()
    declared = dataset.conditions
    if declared is None:
        raise NotApplicable("it declares no conditions; they are looked at when training begins")
    indices = _spread(dataset)
    condition = dataset.batch(indices).condition
    require(
        set(condition) == set(declared),
        "the conditions of a batch",
        measured=sorted(condition),
        expected=f"those that are declared: {sorted(declared)}",
    )
    for name, info in declared.items():
        value = condition[name]
        found = (str(value.dtype).removeprefix("torch."), tuple(value.shape[1:]))
        require(
            found == (info.dtype, tuple(info.shape)),
            f"the condition {name!r}",
            measured=found,
            expected=(info.dtype, tuple(info.shape)),
            why="what stands for no condition, and what networks are made for, have this shape",
        )
        if info.classes is not None:
            require(
                0 <= int(value.min()) <= int(value.max()) < info.classes,
                f"the classes of {name!r}",
                measured=f"{int(value.min())} to {int(value.max())}",
                expected=f"0 to {info.classes - 1}",
            )


@check
def an_index_means_one_sample(subject: ComponentUnderTest) -> None:
    """A sample and its conditions depend on its index alone, whatever batch it is read in."""
    dataset = _at_random(subject)
    count = len(dataset)
    indices = _spread(dataset)
    batch = dataset.batch(indices)
    _same_rows(dataset.batch(indices), batch, "the same indices again")
    backward = dataset.batch(tuple(reversed(indices)))
    order = list(range(len(indices)))
    _same_rows(backward, _rows(batch, order[::-1]), "the indices in reverse")
    for row in {0, len(indices) // 2, len(indices) - 1}:
        _same_rows(dataset.batch([indices[row]]), _rows(batch, [row]), f"index {indices[row]}")
    last = count - 1
    repeated = dataset.batch([last, 0, last])
    _same_rows(repeated, _rows(repeated, [2, 1, 0]), f"the indices {[last, 0, last]}")
    few = indices[:3]
    _same_rows(dataset.batch(list(np.asarray(few))), _rows(batch, order[:3]), "numpy's integers")
    _same_rows(dataset.batch(range(1)), _rows(dataset.batch([0]), [0]), "a range")


@check
def the_data_are_always_the_same(subject: ComponentUnderTest) -> None:
    """Another instance of the same configuration has the same samples in the same order."""
    dataset: Dataset = subject.make()
    other: Dataset = replace(subject, seed=subject.seed + 1).make()
    lengths = [_length(one) for one in (other, dataset)]
    require(lengths[0] == lengths[1], "the lengths", measured=lengths[0], expected=lengths[1])
    indices = _spread(dataset)
    _same_rows(other.batch(indices), dataset.batch(indices), "another instance")


@check
def batches_are_fresh_memory(subject: ComponentUnderTest) -> None:
    """Writing into one batch changes no other."""
    dataset: Dataset = subject.make()
    indices = range(min(_length(dataset), 4))
    first = dataset.batch(indices)
    before = _rows(first, list(indices))
    for tensor in (first.x_0, *first.condition.values()):
        tensor.zero_().add_(1)
    _same_rows(dataset.batch(indices), before, "the same indices after writing into a batch")


@check
def samples_differ(subject: ComponentUnderTest) -> None:
    """Not all samples are equal."""
    dataset: Dataset = subject.make()
    if _length(dataset) == 1:
        raise NotApplicable("it has one sample")
    x_0 = dataset.batch(_spread(dataset)).x_0
    require(
        bool((x_0 != x_0[:1]).any()),
        f"{len(x_0)} samples, evenly spread",
        measured="all equal",
        expected="at least two that differ",
    )


CHECKS: tuple[Check, ...] = (
    facts_are_those_of_the_instance,
    length_is_the_number_of_samples,
    batches_are_what_is_declared,
    conditions_are_batch_first,
    conditions_are_what_is_declared,
    an_index_means_one_sample,
    the_data_are_always_the_same,
    batches_are_fresh_memory,
    samples_differ,
    *stream.CHECKS,
)


def _at_random(subject: ComponentUnderTest) -> Dataset:
    """The dataset, where it has a length and indices."""
    dataset: Dataset = subject.make()
    if isinstance(dataset, Stream):
        raise NotApplicable("it is a stream, which has neither a length nor indices")
    return dataset


def _length(dataset: Dataset) -> int:
    """Of a stream, as much as is looked at."""
    return _OF_STREAMS if isinstance(dataset, Stream) else len(dataset)


def _spread(dataset: Dataset) -> list[int]:
    """Indices from the first to the last."""
    last = _length(dataset) - 1
    shown = min(last, _AT_MOST - 1)
    return [index * last // max(shown, 1) for index in range(shown + 1)]


def _rows(batch: Batch, chosen: Sequence[int]) -> Batch:
    """A copy of these rows."""
    rows = torch.tensor(list(chosen), dtype=torch.int64)
    return Batch(batch.x_0[rows], {name: value[rows] for name, value in batch.condition.items()})


def _same_rows(found: Batch, expected: Batch, what: str) -> None:
    for name, value in _tensors(expected).items():
        other = _tensors(found).get(name)
        require(
            other is not None and other.shape == value.shape,
            f"{name} for {what}",
            measured=None if other is None else tuple(other.shape),
            expected=tuple(value.shape),
        )
        assert other is not None
        unlike = (other != value).flatten(1).any(1) if value.ndim > 1 else other != value
        require(
            not bool(unlike.any()),
            f"{name} for {what}",
            measured=f"{int(unlike.sum())} of {len(value)} samples changed",
            expected="the same",
            why=_WHY_SEED,
        )


def _tensors(batch: Batch) -> Mapping[str, Tensor]:
    return {"x_0": batch.x_0, **{f"condition {k!r}": v for k, v in batch.condition.items()}}
