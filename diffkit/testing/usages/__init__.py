"""Using a component of any kind once, the same way every time: what went in, what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.usages.data import use_dataset, use_features, use_metric
from diffkit.testing.usages.mathematics import (
    losses_of,
    use_parameterization,
    use_process,
    use_sampler,
    use_schedule,
    use_spacing,
    use_times,
    use_weighting,
)
from diffkit.testing.usages.networks import (
    use_autoencoder,
    use_encoder,
    use_guidance,
    use_loss,
    use_model,
)
from diffkit.testing.usages.record import Usage
from diffkit.testing.usages.training import (
    use_augmentation,
    use_average,
    use_learning_rate,
    use_observer,
    use_optimizer,
)

__all__ = ["Exercise", "exercise", "losses_of"]

_USAGES: Mapping[str, Callable[[ComponentUnderTest, Any, Usage, torch.dtype], None]] = {
    "schedule": use_schedule,
    "process": use_process,
    "model": use_model,
    "loss": use_loss,
    "sampler": use_sampler,
    "parameterization": use_parameterization,
    "times": use_times,
    "weighting": use_weighting,
    "spacing": use_spacing,
    "encoder": use_encoder,
    "guidance": use_guidance,
    "autoencoder": use_autoencoder,
    "dataset": use_dataset,
    "features": use_features,
    "metric": use_metric,
    "optimizer": use_optimizer,
    "learning-rate": use_learning_rate,
    "average": use_average,
    "augmentation": use_augmentation,
    "observer": use_observer,
}


def use(subject: ComponentUnderTest, component: Any, dtype: torch.dtype = torch.float32) -> Usage:
    """Use a component once. The same component gives the same outputs, whatever was before.

    Raises:
        NotApplicable: it needs something that the kit does not have.
    """
    done = Usage()
    _USAGES[subject.kind](subject, component, done, dtype)
    return done
