"""The laws of augmentations."""

from __future__ import annotations

import torch

from diffkit.core.augmentation import Augmentation
from diffkit.core.loss import Batch
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require
from diffkit.testing.usages.training import (
    BATCH_SIZE,
    augmented_rows,
    declared_facts,
    picture_batch,
    refuse_unfit,
)

_TRIES = 8


@check
def batches_keep_their_form(subject: ComponentUnderTest) -> None:
    """Samples stay float32, finite and of their shape; a batch has as many rows as before."""
    refuse_unfit(subject)
    augmentation: Augmentation = subject.make()
    for count in (1, BATCH_SIZE):
        batch = picture_batch(subject, count)
        for step in range(_TRIES):
            found = augmented_rows(subject, augmentation, batch, range(count), step)
            require(
                isinstance(found, Batch),
                "what is given",
                measured=type(found).__name__,
                expected="a Batch",
            )
            given = (found.x_0.dtype, tuple(found.x_0.shape), bool(found.x_0.isfinite().all()))
            wanted = (torch.float32, tuple(batch.x_0.shape), True)
            require(
                given == wanted,
                f"the dtype and shape of {count} samples, and whether all are finite",
                measured=given,
                expected=wanted,
            )
            rows = {name: len(value) for name, value in found.condition.items()}
            require(
                set(rows.values()) <= {count},
                f"the rows of conditions of {count} samples",
                measured=rows,
                expected=count,
            )


@check
def conditions_are_kept_and_added_as_declared(subject: ComponentUnderTest) -> None:
    """The conditions are those of before, in their shapes, and those that the facts declare."""
    refuse_unfit(subject)
    batch = picture_batch(subject, BATCH_SIZE)
    adds = declared_facts(subject).get("adds", {})
    wanted = {name: tuple(value.shape[1:]) for name, value in batch.condition.items()}
    wanted |= {name: tuple(shape) for name, shape in adds.items()}
    found = augmented_rows(subject, subject.make(), batch, range(BATCH_SIZE), 0)
    given = {name: tuple(value.shape[1:]) for name, value in found.condition.items()}
    require(
        given == wanted,
        "the conditions, with the shape of one sample's",
        measured=given,
        expected=wanted,
        why="a network is built for what the fact `adds` declares, and sampling gives zeros",
    )
    dtypes = {name: found.condition[name].dtype for name in adds}
    require(
        set(dtypes.values()) <= {torch.float32},
        "the dtypes of what is added",
        measured=dtypes,
        expected="torch.float32",
    )
    require(
        torch.equal(found.condition["label"], batch.condition["label"]),
        "the labels of samples",
        measured=found.condition["label"].tolist(),
        expected=batch.condition["label"].tolist(),
        why="rows stay in their order, with what belongs to them",
    )


@check
def a_row_does_not_depend_on_who_computes_it(subject: ComponentUnderTest) -> None:
    """A row is changed alike in a whole batch, in a share of it, and beside other rows."""
    refuse_unfit(subject)
    augmentation: Augmentation = subject.make()
    whole = picture_batch(subject, BATCH_SIZE)
    first, rest = range(3), range(3, BATCH_SIZE)
    others = whole.x_0.clone()
    others[rest.start :] = 0.25
    for step in range(_TRIES):
        wanted = augmented_rows(subject, augmentation, whole, range(BATCH_SIZE), step)
        beside = Batch(others, whole.condition)
        found = augmented_rows(subject, augmentation, beside, range(BATCH_SIZE), step)
        shares = {
            f"rows {rows.start} to {rows.stop - 1} alone": (
                rows,
                augmented_rows(subject, augmentation, _share(whole, rows), rows, step),
            )
            for rows in (first, rest)
        }
        alone = {"rows 0 to 2 beside others": (first, _share(found, first)), **shares}
        for name, (rows, part) in alone.items():
            # Kernels of other batch sizes may round otherwise.
            apart = (part.x_0 - wanted.x_0[rows.start : rows.stop]).abs().max()
            require(
                bool(apart <= 1e-5),
                name,
                measured=f"{float(apart):.3g} from the rows of the whole batch",
                expected="the same",
                why="runs must not depend on how many processes share a batch: draw for every row "
                "from `noise`, and look at no other row",
            )


@check
def something_is_changed(subject: ComponentUnderTest) -> None:
    """Of many samples some are changed, and not all of them alike in every batch."""
    refuse_unfit(subject)
    augmentation: Augmentation = subject.make()
    batch = picture_batch(subject, BATCH_SIZE)
    seen = [
        augmented_rows(subject, augmentation, batch, range(BATCH_SIZE), step).x_0
        for step in range(4 * _TRIES)
    ]
    changed = sum(not torch.equal(x, batch.x_0) for x in seen)
    different = any(not torch.equal(x, seen[0]) for x in seen)
    require(
        changed > 0 and different,
        f"batches of {len(seen)} that were changed, and whether they differ",
        measured=(changed, different),
        expected="some, which differ",
        why="what is done is drawn for each update anew",
    )


def _share(batch: Batch, rows: range) -> Batch:
    part = slice(rows.start, rows.stop)
    condition = {name: value[part] for name, value in batch.condition.items()}
    return Batch(batch.x_0[part], condition)


CHECKS: tuple[Check, ...] = (
    batches_keep_their_form,
    conditions_are_kept_and_added_as_declared,
    a_row_does_not_depend_on_who_computes_it,
    something_is_changed,
)
