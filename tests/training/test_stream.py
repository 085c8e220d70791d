"""Data that come one after another."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

import diffkit
from diffkit.core import Batch, Stream
from diffkit.errors import DataError
from diffkit.training.in_order import InOrder

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "training": {
        "batch_size": 8,
        "warmup_steps": 0,
        "log_every": 4,
        "checkpoint_every": 4,
        "ema_decay": 0.9,
    },
}


class Numbers(Stream):
    """Sample number i is `(sin i, cos i)`; in batches whose sizes go 1, 2, 3, 1, 2, 3."""

    def __init__(self, *, end: int | None = None):
        self._end = end
        self.read = []

    @property
    def shape(self):
        return (2,)

    def iterate(self, rank, world, position):
        self.read.append((rank, world, position))
        number, size = position + rank, 0
        while self._end is None or number < self._end:
            size = size % 3 + 1
            numbers = torch.tensor([number + world * i for i in range(size)])
            if self._end is not None:
                numbers = numbers[numbers < self._end]
            x = torch.stack([numbers.sin(), numbers.cos()], dim=1)
            yield Batch(x, {"number": numbers})
            number += world * size


def trained(tmp_path, *, stop=None, steps=12, stream=None, **training):
    pipeline = diffkit.build(SPEC, device="cpu")
    stream = Numbers() if stream is None else stream
    settings = {"out": tmp_path, "steps": steps, "progress": False, **training}
    if stop is not None:
        pipeline.train(stream, **{**settings, "steps": stop})
        pipeline = diffkit.load(tmp_path)
        pipeline.train(stream, resume=True, **settings)
    else:
        pipeline.train(stream, **settings)
    return pipeline, stream


def same(one, other):
    other = other.system.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.system.state_dict().items())


@pytest.mark.parametrize("stop", [4, 5, 11])
def test_training_goes_on_with_the_next_sample(tmp_path, stop) -> None:
    whole, _ = trained(tmp_path / "whole")
    resumed, stream = trained(tmp_path / "resumed", stop=stop)
    assert same(whole, resumed)
    # Not one sample is read again.
    assert (0, 1, 8 * stop) in stream.read


def test_batches_are_the_samples_in_order(tmp_path) -> None:
    seen = []

    class Look(diffkit.core.Loss):
        takes = ("number",)

        def __call__(self, batch, context):
            seen.append(batch.given["number"].tolist())
            t, _ = context.draw_times(len(batch))
            x_t = context.process.diffuse(batch.x_0, t, torch.randn_like(batch.x_0))
            return diffkit.core.LossRecord(context.denoiser(x_t, t).epsilon.sum(1), t)

    pipeline = diffkit.build({**SPEC, "loss": Look()}, device="cpu")
    pipeline.train(Numbers(), steps=3, progress=False)
    pipeline.train(Numbers(), steps=1, progress=False, accumulate=2)
    assert [number for rows in seen for number in rows] == list(range(32))
    assert [len(rows) for rows in seen] == [8, 8, 8, 4, 4]


def test_processes_share_it() -> None:
    """Of a batch of 8 each of two processes has 4 samples, and together they have all of it."""
    found = {}
    for rank in (0, 1):
        share = InOrder(stream=Numbers(), world=SimpleNamespace(rank=rank, count=2), size=8)
        for step in (0, 1, 5):
            first = 8 * step + 4 * rank
            halves = [share.batch([first, first + 1]), share.batch([first + 2, first + 3])]
            numbers = [int(n) for half in halves for n in half.condition["number"]]
            found.setdefault(step, []).extend(numbers)
    assert {step: sorted(numbers) for step, numbers in found.items()} == {
        step: list(range(8 * step, 8 * step + 8)) for step in (0, 1, 5)
    }


def test_its_end_ends_training_and_nothing_is_lost(tmp_path) -> None:
    with pytest.raises(DataError, match=r"Numbers ended 40 samples after number 0; make fewer"):
        trained(tmp_path, stream=Numbers(end=44))
    again = diffkit.load(tmp_path)
    assert diffkit.storage.run_directory.latest_checkpoint(tmp_path).name == "step-00000005"
    whole, _ = trained(tmp_path / "short", steps=5)
    assert same(again, whole)


def test_no_sample_is_read_but_to_be_trained_on(tmp_path) -> None:
    """A queue gives each but once; and a short one is enough for as many updates as it has."""
    stream = Numbers(end=16)
    trained(tmp_path / "run", steps=2, stream=stream)
    assert [position for _, _, position in stream.read] == [0]
    stream = Numbers(end=32)
    trained(tmp_path / "run", steps=4, stream=stream, resume=True)
    assert [position for _, _, position in stream.read] == [16]


def test_what_reads_at_random_is_refused(tmp_path) -> None:
    pipeline = diffkit.build({**SPEC, "data": {"shape": [2], "range": [-1, 1]}}, device="cpu")
    for ask in (
        lambda: pipeline.evaluate(dataset=Numbers(), metric="bits-per-dim"),
        lambda: Numbers().batch([3, 1]),
        lambda: len(Numbers()),
    ):
        with pytest.raises(DataError, match="is a stream, which has no length"):
            ask()
    assert Numbers().batch([3, 4]).condition["number"].tolist() == [3, 4]


def test_a_stream_that_gives_something_else_is_told(tmp_path) -> None:
    class Lists(Numbers):
        def iterate(self, rank, world, position):
            yield [1, 2, 3]

    with pytest.raises(DataError, match="Lists gives no Batch"):
        diffkit.build(SPEC, device="cpu").train(Lists(), steps=1, progress=False)


def test_the_reference_stream_does_what_the_contract_says() -> None:
    whole = [int(n) for b in islice(Numbers().iterate(0, 1, 0), 20) for n in b.condition["number"]]
    later = [int(n) for b in islice(Numbers().iterate(1, 2, 6), 5) for n in b.condition["number"]]
    assert whole[:12] == list(range(12))
    assert later[:5] == [7, 9, 11, 13, 15]
