"""The laws of encoders, measured in float64 and in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffkit.core.encoder import MASK, TOKENS, VECTOR, Encoder, gives_of
from diffkit.core.model import Condition
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.conditions import raw_conditions
from diffkit.testing.laws import NotApplicable, require, within
from diffkit.testing.networks import facts_of

_ROWS = 4
_ROUNDING = 1e-5
_WHY_ROUNDING = "networks that are fixed may compute in float32, where sums are good to 1e-6"


@check
def facts_name_what_it_takes_and_gives(subject: ComponentUnderTest) -> None:
    """The facts hold the names that it takes, and those that it gives, or widths."""
    facts = facts_of(subject)
    takes: Any = facts.get("takes")
    right = isinstance(takes, list | tuple) and all(isinstance(name, str) for name in takes)
    require(
        right and 0 < len(set(takes)) == len(takes),
        "the fact 'takes'",
        measured=repr(takes),
        expected="a tuple of distinct names",
        why="a string is taken for the names of its letters",
    )
    widths = [facts.get(name) for name in (VECTOR, TOKENS)]
    require(
        all(w is None or (isinstance(w, int) and w > 0) for w in widths),
        f"the facts '{VECTOR}' and '{TOKENS}'",
        measured=widths,
        expected="whole numbers above 0, or None",
    )
    gives: Any = facts.get("gives", ())
    require(
        isinstance(gives, list | tuple) and len(gives_of(facts)) > 0,
        "the fact 'gives', and the widths",
        measured=gives,
        expected="a tuple of names, or a width, or both",
        why="a model is matched with what its encoder gives before either is made",
    )


@check
def it_gives_what_the_facts_say(subject: ComponentUnderTest) -> None:
    """It gives what its facts say: a vector `[b, width]`, tokens `[b, n, width]` and a mask."""
    facts, encoder = facts_of(subject), _made(subject)
    for what, told in (("conditions", _told(subject, encoder)), ("null", _null(encoder))):
        wanted = set(gives_of(facts))
        require(
            set(told) == wanted, f"what it gives for {what}", measured=set(told), expected=wanted
        )
        for name, value in told.items():
            require(
                value.ndim > 0 and len(value) == _ROWS,
                f"{name} of {what}",
                measured=tuple(value.shape),
                expected=f"{_ROWS} rows",
            )
        if facts.get(VECTOR):
            _shaped(f"{VECTOR} of {what}", told[VECTOR], (_ROWS, facts[VECTOR]))
        if not facts.get(TOKENS):
            continue
        tokens, mask = told[TOKENS], told[MASK]
        _shaped(f"{TOKENS} of {what}", tokens, (_ROWS, tokens.shape[1], facts[TOKENS]))
        counts = mask.dtype == torch.bool and mask.shape == tokens.shape[:2]
        require(
            counts and bool(mask.any(dim=1).all()),
            f"{MASK} of {what}",
            measured=f"{mask.dtype} of the shape {tuple(mask.shape)}, "
            f"{mask.sum(dim=-1).tolist()} of a row true",
            expected=f"bool of the shape {tuple(tokens.shape[:2])}, some of each row true",
            why="attention to nothing is not a number",
        )


@check
def null_is_prepared_like_conditions(subject: ComponentUnderTest) -> None:
    """What stands for no condition looks like prepared conditions, and all its rows are alike."""
    encoder = _made(subject)
    prepared, null = encoder.prepare(raw_conditions(subject, _ROWS)), encoder.null(_ROWS)
    found, wanted = (
        {name: (v.dtype, tuple(v.shape), v.device.type) for name, v in told.items()}
        for told in (null, prepared)
    )
    require(
        found == wanted,
        "what stands for no condition",
        measured=found,
        expected=wanted,
        why="dropout puts the one in the place of the other, row by row, before they are encoded",
    )
    for name, value in null.items():
        require(
            bool((value == value[:1]).all()),
            f"the rows of {name} for no condition",
            measured="different",
            expected="all alike",
        )
    one = {name: tuple(value.shape[1:]) for name, value in encoder.null(1).items()}
    require(
        one == {name: tuple(value.shape[1:]) for name, value in prepared.items()},
        "the shapes of one row for no condition",
        measured=one,
        expected="those of any other number of rows",
    )


@check
def groups_can_be_left_out(subject: ComponentUnderTest) -> None:
    """Its groups of conditions are all that it takes, and each is prepared as with the others."""
    encoder, raw = _made(subject), raw_conditions(subject, _ROWS)
    whole, groups = encoder.prepare(raw), encoder.groups()
    taken = [name for group in groups for name in group.takes]
    require(
        sorted(taken) == sorted(raw),
        "the names in its groups",
        measured=sorted(taken),
        expected=f"each that it takes, once: {sorted(raw)}",
    )
    for group in groups:
        alone = encoder.prepare({name: raw[name] for name in group.takes})
        require(
            set(alone) == set(group.prepared),
            f"what it prepares of {', '.join(group.takes)} alone",
            measured=sorted(alone),
            expected=f"what its groups say: {sorted(group.prepared)}",
            why="dropout puts what stands for none in the place of exactly these",
        )
        for name, value in alone.items():
            _alike(f"{name}, prepared without the others", value, whole[name])


@check
def rows_are_encoded_on_their_own(subject: ComponentUnderTest) -> None:
    """What a sample is told depends on its own condition alone, whatever batch it is in."""
    encoder, raw = _made(subject), raw_conditions(subject, _ROWS)
    whole = _encoded(encoder, encoder.prepare(raw))
    for row in (0, _ROWS - 1):
        alone = _encoded(encoder, encoder.prepare({n: v[[row]] for n, v in raw.items()}))
        for name, value in alone.items():
            _alike(f"{name} of row {row}, alone and among {_ROWS}", value, whole[name][[row]])


@check
def conditions_are_told_apart(subject: ComponentUnderTest) -> None:
    """Different conditions are told differently, and otherwise than none."""
    encoder, raw = _moved(_made(subject), subject), raw_conditions(subject, _ROWS)
    told, null = _encoded(encoder, encoder.prepare(raw)), _encoded(encoder, encoder.null(1))
    for row in range(_ROWS - 1):
        _apart(f"rows {row} and {row + 1}", told, row, told, row + 1)
    differ = [row for row in range(_ROWS) if not _same_row(told, row, null, 0)]
    require(
        len(differ) == _ROWS,
        "rows told otherwise than no condition",
        measured=differ,
        expected="all of them",
        why="what stands for none must not stand for one of them too",
    )


@check
def calls_give_the_same_again(subject: ComponentUnderTest) -> None:
    """In eval mode equal conditions are told equally, whatever was asked in between."""
    encoder, raw = _made(subject), raw_conditions(subject, _ROWS)
    first = _encoded(encoder, encoder.prepare(raw))
    _null(encoder)
    again = _encoded(encoder, encoder.prepare(raw))
    for name, value in again.items():
        within(f"{name}, asked again", value.double(), first[name].double(), 0.0, "it is the same")


@check
def gradients_reach_every_weight(subject: ComponentUnderTest) -> None:
    """Every parameter that is to be trained receives a gradient, from conditions or from none."""
    encoder = _moved(_made(subject), subject)
    raw = raw_conditions(subject, 8)
    if not any(p.requires_grad for p in encoder.parameters()):
        raise NotApplicable("nothing of it is trained")
    generator = subject.generator("gradients")
    total = torch.zeros((), dtype=torch.float64)
    for prepared in (encoder.prepare(raw), encoder.null(2)):
        for name, value in encoder(prepared).items():
            if name != MASK:
                # A plain sum is what normalisation makes constant.
                weights = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                total = total + (weights * value).sum()
    torch.autograd.backward(total)
    idle = [
        name
        for name, p in encoder.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]
    require(not idle, "parameters without a gradient", measured=", ".join(idle), expected="none")


def _made(subject: ComponentUnderTest) -> Encoder:
    encoder: Encoder = subject.make()
    return encoder.double().eval()


def _moved(encoder: Encoder, subject: ComponentUnderTest) -> Encoder:
    """Off the zeros that layers may start with."""
    generator = subject.generator("moved")
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.05 * step)
    return encoder


def _encoded(encoder: Encoder, prepared: Condition) -> Condition:
    with torch.no_grad():
        told: Condition = encoder(prepared)
    return told


def _told(subject: ComponentUnderTest, encoder: Encoder) -> Condition:
    return _encoded(encoder, encoder.prepare(raw_conditions(subject, _ROWS)))


def _null(encoder: Encoder) -> Condition:
    return _encoded(encoder, encoder.null(_ROWS))


def _shaped(what: str, value: Tensor, shape: tuple[int, ...]) -> None:
    good = value.shape == shape and value.is_floating_point() and bool(value.isfinite().all())
    require(
        good,
        what,
        measured=f"{value.dtype} of the shape {tuple(value.shape)}",
        expected=f"finite floating-point numbers of the shape {shape}",
    )


def _alike(what: str, value: Tensor, wanted: Tensor) -> None:
    require(
        value.shape == wanted.shape,
        what,
        measured=tuple(value.shape),
        expected=tuple(wanted.shape),
        why="rows of batches are put together",
    )
    size = max(float(wanted.double().abs().max()), 1e-30)
    within(what, value.double(), wanted.double(), _ROUNDING * size, _WHY_ROUNDING)


def _same_row(told: Condition, row: int, other: Condition, other_row: int) -> bool:
    return all(
        bool(torch.isclose(v[row].double(), other[n][other_row].double(), atol=1e-9).all())
        for n, v in told.items()
    )


def _apart(what: str, told: Condition, row: int, other: Condition, other_row: int) -> None:
    require(
        not _same_row(told, row, other, other_row),
        f"what is told for {what}, whose conditions differ",
        measured="the same",
        expected="different",
    )


CHECKS: tuple[Check, ...] = (
    facts_name_what_it_takes_and_gives,
    it_gives_what_the_facts_say,
    null_is_prepared_like_conditions,
    groups_can_be_left_out,
    rows_are_encoded_on_their_own,
    conditions_are_told_apart,
    calls_give_the_same_again,
    gradients_reach_every_weight,
)
