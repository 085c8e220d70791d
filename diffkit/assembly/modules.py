"""What torch allows a module to be, and a pipeline cannot use; and copies of modules."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diffkit.core.component import Component
from diffkit.errors import ComponentError

_Module = TypeVar("_Module", bound=nn.Module)


def module_problems(module: nn.Module, name: str) -> Iterator[str]:
    """Why a module's weights cannot be trained, saved or averaged, each with what to do."""
    for key, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            yield (
                f"{name}: {key} is of a lazy module and has no shape yet; give its sizes, or run "
                "the network once in __init__"
            )
        elif value.is_complex() and value.requires_grad:
            yield (
                f"{name}: {key} is a complex weight, which fused optimisers cannot train; keep its "
                "real view (torch.view_as_real) and take torch.view_as_complex of it in forward"
            )
    for key, held in module.named_modules():
        if isinstance(held, nn.Embedding | nn.EmbeddingBag) and held.sparse:
            yield (
                f"{name}: {key} gives sparse gradients, whose norm cannot be clipped and which "
                "fused optimisers do not take; make it with sparse=False"
            )
        if type(held).get_extra_state is nn.Module.get_extra_state:
            continue
        if not isinstance(held.get_extra_state(), Tensor):
            yield (
                f"{name}: {key or type(held).__name__} has extra state that is no tensor, which no "
                "file of weights can hold; let get_extra_state give a tensor, or use a buffer"
            )


def loose_weights(component: Component, name: str, known: Iterable[Tensor]) -> Iterator[str]:
    """Weights of a component that is no module, which nobody would train or save."""
    held = {id(weight) for weight in known}
    for key, value in getattr(component, "__dict__", {}).items():
        found = [weight for weight in _weights_in(value) if id(weight) not in held]
        if not found:
            continue
        held.update(map(id, found))
        made = type(component)
        header = f"class {made.__name__}(nn.Module, {made.__bases__[0].__name__})"
        yield (
            f"{name}: {made.__name__} keeps weights in {key} and is no torch.nn.Module, so that "
            f"nothing would train or save them; write {header} and call super().__init__() first, "
            "or freeze them (requires_grad_(False))"
        )


def _weights_in(value: object) -> Iterator[Tensor]:
    """Those that train, of a module, a weight, or several of these."""
    if isinstance(value, nn.Module):
        yield from (weight for weight in value.parameters() if weight.requires_grad)
    elif isinstance(value, nn.Parameter):
        yield from [value] * value.requires_grad
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _weights_in(item) if isinstance(item, nn.Module | nn.Parameter) else ()


def make_writable(module: nn.Module) -> None:
    """Give buffers that are expanded, and so cannot be written to, memory of their own."""
    for held in module.modules():
        for key, value in held._buffers.items():
            if value is not None and 0 in value.stride() and value.numel() > 1:
                held._buffers[key] = value.clone(memory_format=torch.contiguous_format)


def refuse_divided(module: nn.Module, what: str, advice: str) -> None:
    """Raise ComponentError where processes hold parts of a module's weights."""
    if any(hasattr(weight, "full_tensor") for weight in module.parameters()):
        raise ComponentError(
            f"{what}: each process holds a part of the weights of pipeline.system (fully_shard); "
            f"{advice}"
        )


def twin(module: _Module) -> _Module:
    """A deep copy. Tensors that were computed, which modules may keep, are copied as values.

    Raises ComponentError where something that a module holds cannot be copied.
    """
    memo: dict[int, object] = {}
    with torch.inference_mode(False):
        return _copied(module, memo)


def _copied(module: _Module, memo: dict[int, object]) -> _Module:
    for held in module.modules():
        for value in vars(held).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, memo)
    except (TypeError, RuntimeError) as error:
        raise ComponentError(
            f"{type(module).__name__} cannot be copied, which averages and other precisions need: "
            f"{error}. Let what cannot be copied be made when it is used, give its class a "
            "__deepcopy__, or do without an average (training.ema_decay null)"
        ) from error
