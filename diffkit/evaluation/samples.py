"""A metric of samples: of those that are given, or of new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from diffkit.assembly.components import Components
from diffkit.assembly.drawn_rows import drawn_rows
from diffkit.core.component import Component
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.metric import Measured, SampleMetric
from diffkit.errors import ComponentError, SpecError
from diffkit.plugins.isolation import cause_of

_DRAWN_AT_ONCE = 256


@dataclass(frozen=True)
class MeasuringOptions:
    """The arguments of `Pipeline.measure`."""

    samples: Tensor | None = None
    of: Batch | None = None
    num: int | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    """Components in the place of the spec's, by kind."""
    seed: int = 0
    choices: Mapping[str, Any] = field(default_factory=dict)
    """Of new samples."""

    def __post_init__(self) -> None:
        said = [*self.choices, *(["num"] if self.num is not None else [])]
        if self.samples is not None and said:
            raise SpecError([f"{', '.join(said)}: samples are given, so that none are drawn"])
        if self.of is not None and self.samples is None:
            raise SpecError(["of: it says what samples were made of; give those samples too"])
        if "condition" in self.choices:
            raise SpecError(
                [
                    "condition: samples to be measured have the conditions of data; give samples "
                    "and of"
                ]
            )

    def check_without_samples(self, metric: Component) -> None:
        """Raise SpecError where something is said of samples, and the metric takes none."""
        if self.samples is not None or self.num is not None or self.choices:
            raise SpecError(
                [
                    f"the metric {type(metric).__name__} measures the model; it takes no samples, "
                    "and no choice for them"
                ]
            )


def measured_by_samples(
    metric: SampleMetric,
    data: Dataset,
    parts: Components,
    asked: MeasuringOptions,
    draw: Callable[..., Tensor],
) -> Measured:
    """The values of a metric of samples.

    Args:
        metric: what is measured.
        data: what samples are compared with.
        parts: whose samples they are; new ones have the conditions of data where these take some.
        asked: which samples.
        draw: new ones, as `Pipeline.sample` does.

    Raises:
        ComponentError: the metric needs what the samples were made of, and they were not.
    """
    samples, of = asked.samples, asked.of
    if samples is None:
        count = metric.samples_needed(data) if asked.num is None else asked.num
        of = drawn_rows(data, parts, count, asked.seed, asked.choices)
        given = asked.choices if of is None else {**asked.choices, "condition": of.condition}
        samples = draw(count, seed=asked.seed, batch_size=_DRAWN_AT_ONCE, **given)
        of = _with_inputs(of, asked.choices.get("inputs") or {}, count)
    return Measured(_values(metric, samples, data, asked.seed, of))


def _with_inputs(of: Batch | None, inputs: Mapping[str, Tensor], count: int) -> Batch | None:
    """What samples were made of, with the sampler's inputs among what was given, a row a sample."""
    if not inputs:
        return of
    rows = {name: value.expand(count, *value.shape[1:]) for name, value in inputs.items()}
    known = Batch(torch.empty(count, 0)) if of is None else of
    return replace(known, given={**known.given, **rows})


def _values(
    metric: SampleMetric, samples: Tensor, data: Dataset, seed: int, of: Batch | None
) -> Mapping[str, float]:
    """What it measures. Raises ComponentError where it looks for what samples were not made of."""
    try:
        return metric.measure(samples, data, seed, of)
    except (AttributeError, KeyError, TypeError) as error:
        known = "no conditions" if of is None else ", ".join(of.condition) or "no conditions"
        raise ComponentError(
            f"the metric {type(metric).__name__} cannot measure these samples: "
            f"{cause_of(error)}; they were made of {known} (`of`): where it compares pairs, sample "
            "from conditions, or give samples and of"
        ) from error
