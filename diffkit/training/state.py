"""What a training is about, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
