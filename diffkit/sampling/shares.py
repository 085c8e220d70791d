"""The samples of a run, by the processes that were launched: each draws its share, or one all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffkit.distributed.world import world_of
from diffkit.errors import SpecError
from diffkit.helpers.finite import Finite
from diffkit.helpers.progress import bar
from diffkit.sampling.run import SamplingRun


def share_of(
    run: SamplingRun, seed: int, size: int, show: bool | None, tell: Callable[[Tensor], None]
) -> Iterator[tuple[range, Tensor]]:
    """The samples of this process, `size` at a time, with their numbers.

    `tell` is given each batch. Those that are not finite are warned of in the end.
    """
    world, finite, group = world_of(run.device), Finite(), run.sampler.group
    groups = world.rows(run.num // group)
    mine = range(group * groups.start, group * groups.stop)
    with bar("sampling", 1.0, show if world.is_main else False) as shown:
        for rows, x in run.batches(seed, mine, size, shown):
            tell(finite.look(rows, x))
            yield rows, x
    finite.warn()


def gathered(run: SamplingRun, share: Iterable[tuple[range, Tensor]], dtype: torch.dtype) -> Tensor:
    """The samples of all processes, in each of them."""
    found = [x for _, x in share]
    mine = torch.cat(found) if found else torch.empty(0, *run.sample_shape, dtype=dtype)
    world = world_of(run.device)
    with world.explain_failures(lambda: "No samples are returned"):
        return world.all_gather(mine)


def drawn_alone(run: SamplingRun, seed: int, size: int, go_on: Callable[[], None]) -> Tensor:
    """All samples, drawn by this process, which stops where `go_on` raises.

    Raises SpecError where it cannot.
    """
    if world_of(run.device).sharded:
        raise SpecError(["run.sample: each process holds a part of every weight (FSDP)"])
    batches = run.batches(seed, range(run.num), size, _Interrupted(go_on))
    return torch.cat([x for _, x in batches])


@dataclass(frozen=True)
class _Interrupted:
    """Shows no progress, and goes on as long as that raises nothing."""

    go_on: Callable[[], None]

    def update(self, done: float, text: str) -> None:
        self.go_on()
