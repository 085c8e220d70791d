"""Weights as named tensors: what of a module is written, and what a file must hold to be read.

Whoever reads somebody's weights goes through `fit_tensors`: all of the file is used, all of the
network is filled, and what differs is listed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from diffkit.core.regular import read_regular
from diffkit.errors import CheckpointError, ComponentError

Nonfinite = Literal["refuse", "allow"]
"""What is done about weights that are NaN or infinite."""
_LONGEST_HEADER = 100_000_000
"""Bytes, as the format has it."""
_NAMED = 3
"""How many names a message gives before it says how many more there are."""


_NOT_WHOLE = (
    *(SafetensorError, ValueError, KeyError, TypeError, IndexError, AttributeError),
    *(RuntimeError, RecursionError),
)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; no other format is ever read.

    Raises:
        CheckpointError: the file is missing, no regular file, truncated, or of another format.
    """
    try:
        _check_header(path)
        return load_safetensors(read_regular(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except _NOT_WHOLE as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); nothing of it was used. "
            "Restore it, or take an earlier checkpoint"
        ) from error


def _check_header(path: Path) -> None:
    """Raise ValueError where a file has not the size that its header says, before it is read."""
    with path.open("rb") if path.is_file() else open(os.devnull, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not path.is_file():
            return  # Whoever reads it says so.
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise ValueError("its header has not the length that it says")
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise ValueError("it has not the size that its header says")


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file. Tensors that share memory are written each on its own."""
    seen: set[int] = set()
    own = {}
    for name, value in tensors.items():
        whole = value.detach().cpu().contiguous()
        storage = whole.untyped_storage()
        if storage.nbytes() != whole.nbytes or storage.data_ptr() in seen:
            whole = whole.clone()
        seen.add(storage.data_ptr())
        own[name] = whole
    return save_safetensors(own)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module by name; of several names for one tensor, the first alone.

    Raises ComponentError where something of it is no tensor, which no file of weights can hold.
    """
    aliases = _aliases(module)
    state = module.state_dict()
    if other := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ComponentError(
            f"{type(module).__name__} has state that is no tensor: {_listed(other)}; keep it in a "
            "buffer, or in the configuration"
        )
    return {name: value for name, value in state.items() if aliases.get(name) not in state}


def load_state(module: nn.Module, found: Mapping[str, Tensor]) -> None:
    """Load what `state_of` gave, and `fit_tensors` has looked at."""
    aliases = _aliases(module)
    again = {name: found[first] for name, first in aliases.items() if first in found}
    module.load_state_dict({**again, **found})


def fit_tensors(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    where: str | Path,
    *,
    nonfinite: Nonfinite = "refuse",
    same_dtype: bool = False,
    advice: str = "",
) -> dict[str, Tensor]:
    """`found`, in the order, the shapes and the dtypes of `wanted`.

    A floating-point number may be stored in another precision, unless `same_dtype`; nothing else is
    converted. Values that are not finite are refused where `wanted` has finite ones; `advice` ends
    the message.

    Raises:
        CheckpointError: with what is missing, what there is besides, and what differs.
    """
    shared = [name for name in wanted if name in found]
    differing = [
        f"{name} ({_described(found[name])}, not {_described(wanted[name])})"
        for name in shared
        if not _fits(found[name], wanted[name], same_dtype)
    ]
    parts = [
        f"{what} {_listed(names)}"
        for what, names in (
            ("lacks", sorted(wanted.keys() - found.keys())),
            ("has besides", sorted(found.keys() - wanted.keys())),
            ("differs in", differing),
        )
        if names
    ]
    if parts:
        raise CheckpointError(f"{where} does not fit: it {'; it '.join(parts)}")
    fitted = {name: found[name].to(wanted[name].dtype) for name in wanted}
    if nonfinite == "refuse":
        _refuse_nonfinite(fitted, wanted, where, advice)
    return fitted


def _refuse_nonfinite(
    fitted: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str | Path, advice: str
) -> None:
    """Masks hold infinities on purpose: the network itself then has them in the same places."""
    broken = [
        name
        for name, value in fitted.items()
        if not bool(value.isfinite().all())
        and bool((wanted[name].detach().to(value.device).isfinite() & ~value.isfinite()).any())
    ]
    if broken:
        raise CheckpointError(
            f"{where} holds values that are not finite in {_listed(broken)}, and what is computed "
            f"with them is not finite either{advice}"
        )


def _fits(found: Tensor, wanted: Tensor, same_dtype: bool) -> bool:
    if found.shape != wanted.shape:
        return False
    if found.dtype == wanted.dtype:
        return True
    return not same_dtype and found.is_floating_point() and wanted.is_floating_point()


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _aliases(module: nn.Module) -> dict[str, str]:
    """Every further name of a parameter or buffer, with its first one."""
    first: dict[int, str] = {}
    found = {}
    named = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    for name, tensor in named:
        original = first.setdefault(id(tensor), name)
        if original != name:
            found[name] = original
    return found
