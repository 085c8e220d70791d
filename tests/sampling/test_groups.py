"""Samples that a trajectory looks at together stay together, whatever the batches."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.core import State, StepSampler

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "data": {"shape": [2]},
    "steps": 3,
}


class Mean(StepSampler):
    """Each of a group of four goes to the group's mean."""

    seen: list[int] = []  # noqa: RUF012 - for the test

    @property
    def group(self) -> int:
        return 4

    def step(self, denoiser, x_t, t, s, noise):
        self.seen.append(len(x_t))
        x_s = denoiser.process.reverse(denoiser(x_t, t), x_t, t, s, noise)
        means = x_s.reshape(-1, self.group, 2).mean(1, keepdim=True)
        return State(means.expand(-1, self.group, 2).reshape(-1, 2), s)


@pytest.fixture
def pipeline():
    Mean.seen.clear()
    return diffkit.build({**SPEC, "sampler": Mean()})


@pytest.mark.parametrize(("size", "batches"), [(1, {4}), (7, {4}), (9, {8, 4}), (64, {12})])
def test_batches_are_whole_groups_and_change_nothing(pipeline, size, batches) -> None:
    whole = pipeline.sample(12, batch_size=100)
    Mean.seen.clear()
    parts = pipeline.sample(12, batch_size=size)
    torch.testing.assert_close(parts, whole)
    assert set(Mean.seen) == batches
    assert torch.equal(whole[0], whole[3])
    assert not torch.equal(whole[3], whole[4])


def test_another_number_is_refused(pipeline) -> None:
    with pytest.raises(diffkit.SpecError, match=r"num is 10, and Mean looks at 4 .* a multiple"):
        pipeline.sample(10)


def test_each_process_draws_whole_groups(pipeline, monkeypatch) -> None:
    from diffkit.distributed.world import SingleProcess

    whole = pipeline.sample(12)
    found = []
    for rank in range(2):
        monkeypatch.setattr(SingleProcess, "rank", rank)
        monkeypatch.setattr(SingleProcess, "count", 2)
        found.append(pipeline.sample(12))
    assert [len(x) for x in found] == [4, 8]
    torch.testing.assert_close(torch.cat(found), whole)
