"""How much a step costs beside the network, in what cannot drift: passes over the samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import diffkit
from diffkit.assembly.build import training_components
from diffkit.core.model import EpsilonModel
from diffkit.distributed.world import SingleProcess
from diffkit.training.train_step import TrainStep

SHAPE = (1, 8, 8)
COUNT = 3
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 1000}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": list(SHAPE), "range": None},
}
_VIEWS = ("view", "reshape", "expand", "slice", "select", "detach", "alias", "unsqueeze", "split")


class Passes(TorchDispatchMode):
    """Counts the operations that write a tensor of at least so many numbers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.names = size, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        large = any(isinstance(o, torch.Tensor) and o.numel() >= self.size for o in outputs)
        if large and not any(view in function.name() for view in _VIEWS):
            self.names.append(function.name())
        return result


class Free(EpsilonModel):
    """A network that costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, c_noise, condition):
        return x


# As it is; a sum of two products is two passes.
MOST = {
    "ddpm": 5,  # Its mean, the noise with its stack, and their sum.
    "samplers.ddim": 2,
    "samplers.euler": 2,
    "samplers.heun": 5,
    "samplers.dpmpp-2m": 5,  # x_0, its extrapolation in one, and the step.
}


@pytest.mark.parametrize(("sampler", "most"), MOST.items(), ids=MOST)
def test_a_step_passes_over_the_samples_so_often(sampler, most) -> None:
    if "samplers." in sampler:
        pytest.importorskip("diffkit_samplers")
    pipeline = diffkit.build({**SPEC, "model": Free()}, device="cpu")
    counts = []
    for steps in (10, 30):
        with Passes(COUNT * 64) as passes:
            list(pipeline.trajectory(COUNT, sampler=sampler, steps=steps))
        counts.append(len(passes.names))
    assert (counts[1] - counts[0]) / 20 <= most, passes.names[-12:]


def test_an_update_passes_over_the_batch_so_often() -> None:
    class Same(Free):
        def forward(self, x, c_noise, condition):
            return x * self.weight

    pipeline = diffkit.build(
        {**SPEC, "model": Same(), "dataset": "digits", "training": {"batch_size": 16}},
        device="cpu",
    )
    updates = TrainStep(
        system=pipeline.system,
        averages={},
        components=replace(training_components(pipeline._assembly), averages={}),
        dataset=pipeline.dataset(),
        spec=pipeline.spec.training,
        seed=0,
        world=SingleProcess(),
    )
    updates.make(0)
    with Passes(16 * 64) as passes:
        updates.make(1)
    # Reading and scaling the data, noise, x_t, the network, the loss, and the gradient of those.
    assert len(passes.names) <= 19, passes.names
