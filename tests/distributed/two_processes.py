"""What each process does in the tests with several; started by torchrun.

torchrun --nproc-per-node 2 two_processes.py TASK FOLDER
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

import diffkit
from diffkit.distributed.world import world_of
from diffkit.helpers.lock import sole_writer
from diffkit.plugins.host import Host
from diffkit.training.order import DataOrder

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 5,
    "training": {"batch_size": 12, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 4},
}


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


class Dies:
    """The end of one process, in the middle of an update."""

    def __init__(self) -> None:
        self.left = 6

    def __call__(self, module, arguments) -> None:
        self.left -= 1
        if self.left == 0:
            self.end()

    def end(self) -> None:
        os._exit(7)


class IsAskedToEnd(Dies):
    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def train(folder: Path, steps: int = 8, **training) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    pipeline.train(out=folder / "run", steps=steps, **training)
    if "--divided" in sys.argv:
        assert_divided(pipeline)
    drawn = pipeline.sample(2, seed=1)
    if rank() == 0:
        np.save(folder / "after.npy", drawn.numpy())


def adaptive(folder: Path) -> None:
    """Times that depend on the whole batch, and on the losses of all processes."""
    importance = {"id": "importance", "config": {"every": 3, "history": 1}}
    SPEC["times"] = {"id": "stratified", "config": {"distribution": importance}}
    SPEC["schedule"] = {"id": "cosine", "config": {"steps": 6}}
    train(folder)


FOLDED = """
import os
from pathlib import Path

import torch
from torch import nn

from diffkit.core.autoencoder import Autoencoder


class Folded(Autoencoder):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    @classmethod
    def latent_shape(cls, config, shape):
        return (4 * shape[0], shape[1] // 2, shape[2] // 2)

    def encode(self, x):
        with (Path(__file__).parent / f"encoded-{os.environ.get('RANK', 0)}").open("a") as file:
            file.write(f"{len(x)}\\n")
        return self.gain * nn.functional.pixel_unshuffle(x, 2)

    def decode(self, z):
        return nn.functional.pixel_shuffle(z / self.gain, 2)
"""


def latents(folder: Path) -> None:
    """Data that are encoded once, by one process, for all."""
    file = folder / "folded.py"
    if rank() == 0:
        file.with_suffix(".new").write_text(FOLDED)
        file.with_suffix(".new").rename(file)
    while not file.exists():
        time.sleep(0.01)
    host = Host(plugin_files=[file])
    pipeline = diffkit.build({**SPEC, "autoencoder": "local.folded"}, device="cpu", host=host)
    pipeline.train(out=folder / "run", steps=8)
    drawn = pipeline.sample(2, seed=1)
    assert drawn.shape == (2, 1, 8, 8)
    if rank() == 0:
        np.save(folder / "after.npy", drawn.numpy())


def accumulate(folder: Path) -> None:
    train(folder, accumulate=3)


def resume(folder: Path) -> None:
    pipeline = diffkit.load(folder / "run", device="cpu")
    pipeline.train(out=folder / "run", resume=True, steps=12)


def own_loop(folder: Path) -> None:
    """The updates of `train`, in a loop of plain torch with DDP."""
    if (count := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        torch.distributed.init_process_group("gloo")
    pipeline = diffkit.build(SPEC, device="cpu")
    data, order = pipeline.dataset(), DataOrder(len(pipeline.dataset()), pipeline.spec.seed)
    module = DistributedDataParallel(pipeline.system) if count > 1 else pipeline.system
    optimizer, mine = pipeline.optimizer(), 12 // count
    law = LambdaLR(optimizer, pipeline.learning_rate)
    for step in range(8):
        batch = data.batch(order.rows(12 * step + mine * rank(), mine))
        record = pipeline.loss(batch.x_0, batch.condition, module=module)
        record.values.mean().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        law.step()
        pipeline.update_average()
    if rank() == 0:
        pipeline.save(folder / "run")


def sample(folder: Path) -> None:
    pipeline = diffkit.load(folder / "run", device="cpu")
    samples = pipeline.sample(7, seed=3, batch_size=2)
    np.save(folder / f"samples-{rank()}.npy", samples.numpy())
    one = pipeline.sample(1, seed=3)
    # A batch of another size rounds differently.
    assert torch.allclose(one, samples[:1], rtol=0, atol=1e-5)
    for rows, x in pipeline.batches(7, seed=3, batch_size=2):
        np.save(folder / f"rows-{rank()}-{rows.start}.npy", x.numpy())


def lose_one(folder: Path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    if rank() == 1:
        pipeline.system.register_forward_pre_hook(Dies())
    try:
        pipeline.train(out=folder / "run", steps=1000)
    except diffkit.TrainingError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))
        raise


TIED = """
import sys
import torch
from torch import nn
from diffkit.core.model import EpsilonModel

TIES = "--divided" not in sys.argv

class Tied(EpsilonModel):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
        if TIES:
            self.last.weight = self.first.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x, c_noise, condition):
        if self.training:
            self.calls += 1
        hidden = torch.tanh(self.first(x.flatten(1)) + c_noise[:, None] / 1000)
        return self.last(hidden).reshape(x.shape)
"""


def tied(folder: Path) -> None:
    """One weight under two names, and a count, through training, saving, loading and resuming."""
    file = folder / "tied.py"
    if rank() == 0:
        file.with_suffix(".new").write_text(TIED)
        file.with_suffix(".new").rename(file)
    while not file.exists():
        time.sleep(0.01)
    host = Host(plugin_files=[file])
    for steps in (4, 8):
        spec = {**SPEC, "model": "local.tied"}
        pipeline = diffkit.build(spec, device="cpu", host=host)
        pipeline.train(out=folder / "run", steps=steps, resume=steps == 8)
    model = pipeline.system.model
    assert (model.last.weight is model.first.weight) is ("--divided" not in sys.argv)
    if "--divided" in sys.argv:
        model.last.weight = model.first.weight
        try:
            pipeline.train(steps=1)
        except diffkit.ComponentError as error:
            (folder / f"error-{rank()}.txt").write_text(str(error))
        return
    assert int(pipeline.average.model.calls) == int(pipeline.system.model.calls) == 8


def own_reasons(folder: Path) -> None:
    """What happens to one process, or in both, is told by each in its own words."""
    kind = os.environ["REASON"]
    pipeline = diffkit.build(SPEC, device="cpu")
    if kind == "rank in a loss":

        def fails(*_: object) -> None:
            raise RuntimeError("expected a tensor of rank 4, got rank 3: peer, socket, connection")

        pipeline.system.register_forward_pre_hook(fails)
    if kind == "data" and rank() == 1:
        digits = type(pipeline.dataset())
        real, reads = digits.batch, []

        def batch(self, indices):
            reads.append(len(indices))
            if len(reads) == 6:
                raise diffkit.DataError("x.png")
            return real(self, indices)

        digits.batch = batch
    if kind == "signal" and rank() == 1:
        pipeline.system.register_forward_pre_hook(IsAskedToEnd())
    try:
        with sole_writer(folder / "run") if kind == "locked" and rank() == 0 else nullcontext():
            steps = 1000 + rank() if kind == "another number of steps" else 1000
            pipeline.train(out=folder / "run", steps=steps)
    except (Exception, KeyboardInterrupt) as error:
        (folder / f"error-{rank()}.txt").write_text(f"{type(error).__name__}: {error}")
        raise


def odd_batch(folder: Path) -> None:
    try:
        train(folder, batch_size=5)
    except diffkit.SpecError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))


def divide() -> None:
    """Have Accelerate divide weights, as `accelerate launch --use_fsdp --fsdp_version 2` does.

    Accelerate itself offers that on accelerators only; torch can do it on a CPU.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Linear"],
    )
    initialise = Accelerator.__init__

    def initialise_divided(self, **options) -> None:
        initialise(self, **options)
        AcceleratorState._shared_state["distributed_type"] = DistributedType.FSDP
        AcceleratorState._shared_state["fsdp_plugin"] = plugin

    Accelerator.__init__ = initialise_divided
    Accelerator.plugin = plugin


def assert_divided(pipeline) -> None:
    world = world_of(torch.device("cpu"))
    divided = world.shard(copy.deepcopy(pipeline.system))
    for weight in divided.parameters():
        assert world.local_shard(weight).numel() <= weight.numel() // 2 + weight[:1].numel()


def old_fsdp(folder: Path) -> None:
    from accelerate import Accelerator

    Accelerator.plugin.fsdp_version = 1
    try:
        train(folder)
    except diffkit.ComponentError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))


def divided_not_finite(folder: Path) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    before = {name: value.clone() for name, value in pipeline.system.state_dict().items()}
    try:
        pipeline.train(out=folder / "run", steps=4, learning_rate=1e30, clip_norm=None)
    except diffkit.TrainingError as error:
        (folder / f"error-{rank()}.txt").write_text(str(error))
    assert all(torch.equal(before[n], v) for n, v in pipeline.system.state_dict().items())


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--divided" in sys.argv:
        divide()
    plain = (
        train,
        adaptive,
        latents,
        accumulate,
        resume,
        own_loop,
        sample,
        lose_one,
        odd_batch,
        own_reasons,
        tied,
    )
    {task.__name__: task for task in (*plain, old_fsdp, divided_not_finite)}[sys.argv[1]](
        Path(sys.argv[2])
    )
    # As the command does: torch can abort at the end of an interpreter after DDP on gloo.
    sys.stdout.flush()
    os._exit(0)
