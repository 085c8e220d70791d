"""Weights, gradients and the optimiser's state divided among processes (FSDP)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate.utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from diffkit.assembly.modules import twin
from diffkit.core.weights import load_state, state_of
from diffkit.distributed.world import DataParallel
from diffkit.errors import ComponentError


class FullyShardedDataParallel(DataParallel):
    """Processes of which each holds a part of every weight, by Accelerate and torch's FSDP2.

    What trains is a divided copy. The module itself waits on the host, as it was before, until
    the copy's weights are given back, so that a pipeline remains one that can be sampled.
    """

    sharded = True

    def shard(self, module: nn.Module) -> nn.Module:
        """A copy, divided. Its weights are contiguous, as FSDP needs."""
        _refuse_tied(module)
        copied = twin(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.to("cpu")
        sharded = fsdp2_prepare_model(self._accelerator, copied)
        assert isinstance(sharded, nn.Module)
        return sharded

    def unshard_into(self, shard: nn.Module, module: nn.Module) -> None:
        """Gather the weights of the copy, and move the module to where the copy is."""
        device = next(shard.parameters()).device
        load_state(module.to(device), self.gather_state(state_of(shard)))

    def prepared(self, module: nn.Module) -> nn.Module:
        """The module itself: it was divided, with its hooks, by `trained`."""
        return module

    def gather_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gathered from all processes, one after another, on the host.

        By name: processes that read a file may hold what is in it in different orders.
        """
        return {name: self.full_tensor(tensors[name]).cpu() for name in sorted(tensors)}

    def full_tensor(self, number: Tensor) -> Tensor:
        """Gathered from all processes."""
        return number.full_tensor() if isinstance(number, DTensor) else number

    def local_shard(self, tensor: Tensor) -> Tensor:
        """This process's part, which shares its memory."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def placed_like(self, value: Tensor, like: Tensor) -> Tensor:
        """Divided as `like` is."""
        if isinstance(like, DTensor):
            # Every process has the whole value, and keeps its part without asking the others.
            return distribute_tensor(
                value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
            )
        return super().placed_like(value, like)


def _refuse_tied(module: nn.Module) -> None:
    """Raise ComponentError where two modules hold one weight: each would divide it for itself."""
    owners: dict[int, str] = {}
    for name, held in module.named_modules():
        for key, weight in held.named_parameters(recurse=False):
            other = owners.setdefault(id(weight), f"{name}.{key}")
            if other != f"{name}.{key}":
                raise ComponentError(
                    f"the weights {other} and {name}.{key} are one, which cannot be divided among "
                    "processes (FSDP); train with whole weights in each (torchrun, MULTI_GPU)"
                )
