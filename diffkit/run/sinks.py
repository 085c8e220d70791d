"""Where metrics go beside the run's own file. A sink that fails is left out, and ends nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from diffkit.plugins.isolation import cause_of

_log = logging.getLogger("diffkit")


def tensorboard_sink(directory: Path) -> tuple[Callable[[int, Mapping[str, float]], None], ...]:
    """A sink that writes TensorBoard's event files into the run.

    None where it is not installed, or cannot write there.
    """
    folder = directory / "tensorboard"
    try:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(folder))
    except ImportError:
        return ()
    except Exception as error:  # noqa: BLE001 - a log that nobody asked for
        _log.warning("nothing is written for TensorBoard in %s: %s", folder, cause_of(error))
        return ()
    fails = False

    def write(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal fails
        if fails:
            return
        try:
            folder.stat()  # Its thread would die of a folder that somebody deleted.
            for name, value in metrics.items():
                if name != "step":
                    writer.add_scalar(f"train/{name}", value, step)
            writer.flush()
        except Exception as error:  # noqa: BLE001 - of its thread, or of the file system
            fails = True
            _log.warning("no more is written for TensorBoard: %s", cause_of(error))

    return (write,)
