"""How a network is run: in which precision, and compiled or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor, nn

from diffkit.assembly.modules import twin
from diffkit.config.spec import Compilation, Precision
from diffkit.core.model import Condition, EpsilonModel, Network, Output

_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weights autocast would cast at every call."""


def resolved_precision(wanted: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` is on this device: bfloat16 where it has units for products in it.

    Of CPUs, those with AMX. AVX-512 has instructions for bfloat16 too, with which convolutions can
    be slower than in float32 (docs/benchmarks.md).
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    return "float32"


def resolved_compilation(
    wanted: Compilation, device: torch.device
) -> Literal["off", "default", "reduce-overhead"]:
    """What `auto` is on this device: CUDA graphs on CUDA; nothing on a CPU, where it gains
    little and takes a minute.
    """
    if wanted != "auto":
        return wanted
    return "reduce-overhead" if device.type == "cuda" else "off"


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Where the caller's autocast does not reach: precision is the spec's affair."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


class InBfloat16:
    """A network under autocast: products and convolutions in bfloat16, the rest in float32."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        """The output, in the dtype that autocast leaves it in."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self._network(x, c_noise, condition)


class Kept:
    """A network recorded as CUDA graphs: what it gives is copied before the next call writes over
    it, since samplers keep predictions.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        """A copy of the output."""
        found = self._network(x, c_noise, condition)
        if isinstance(found, Output):
            extras = {name: value.clone() for name, value in found.extras.items()}
            return Output(found.output.clone(), extras)
        return found.clone()


def for_training(model: EpsilonModel, precision: Precision, device: torch.device) -> Network:
    """The network with its weights as they are, so that gradients reach them."""
    if resolved_precision(precision, device) == "float32":
        return model
    return InBfloat16(model)


def for_sampling(
    model: EpsilonModel, precision: Precision, compilation: Compilation, device: torch.device
) -> Network:
    """The network for many calls without gradients. Later changes of the weights may not show.

    In bfloat16 the weights that autocast would cast are cast once, in a copy: the same numbers.
    """
    mode = resolved_compilation(compilation, device)
    half = resolved_precision(precision, device) == "bfloat16"
    network: Network = _with_cast_weights(model) if half else model
    if mode != "off":
        network = cast(Network, torch.compile(network, mode=mode))
        network = Kept(network) if mode == "reduce-overhead" else network
    return InBfloat16(network) if half else network


class Networks:
    """Those of one pipeline that are compiled, which takes long, are made once.

    Others are made for each trajectory, so that they have the weights of the moment.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, str, str], Network] = {}

    def clear(self) -> None:
        """Forget them: weights have changed, or moved."""
        self._made.clear()

    def of(
        self,
        model: EpsilonModel,
        precision: Precision,
        compilation: Compilation,
        device: torch.device,
    ) -> Network:
        """The model for sampling, as `for_sampling` makes it."""
        if resolved_compilation(compilation, device) == "off":
            return for_sampling(model, precision, "off", device)
        key = (id(model), precision, compilation)
        if key not in self._made:
            self._made[key] = for_sampling(model, precision, compilation, device)
        return self._made[key]


def _with_cast_weights(model: EpsilonModel) -> EpsilonModel:
    cast = twin(model)
    for module in cast.modules():
        # Exactly these: a subclass may do something else with its weights.
        if type(module) in _CAST and module.weight.dtype == torch.float32:
            module.to(torch.bfloat16)
    return cast
