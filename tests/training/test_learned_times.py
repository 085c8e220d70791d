"""Times that follow the losses: what they learn is kept, gathered, handed over and saved."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.times.importance import Importance
from diffkit.bundled.times.uniform import Uniform
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch, LossRecord
from diffkit.core.weights import read_tensors
from diffkit.distributed.world import SingleProcess
from diffkit.storage import run_directory
from diffkit.training.learned_times import LearnedTimes

EVERY = 5
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 6}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "times": {"id": "importance", "config": {"history": 3, "every": EVERY}},
    "training": {"batch_size": 12, "warmup_steps": 2, "log_every": 4, "checkpoint_every": 100},
}
LEARNED_BY = 3 * EVERY
"""After so many updates the times have followed losses for a while."""


class Points(Dataset):
    def __init__(self) -> None:
        self._x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))

    @property
    def shape(self):
        return (2,)

    def __len__(self):
        return len(self._x)

    def batch(self, indices):
        return Batch(self._x[list(indices)])


def trained(run, steps, spec=SPEC, **training):
    resume = run.exists()
    pipeline = diffkit.load(run) if resume else diffkit.build(spec)
    pipeline.train(Points(), out=run, steps=steps, resume=resume, progress=False, **training)
    return pipeline


def files(run):
    last = run_directory.latest_checkpoint(run)
    names = sorted(path.name for path in last.glob("*.safetensors"))
    return {name: read_tensors(last / name) for name in names}


def assert_equal(one, other) -> None:
    assert files(one).keys() == files(other).keys()
    for name, tensors in files(one).items():
        for key, value in tensors.items():
            assert torch.equal(value, files(other)[name][key]), f"{name}: {key}"


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path) -> None:
    end = LEARNED_BY + 8
    trained(tmp_path / "whole", end)
    # Before anything is learned, on a handing over, and with losses that wait for the next one.
    for stop in (2, EVERY, LEARNED_BY, LEARNED_BY + 1, LEARNED_BY + EVERY + 2):
        run = tmp_path / str(stop)
        trained(run, stop)
        assert len(files(run)["times.safetensors"]["pending"]) == 12 * (stop % EVERY)
        trained(run, end)
        assert_equal(run, tmp_path / "whole")


def test_the_times_do_follow_the_losses(tmp_path) -> None:
    uniform = {**SPEC, "times": "uniform"}
    trained(tmp_path / "learned", EVERY)
    trained(tmp_path / "uniform", EVERY, uniform)
    model = "model.safetensors"
    counts = files(tmp_path / "learned")["times.safetensors"]["counts"]
    assert counts.min() >= 3, "the first losses that are handed over fill every history"
    same = files(tmp_path / "learned")[model], files(tmp_path / "uniform")[model]
    assert all(torch.equal(value, same[1][key]) for key, value in same[0].items())
    trained(tmp_path / "learned", EVERY + 2)
    trained(tmp_path / "uniform", EVERY + 2)
    other = files(tmp_path / "learned")[model], files(tmp_path / "uniform")[model]
    assert not all(torch.equal(value, other[1][key]) for key, value in other[0].items())
    assert "times.safetensors" not in files(tmp_path / "uniform")


def test_neither_logs_nor_checkpoints_matter(tmp_path) -> None:
    end = LEARNED_BY + 8
    trained(tmp_path / "seldom", end, log_every=1000)
    trained(tmp_path / "often", end, log_every=1, checkpoint_every=1)
    assert_equal(tmp_path / "seldom", tmp_path / "often")


@pytest.mark.parametrize(
    "times",
    [SPEC["times"], "stratified", {"id": "stratified", "config": {"distribution": SPEC["times"]}}],
)
def test_micro_batches_do_not_matter(times, tmp_path) -> None:
    spec = {**SPEC, "times": times}
    for name, accumulate in (("whole", 1), ("parts", 3)):
        trained(tmp_path / name, LEARNED_BY + 8, spec, accumulate=accumulate)
    for name, tensors in files(tmp_path / "whole").items():
        for key, value in tensors.items():
            other = files(tmp_path / "parts")[name][key]
            # Sums in another order, in float32.
            assert torch.allclose(value.double(), other.double(), rtol=1e-4, atol=1e-6), key


def test_a_checkpoint_without_what_was_learned_is_refused(tmp_path) -> None:
    trained(tmp_path / "run", 3)
    path = run_directory.latest_checkpoint(tmp_path / "run") / "times.safetensors"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(diffkit.CheckpointError, match=r"times\.safetensors is missing"):
        trained(tmp_path / "run", 6)
    path.write_bytes(whole[:40])
    with pytest.raises(diffkit.CheckpointError, match="not a whole safetensors file"):
        trained(tmp_path / "run", 6)
    other = {**SPEC, "times": {"id": "importance", "config": {"history": 4}}}
    trained(tmp_path / "other", 3, other)
    other_path = run_directory.latest_checkpoint(tmp_path / "other") / "times.safetensors"
    path.write_bytes(other_path.read_bytes())
    with pytest.raises(diffkit.CheckpointError, match="differs in losses"):
        trained(tmp_path / "run", 6)


def record(values, t=(0.5, 1.0)):
    return LossRecord(values=torch.as_tensor(values), t=torch.tensor(t, dtype=torch.float64))


def feedback(every=2, world=None):
    return LearnedTimes(
        Importance(history=2, every=every), Cosine(steps=2), world or SingleProcess()
    )


def test_losses_are_read_when_they_are_handed_over_and_not_before() -> None:
    given = feedback()
    on_device = LossRecord(torch.ones(2, device="meta"), torch.tensor([0.5, 1.0]).double())
    given.add(0, on_device)
    given.hand_over(1)
    given.add(2, on_device)
    # There, every read of a value by the host is an error.
    with pytest.raises((RuntimeError, NotImplementedError)):
        given.hand_over(2)


def test_losses_that_are_not_finite_are_left_out() -> None:
    given = feedback()
    given.add(0, record([1.0, float("nan")]))
    given.add(2, record([float("inf"), 2.0]))
    given.hand_over(2)
    assert given.learned["counts"].tolist() == [1, 1]
    assert given.learned["losses"].tolist() == [[1.0, 0.0], [2.0, 0.0]]


def test_a_distribution_that_learns_nothing_is_given_nothing() -> None:
    given = LearnedTimes(Uniform(), Cosine(steps=2), SingleProcess())
    given.add(0, record([1.0, 2.0]))
    given.hand_over(20)
    assert given.learned == {}
    assert given.tensors() == {}


class OneOfTwo(SingleProcess):
    """Process 1 of 2, with what the other one has at hand."""

    count, rank = 2, 1

    def __init__(self, other: torch.Tensor) -> None:
        self.other = other

    def all_gather(self, rows):
        return torch.cat([self.other, rows])


def test_losses_come_in_the_order_of_rows_whoever_computed_them() -> None:
    alone = feedback()
    alone.add(0, record([1.0, 2.0, 3.0, 4.0], (1.0, 1.0, 1.0, 0.5)))
    alone.add(4, record([5.0, 6.0, 7.0, 8.0], (0.5, 1.0, 1.0, 1.0)))
    alone.hand_over(2)
    others = [[0, 1.0, 1.0], [1, 1.0, 2.0], [4, 0.5, 5.0], [5, 1.0, 6.0]]
    shared = feedback(world=OneOfTwo(torch.tensor(others, dtype=torch.float64)))
    shared.add(2, record([3.0, 4.0], (1.0, 0.5)))
    shared.add(6, record([7.0, 8.0], (1.0, 1.0)))
    shared.hand_over(2)
    for name, value in alone.learned.items():
        assert torch.equal(value, shared.learned[name])
    # Of the times 1.0 the last two losses, 7 and 8, are kept.
    assert sorted(alone.learned["losses"][1].tolist()) == [7.0, 8.0]
