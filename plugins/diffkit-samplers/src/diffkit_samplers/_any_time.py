"""What samplers need of the times that a network can be asked at."""

from __future__ import annotations

from collections.abc import Iterable

from diffkit.core.component import Facts


def any_time(facts: Facts, reason: str) -> Iterable[str]:
    """The problem of a sampler that asks between the times of the trajectory, for this reason."""
    grid = facts.get("model.steps")
    if grid is not None:
        yield (
            f"the model can be asked only at multiples of 1/{grid}, and {reason}; "
            "use a sampler that asks at the times of the trajectory only, such as "
            "'samplers.dpmpp-2m'"
        )
