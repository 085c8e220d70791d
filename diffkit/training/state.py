"""How far a training has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainState:
    """How far training has come."""

    step: int = 0
    seconds: float = 0.0
