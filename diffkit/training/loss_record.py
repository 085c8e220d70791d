"""What a loss gives, looked at before it is used."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from diffkit.core.loss import Loss, LossRecord
from diffkit.errors import ComponentError


def checked_record(
    record: object, count: int, loss: Loss, *, with_gradient: bool = True
) -> LossRecord:
    """The record of a loss for so many samples. Raises ComponentError for what is none.

    Nothing is read from a device.
    """
    name = f"loss: {type(loss).__name__}"
    if not isinstance(record, LossRecord):
        raise ComponentError(f"{name} gives a {type(record).__name__}, and not a LossRecord")
    for what, value in (("values", record.values), ("t", record.t)):
        _check(f"{name}: its {what}", value, count)
    if with_gradient and not record.values.requires_grad:
        raise ComponentError(
            f"{name}: no gradient reaches its values; compute them of what context.denoiser gives"
        )
    if not isinstance(record.terms, Mapping):
        raise ComponentError(f"{name}: its terms are a mapping from names to tensors")
    for term, value in record.terms.items():
        if not isinstance(term, str) or not term:
            raise ComponentError(f"{name}: the term {term!r} has no name that can be logged")
        _check(f"{name}: its term {term!r}", value, count)
    return record


def _check(what: str, value: object, count: int) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != (count,):
        found = (
            f"{value.dtype} {list(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise ComponentError(
            f"{what} are {found.removeprefix('torch.')}, and should be one floating-point number "
            f"for each of {count} samples, [{count}]"
        )
