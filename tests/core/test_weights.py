"""All of a file is used, all of a network is filled, or the difference is told."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

import diffkit
from diffkit.core.weights import fit_tensors, load_state, read_tensors, state_of, tensor_bytes


class Tied(nn.Module):
    """One weight under two names, and one module under two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight
        self.again = self.first


class Views(nn.Module):
    """Buffers that share memory without being one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(6.0).reshape(2, 3))
        self.register_buffer("row", self.table[1])
        self.register_buffer("flat", self.table.reshape(-1))


class Masked(nn.Module):
    """An infinity that is meant."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mask", torch.tensor([0.0, -float("inf")]))


def through_a_file(module: nn.Module, other: nn.Module, path) -> None:
    path.write_bytes(tensor_bytes(state_of(module)))
    load_state(other, fit_tensors(read_tensors(path), state_of(other), path))


@pytest.mark.parametrize("kind", [Tied, Views, Masked])
def test_what_shares_memory_comes_back(kind, tmp_path) -> None:
    one, other = kind(), kind()
    with torch.no_grad():
        for value in (*one.parameters(), *one.buffers()):
            value.mul_(3.0).add_(1.0)
    through_a_file(one, other, tmp_path / "w.safetensors")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_tied_weight_is_written_once_and_stays_tied(tmp_path) -> None:
    one, other = Tied(), Tied()
    assert set(state_of(one)) == {"first.weight", "first.bias"}
    through_a_file(one, other, tmp_path / "w.safetensors")
    assert other.last.weight is other.first.weight
    assert torch.equal(other.last.weight, one.first.weight)


WANTED = {"a": torch.zeros(2, 3), "n": torch.zeros(4, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": None}, "lacks a"),
        ({"b": torch.zeros(1)}, "has besides b"),
        ({"a": torch.zeros(3, 2)}, r"differs in a \(float32 \[3, 2\], not float32 \[2, 3\]\)"),
        ({"a": torch.zeros(6)}, "differs in a"),
        ({"a": torch.zeros(2, 3, dtype=torch.int8)}, "int8"),
        ({"a": torch.zeros(2, 3, dtype=torch.bool)}, "bool"),
        ({"a": torch.zeros(2, 3, dtype=torch.complex64)}, "complex64"),
        ({"n": torch.zeros(4)}, "differs in n"),
        ({"n": torch.zeros(4, dtype=torch.int32)}, "differs in n"),
        ({"a": torch.full((2, 3), float("nan"))}, "not finite in a"),
        ({"a": torch.full((2, 3), float("inf"))}, "not finite in a"),
    ],
)
def test_what_does_not_fit_is_told(changes, words) -> None:
    found = {k: v for k, v in {**WANTED, **changes}.items() if v is not None}
    with pytest.raises(diffkit.CheckpointError, match=words):
        fit_tensors(found, WANTED, "the file")


def test_other_precisions_of_floats_fit_unless_bytes_are_read_in_place() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = {**WANTED, "a": torch.ones(2, 3, dtype=dtype)}
        assert torch.equal(fit_tensors(found, WANTED, "x")["a"], torch.ones(2, 3))
        with pytest.raises(diffkit.CheckpointError, match="differs in a"):
            fit_tensors(found, WANTED, "x", same_dtype=True)


def test_infinities_that_the_network_has_itself_are_meant() -> None:
    network = Masked()
    fit_tensors(state_of(network), state_of(network), "x")
    broken = {**state_of(network), "mask": torch.tensor([float("nan"), -float("inf")])}
    with pytest.raises(diffkit.CheckpointError, match="not finite in mask"):
        fit_tensors(broken, state_of(network), "x")
    assert fit_tensors(broken, state_of(network), "x", nonfinite="allow")["mask"][0].isnan()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_only_regular_files_are_read(make, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(diffkit.CheckpointError, match=r"no regular file|Is a directory"):
        read_tensors(path)
