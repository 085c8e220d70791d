"""Data whose conditions samples are made of, to be compared with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from diffkit.assembly.components import Components
from diffkit.core.dataset import Dataset
from diffkit.core.guidance import Guidance
from diffkit.core.loss import Batch
from diffkit.core.noise import mix
from diffkit.errors import DataError


def drawn_rows(
    dataset: Dataset,
    parts: Components,
    count: int,
    seed: int,
    instead: Mapping[str, Any] | None = None,
) -> Batch | None:
    """So many of a dataset's samples, drawn at random, with the raw conditions that samples to be
    compared with them need; None where they need none.

    Those that the network or its encoder, the process and guidance take; `instead` has choices in
    the place of the pipeline's.
    """
    chosen = (instead or {}).get("guidance", parts.guidance)
    also = chosen.takes if isinstance(chosen, Guidance) else ()
    taken = dict.fromkeys((*parts.taken, *parts.process.prior_takes, *also))
    if not taken:
        return None
    host = torch.Generator().manual_seed(mix(seed, "conditions"))
    rounds = -(-count // len(dataset))
    order = torch.cat([torch.randperm(len(dataset), generator=host) for _ in range(rounds)])
    return rows_with(dataset, order[:count].tolist(), taken)


def rows_with(dataset: Dataset, rows: Sequence[int], names: Iterable[str]) -> Batch:
    """These rows with these of their conditions. Raises DataError where one is not there."""
    read = dataset.batch(rows)
    if missing := [name for name in names if name not in read.condition]:
        raise DataError(f"samples need the conditions {', '.join(missing)}; the dataset has none")
    return Batch(read.x_0, {name: read.condition[name] for name in names})
