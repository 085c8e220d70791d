"""Trained runs among a component's arguments, as precise as the kit is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from diffkit.core.run import Run

IN_MEMORY = "(in memory)"
"""What a configuration says in the place of a run that code gives."""


def in_memory(code: Mapping[str, Any]) -> dict[str, str]:
    """The runs that code gives, as a configuration names them."""
    return {name: IN_MEMORY for name, value in code.items() if isinstance(value, Run)}


class PreciseRun(Run):
    """A run of which the weights are float64, in a copy, where that is asked.

    The kit asks in float64, so that only mistakes differ in the first digits, and not rounding. A
    base in float32 would round all that passes through it.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.directory or "")
        self.directory, self._run = run.directory, run

    @property
    def pipeline(self) -> Any:
        """As much of the run's as is asked of it."""
        if self._pipeline is None:
            self._pipeline = _Precise(self._run.pipeline)
        return self._pipeline


class _Precise:
    """A pipeline with its weights in float64."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.system: nn.Module = copy.deepcopy(pipeline.system).double()
        average = pipeline.average
        self.average = None if average is None else copy.deepcopy(average).double()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device("cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)
