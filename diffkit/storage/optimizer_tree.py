"""Trees of numbers, texts and tensors as JSON beside named tensors, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffkit.errors import ComponentError

LaidOut = Callable[[Tensor, Tensor], Tensor]
"""A tensor, in the memory layout of another of its shape."""


@dataclass(frozen=True)
class TreeWriter:
    """Turns values to JSON, and puts their tensors aside."""

    name: str
    what: str
    tensors: dict[str, Tensor]
    weight: Tensor

    def node(self, value: Any, path: str) -> Any:
        """The JSON of a value. Raises ComponentError for what no checkpoint can hold."""
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if value is None or isinstance(value, bool | int | str):
            return {"value": value}
        if isinstance(value, float):
            return {"float": repr(value)}
        if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
            items = [[k, self.node(v, f"{path}/{k}".strip("/"))] for k, v in value.items()]
            return {"dict": items}
        if type(value) in (list, tuple):
            each = [self.node(v, f"{path}/{i}".strip("/")) for i, v in enumerate(value)]
            return {type(value).__name__: each}
        raise ComponentError(
            f"training.optimizer: {path or 'it'} in {self.what} is a {type(value).__name__}, which "
            "no checkpoint can hold; let the optimiser keep numbers, texts, None and tensors in "
            "mappings, lists and tuples"
        )

    def _tensor(self, value: Tensor, path: str) -> Any:
        if value.layout is not torch.strided:
            raise ComponentError(
                f"training.optimizer: {path} in {self.what} is a {value.layout} tensor, which no "
                "checkpoint can hold; keep a dense one"
            )
        self.tensors[f"{self.name}.{path}"] = value.detach()
        away = value.device.type == "cpu" and self.weight.device.type != "cpu"
        dtype, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
        return {"tensor": path, "dtype": dtype, "shape": shape, "host": away}


@dataclass(frozen=True)
class TreeReader:
    """Turns JSON back, with its tensors on the device of the weight."""

    name: str
    tensors: Mapping[str, Tensor]
    weight: Tensor
    laid_out: LaidOut

    def value(self, node: Any) -> Any:
        """What was written as this JSON."""
        kind = next(iter(node))
        if kind == "tensor":
            return self._tensor(self.tensors[f"{self.name}.{node[kind]}"], node)
        if kind == "float":
            return float(node[kind])
        if kind == "dict":
            return {key: self.value(inner) for key, inner in node[kind]}
        if kind in ("list", "tuple"):
            items = [self.value(inner) for inner in node[kind]]
            return items if kind == "list" else tuple(items)
        return node["value"]

    def _tensor(self, value: Tensor, node: Any) -> Tensor:
        if value.shape == self.weight.shape and value.ndim:
            return self.laid_out(value, self.weight)
        device = torch.device("cpu") if node["host"] else self.weight.device
        return value.to(device, copy=True)


def leaves_of(name: str, node: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a tree says there are: by full name, without content."""
    (kind,) = node.keys() - {"dtype", "shape", "host"}
    if kind == "tensor":
        dtype = getattr(torch, node["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{node['dtype']} is no dtype")
        yield f"{name}.{node['tensor']}", torch.zeros((), dtype=dtype).expand(node["shape"])
    elif kind == "dict":
        for _, inner in node[kind]:
            yield from leaves_of(name, inner)
    elif kind in ("list", "tuple"):
        for inner in node[kind]:
            yield from leaves_of(name, inner)
    elif kind not in ("value", "float"):
        raise ValueError(f"there is no {kind} in a state")
