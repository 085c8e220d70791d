"""What can be chosen for one sampling run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from torch import Tensor

from diffkit.config.spec import Compilation, Precision
from diffkit.core.component import Component
from diffkit.core.encoder import Given

Choice = str | Mapping[str, Any] | Component
"""A component to use instead: its name, its `{id, config}`, or an instance."""


class SamplingOptions(TypedDict, total=False):
    """What can be chosen for a trajectory; `Pipeline.sample` says what each is."""

    sampler: Choice | None
    steps: int | None
    spacing: Choice | None
    schedule: Choice | None
    process: Choice | None
    guidance: Choice | None
    condition: Given | None
    inputs: Mapping[str, Tensor] | None
    precision: Precision | None
    compile: Compilation | None
    clip: bool | Mapping[str, Any] | None
    average: str | None
