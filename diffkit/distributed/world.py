"""The processes that share a run: one, or several that a launcher started."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from diffkit.distributed import launcher
from diffkit.errors import ComponentError, SpecError, TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator


class World(ABC):
    """What training and sampling ask of the processes beside their own."""

    count: int
    rank: int
    """Of this process, from 0; process 0 writes files and shows progress."""
    sharded: ClassVar[bool] = False
    """Whether each process holds a part of every weight."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def rows(self, total: int) -> range:
        """This process's share of so many rows: contiguous, and of nearly equal sizes."""
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def shard(self, module: nn.Module) -> nn.Module:
        """The module whose parameters are trained: itself, or a copy that is divided."""
        return module

    def unshard_into(self, shard: nn.Module, module: nn.Module) -> None:
        """Take the weights of what `trained` gave for the module."""
        assert shard is module

    def gather_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a trained module, as they are without other processes."""
        return dict(tensors)

    def local_shard(self, tensor: Tensor) -> Tensor:
        """The part of it that this process holds."""
        return tensor

    def full_tensor(self, number: Tensor) -> Tensor:
        """A number that is the same in all processes, as an ordinary tensor."""
        return number

    def placed_like(self, value: Tensor, like: Tensor) -> Tensor:
        """A tensor of the same shape, laid out in memory as `like` is."""
        return torch.empty_like(like, dtype=value.dtype).copy_(value)

    @abstractmethod
    def prepared(self, module: nn.Module) -> nn.Module:
        """The module to train through: gradients are averaged over the processes."""

    @abstractmethod
    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Where gradients are only added up, for all micro-batches but the last."""

    @abstractmethod
    def all_max(self, number: int) -> int:
        """The largest of the numbers of all processes."""

    @abstractmethod
    def all_gather(self, rows: Tensor) -> Tensor:
        """Rows `[n, ...]` of all processes, in the order of their ranks; n may differ."""

    @abstractmethod
    def barrier(self) -> None:
        """For the others to come here."""

    @abstractmethod
    def all_or_none(self) -> AbstractContextManager[None]:
        """What all have to get through: where one raises, all do, before anybody waits for it."""

    @abstractmethod
    def check_agreement(self, asked: Mapping[str, Any]) -> None:
        """Raise SpecError in every process where they were not asked for the same."""

    @abstractmethod
    def explain_failures(self, what_remains: Callable[[], str]) -> AbstractContextManager[None]:
        """Where the loss of another process becomes a TrainingError."""


class SingleProcess(World):
    """A single process."""

    count, rank = 1, 0

    def prepared(self, module: nn.Module) -> nn.Module:
        """The module itself."""
        return module

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Nothing to do."""
        return nullcontext()

    def all_max(self, number: int) -> int:
        """The number."""
        return number

    def all_gather(self, rows: Tensor) -> Tensor:
        """The rows."""
        return rows

    def barrier(self) -> None:
        """Nobody to wait for."""

    def all_or_none(self) -> AbstractContextManager[None]:
        """Nothing to do."""
        return nullcontext()

    def check_agreement(self, asked: Mapping[str, Any]) -> None:
        """Nobody to differ from."""

    def explain_failures(self, what_remains: Callable[[], str]) -> AbstractContextManager[None]:
        """Nothing to do."""
        return nullcontext()


class DataParallel(World):
    """Several processes, through Hugging Face Accelerate, which finds what started them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.count, self.rank = accelerator.num_processes, accelerator.process_index

    def prepared(self, module: nn.Module) -> nn.Module:
        """Accelerate's wrapper."""
        wrapper = self._accelerator.prepare_model(module)
        assert isinstance(wrapper, nn.Module)
        return wrapper

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Accelerate's `no_sync`."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(module)
        return context

    def all_max(self, number: int) -> int:
        """One small exchange."""
        mine = torch.tensor([number], device=self._accelerator.device)
        return int(self._accelerator.gather(mine).max())

    def all_gather(self, rows: Tensor) -> Tensor:
        """Padded to the longest, gathered, and cut again."""
        device = self._accelerator.device
        sizes = self._accelerator.gather(torch.tensor([len(rows)], device=device)).tolist()
        if not any(sizes):
            return rows  # Collectives refuse to gather nothing.
        padded = rows.new_zeros((max(sizes), *rows.shape[1:])).to(device)
        padded[: len(rows)] = rows.to(device)
        parts = self._accelerator.gather(padded).split(max(sizes))
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)]).to(rows.device)

    def barrier(self) -> None:
        """A barrier."""
        self._accelerator.wait_for_everyone()

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """One small exchange of what went wrong."""
        from accelerate.utils import gather_object

        mine: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again, once the others know
            mine = error
        said = "" if mine is None else f"{type(mine).__name__}: {mine}"
        with self.explain_failures(lambda: "Nothing was written"):
            everyone: list[str] = gather_object([said])
        if mine is not None:
            raise mine
        for rank, problem in enumerate(everyone):
            if problem:
                raise TrainingError(f"process {rank} of {self.count} cannot begin: {problem}")

    def check_agreement(self, asked: Mapping[str, Any]) -> None:
        """One small exchange of what each was asked for."""
        from accelerate.utils import gather_object

        with self.explain_failures(lambda: "Nothing was written"):
            everyone: list[dict[str, Any]] = gather_object([dict(asked)])
        for rank, theirs in enumerate(everyone):
            for name, value in everyone[0].items():
                if theirs[name] != value:
                    raise SpecError(
                        [
                            f"{name} is {value!r} in process 0 and {theirs[name]!r} in process "
                            f"{rank}; start all processes of a run alike"
                        ]
                    )

    @contextmanager
    def explain_failures(self, what_remains: Callable[[], str]) -> Iterator[None]:
        """Collectives fail with one of torch's errors where a partner is gone."""
        try:
            yield
        except RuntimeError as error:
            if not _is_about_a_partner(error):
                raise
            raise TrainingError(
                f"process {self.rank} of {self.count} lost another process of this run, which "
                f"died or lost its connection; see that one's output. {what_remains()}"
            ) from error


def launched_rank() -> int | None:
    """This process's rank on its machine, where a launcher started several; else None."""
    return launcher.local_rank()


def first_of_all() -> bool:
    """Whether this process is the one that speaks to the user."""
    return launcher.rank() == 0


def world_of(device: torch.device) -> World:
    """Those that the launcher started: `torchrun`, `accelerate launch`; else this one alone.

    Raises:
        ComponentError: there are several, and accelerate is not installed.
    """
    if launched_rank() is None:
        return SingleProcess()
    return _launched_world(device.type == "cpu")


@cache
def _launched_world(on_cpu: bool) -> DataParallel:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ComponentError(
            "several processes were launched (WORLD_SIZE is set), and they need accelerate: "
            "pip install 'diffkit[distributed]'"
        ) from error
    # Precision is the spec's affair.
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
    if accelerator.is_fsdp2:
        from diffkit.distributed.sharding import FullyShardedDataParallel

        # Every process has read the weights.
        accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = False
        return FullyShardedDataParallel(accelerator)
    kind = str(accelerator.distributed_type.value)
    if not kind.startswith("MULTI_"):
        raise ComponentError(
            f"the launcher asks for {kind}, and supported are data parallelism (distributed_type "
            "MULTI_GPU or MULTI_CPU in the configuration of accelerate, or torchrun) and FSDP of "
            "version 2 (fsdp_version: 2)"
        )
    return DataParallel(accelerator)


_LIBRARIES = ("/gloo/", "nccl", "process group")
"""What messages of the libraries that processes talk through name, and nobody else's."""


def _is_about_a_partner(error: RuntimeError) -> bool:
    """Whether torch raised it, of its own communication: not the loss, nor the network."""
    if isinstance(error, torch.distributed.DistError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    inside = Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent)
    text = str(error).lower()
    return type(error) is RuntimeError and inside and any(name in text for name in _LIBRARIES)
