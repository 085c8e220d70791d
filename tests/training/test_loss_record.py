"""What losses, datasets and networks give is looked at: nothing is broadcast into place."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.models.mlp import MLP
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch, LossRecord

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "training": {"batch_size": 4, "log_every": 1, "warmup_steps": 0},
}


class Points(Dataset):
    """Gives what `change` makes of a right batch."""

    def __init__(self, change=lambda batch: batch) -> None:
        self.change = change

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def __len__(self) -> int:
        return 16

    def batch(self, indices) -> Batch:
        return self.change(Batch(torch.linspace(-1, 1, 32).reshape(16, 2)[list(indices)]))


class Gives(Simple):
    """Gives what `change` makes of a right record and the number of the call."""

    change = staticmethod(lambda record, call: record)
    calls = 0

    def __call__(self, batch, context):
        Gives.calls += 1
        return Gives.change(super().__call__(batch, context), Gives.calls)


def with_terms(*names: str, values=None):
    def change(record, call):
        terms = {name: record.values.detach() * (i + 1) for i, name in enumerate(names)}
        return LossRecord(record.values, record.t, terms if values is None else values)

    return change


def with_values(make):
    return lambda record, call: LossRecord(make(record.values), record.t, record.terms)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r, c: None, "NoneType, and not a LossRecord"),
        (with_values(lambda v: v[:3]), r"\[3\].*for each of 4 samples"),
        (with_values(lambda v: v.mean()), "values"),
        (with_values(lambda v: v[:, None]), "values"),
        (with_values(lambda v: 1.0), "values are float"),
        (with_values(lambda v: v.detach()), "no gradient reaches"),
        (with_terms(values={"a": 1.0}), "term 'a'"),
        (with_terms(values={"a": torch.ones(4, dtype=torch.int64)}), "term 'a'"),
        (with_terms(values={"": torch.ones(4)}), "no name"),
        (with_terms(values=[1]), "terms are a mapping"),
    ],
)
def test_what_is_no_record_is_an_error(change, words, monkeypatch) -> None:
    monkeypatch.setattr(Gives, "change", staticmethod(change))
    pipeline = diffkit.build({**SPEC, "loss": Gives()})
    with pytest.raises(diffkit.ComponentError, match=words):
        pipeline.train(Points(), steps=1, progress=False)


def logged(pipeline, **options) -> list[dict[str, float]]:
    found = []

    class Notes:
        @diffkit.hookimpl
        def diffkit_step(self, metrics) -> None:
            found.append(metrics)

    pipeline.train(Points(), progress=False, observers=[Notes()], **options)
    return found


def test_terms_are_told_by_name_and_not_by_place(monkeypatch) -> None:
    def change(record, call):
        names = ("a", "b") if call % 2 else ("b", "a")
        of = {"a": record.values.detach(), "b": 2 * record.values.detach()}
        return LossRecord(record.values, record.t, {name: of[name] for name in names})

    monkeypatch.setattr(Gives, "change", staticmethod(change))
    for metrics in logged(diffkit.build({**SPEC, "loss": Gives()}), steps=3, accumulate=2):
        assert metrics["loss/a"] == pytest.approx(metrics["loss"], rel=1e-6)
        assert metrics["loss/b"] == pytest.approx(2 * metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_other_terms_from_time_to_time_are_an_error(accumulate, monkeypatch) -> None:
    one, other = with_terms("a"), with_terms("b")
    change = staticmethod(lambda record, call: (one if call % 2 else other)(record, call))
    monkeypatch.setattr(Gives, "change", change)
    with pytest.raises(diffkit.ComponentError, match="give the same"):
        logged(
            diffkit.build({**SPEC, "loss": Gives()}), steps=4, accumulate=accumulate, log_every=10
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: None, "gives a NoneType"),
        (lambda b: (b.x_0,), "gives a tuple"),
        (lambda b: SimpleNamespace(x_0=b.x_0, condition={}), "not a Batch"),
        (lambda b: Batch(b.x_0.numpy()), "not a Batch of tensors"),
        (lambda b: Batch(b.x_0[:1]), r"shape \[1, 2\]"),
        (lambda b: Batch(b.x_0[:, :1]), "shape"),
        (lambda b: Batch(b.x_0, {"label": torch.zeros(1)}), "condition label"),
        (lambda b: Batch(b.x_0, {"label": np.zeros(len(b))}), "condition label"),
        (lambda b: Batch(b.x_0.to(torch.uint8)), "gives uint8"),
        (lambda b: Batch(b.x_0.to(torch.complex64)), "gives complex64"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_no_batch_is_an_error(change, words, kept, tmp_path) -> None:
    # A run that is kept looks at some samples before.
    out = tmp_path / "run" if kept else None
    with pytest.raises(diffkit.DataError, match=words):
        diffkit.build(SPEC).train(Points(change), steps=2, out=out, progress=False)


def test_numbers_of_another_precision_are_taken() -> None:
    plain = diffkit.build(SPEC).train(Points(), steps=2, progress=False)
    double = Points(lambda b: Batch(b.x_0.double()))
    other = diffkit.build(SPEC).train(double, steps=2, progress=False)
    pairs = zip(plain.system.parameters(), other.system.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda y: y[:1], r"gives \[1, 2\]"),
        (lambda y: y[:, :1], r"should give \[4, 2\]"),
        (lambda y: (y,), "gives tuple"),
        (lambda y: None, "gives NoneType"),
    ],
)
def test_what_is_no_output_is_an_error(output, words, monkeypatch) -> None:
    forward = MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda self, *given: output(forward(self, *given)))
    with pytest.raises(diffkit.ComponentError, match=words):
        diffkit.build(SPEC).train(Points(), steps=1, progress=False)
    with pytest.raises(diffkit.ComponentError, match="gives"):
        diffkit.build(SPEC).sample(4, steps=2, progress=False)
