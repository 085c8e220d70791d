"""What a launcher of several processes says in the environment."""

from __future__ import annotations

import os

from diffkit.errors import ComponentError

COUNT, RANK, LOCAL_RANK = "WORLD_SIZE", "RANK", "LOCAL_RANK"


def launched() -> bool:
    """Whether a launcher started this process as one of several. Never raises."""
    try:
        return _number(COUNT, 1) > 1
    except ComponentError:
        return False


def local_rank() -> int | None:
    """This process's rank on its machine, where a launcher started several; else None.

    Raises:
        ComponentError: the variables are not what a launcher sets; it names the one.
    """
    count = _number(COUNT, 1)
    if count <= 1:
        return None
    for variable in (RANK, "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(variable, "").strip():
            raise ComponentError(
                f"the environment variable {COUNT} is {count}, as a launcher of {count} processes "
                f"sets it, and {variable} is not set; unset {COUNT} (some cluster left it), or "
                "start the processes with torchrun or accelerate launch"
            )
    if _number(RANK, 0) >= count:
        raise ComponentError(
            f"the environment variable {RANK} is {_number(RANK, 0)}, and of {COUNT} = {count} "
            "processes the last is one less; unset both, or start the processes with torchrun"
        )
    return _number(LOCAL_RANK, 0)


def rank() -> int:
    """This process's rank of all, 0 where it is alone. Raises ComponentError."""
    return 0 if local_rank() is None else _number(RANK, 0)


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return otherwise
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ComponentError(
            f"the environment variable {variable} is {text!r}, and launchers of several processes "
            "set it to a whole number; unset it"
        )
    return number
