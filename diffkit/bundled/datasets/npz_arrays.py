"""Plain arrays of an .npz archive: nothing in it is ever run."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from diffkit.arguments import expanded
from diffkit.errors import DataError

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_array(path: str, name: str) -> np.ndarray:
    """A whole array."""
    with _opened(path, name) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        # The checksum is compared at the end of the member, which this reaches.
        if stream.read(1):
            raise DataError(
                f"npz: {name!r} in {path} goes on after the {array.nbytes} bytes that its header "
                "declares; it is damaged, save it again"
            )
    return array


def read_header(path: str, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of an array that is made of plain numbers."""
    with _opened(path, name) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            sizes, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            sizes, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise DataError(
                f"npz: {name!r} in {path} is of the .npy version {version}, which is for arrays "
                "with named fields; save a plain array of numbers"
            )
    if dtype.hasobject:
        raise DataError(
            f"npz: {name!r} in {path} holds pickled Python objects, which are never loaded, since "
            "that can run any code; save a plain array of numbers, all samples of one shape"
        )
    return sizes, dtype


@contextmanager
def _opened(path: str, name: str) -> Iterator[IO[bytes]]:
    """The .npy file of one array; failures to read become DataErrors."""
    try:
        with zipfile.ZipFile(expanded(path)) as archive:
            members = archive.namelist()
            if f"{name}.npy" not in members:
                names = ", ".join(sorted(m.removesuffix(".npy") for m in members)) or "nothing"
                raise DataError(f"npz: {path} has no array {name!r}; it has: {names}")
            if archive.getinfo(f"{name}.npy").compress_type not in _COMPRESSIONS:
                raise DataError(
                    f"npz: {name!r} in {path} is compressed in a way that NumPy does not use; "
                    "write it again with numpy.savez_compressed"
                )
            with archive.open(f"{name}.npy") as stream:
                yield stream
    except FileNotFoundError as error:
        raise DataError(f"npz: {path} does not exist; check the path") from error
    except OSError as error:
        raise DataError(f"npz: {path} cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(
            f"npz: {path} is not an .npz archive, or a damaged one ({error}); "
            "write it with numpy.savez"
        ) from error
    # RuntimeError: an encrypted member. MemoryError: a header that claims what no machine holds.
    except (ValueError, TypeError, EOFError, zlib.error, RuntimeError, MemoryError) as error:
        raise DataError(
            f"npz: {name!r} in {path} cannot be read as a plain array ({error}); "
            "write it again with numpy.savez"
        ) from error
