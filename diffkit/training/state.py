"""What a training is about, how far it has come, and what it leaves for more training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Run:
    """What observers are told."""

    directory: Path | None
    spec: Mapping[str, Any]


@dataclass
class TrainState:
    """How far training has come."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Continuation:
    """What training leaves beside the weights, on the host, for more training to go on from."""

    step: int
    seconds: float
    optimizer: Mapping[str, Tensor]
    times: Mapping[str, Tensor]
