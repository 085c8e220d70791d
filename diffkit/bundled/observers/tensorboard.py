"""Metrics for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffkit.core.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping


class TensorBoard(Observer):
    """Writes metrics, and what is logged, for TensorBoard, where that is installed.

    Args:
        folder: in the run directory; without one nothing is written.
    """

    def __init__(self, *, folder: str = "tensorboard") -> None:
        self._folder = folder
        self._open: tuple[Path, Any] | None = None

    def diffkit_step(self, run: Any, step: int, metrics: Mapping[str, float]) -> None:
        """Each metric as `train/<name>`."""
        writer = self._opened(run.directory)
        if writer is None:
            return
        for name, value in metrics.items():
            if name != "step":
                writer.add_scalar(f"train/{name}", value, step)
        writer.flush()

    def diffkit_log(self, run: Any, step: int, name: str, value: float | Tensor) -> None:
        """A number, or a picture `[c, h, w]` in [0, 1]."""
        writer = self._opened(run.directory)
        if writer is None:
            return
        if isinstance(value, Tensor):
            writer.add_image(name, value, step)
        else:
            writer.add_scalar(name, value, step)
        writer.flush()

    def diffkit_run_end(self) -> None:
        """Close what is open: another training may be another run's."""
        self._close()

    def _opened(self, directory: Path | None) -> Any:
        """The writer; None where there is nowhere to write, or TensorBoard is not installed."""
        if directory is None:
            return None
        folder = directory / self._folder
        if self._open is None or self._open[0] != folder:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            self._close()
            self._open = folder, SummaryWriter(str(folder))
        folder.stat()  # Its thread would die of a folder that somebody deleted.
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
