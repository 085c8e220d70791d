"""Where metrics go beside the run's own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path


def tensorboard_sink(directory: Path) -> tuple[Callable[[int, Mapping[str, float]], None], ...]:
    """A sink that writes TensorBoard's event files into the run; none where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return ()
    writer = SummaryWriter(str(directory / "tensorboard"))

    def write(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "step":
                writer.add_scalar(f"train/{name}", value, step)
        writer.flush()

    return (write,)
