"""Flow matching with optimal-transport couplings. Tong et al. (2024), OT-CFM.

The coupling is the dataset's: each datum comes with the noise that it is paired with, so that what
a sample is trained on does not depend on its batch, nor on how many processes share it. A coupling
of each batch, as theirs is, would be made in `process.draw`, of the rows that one process has.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

from diffkit.core import (
    Batch,
    ConditionInfo,
    Dataset,
    Example,
    GaussianProcess,
    GaussianStepSampler,
    NoiseSchedule,
)
from diffkit.functional.gaussian import Scales

START = ConditionInfo(shape=(2,))


class Ring(Dataset):
    """Eight Gaussians on a circle; `start` is the noise that each point is paired with.

    Args:
        coupled: paired by optimal transport, in groups of 512; or at random.
    """

    def __init__(self, *, coupled: bool = True, size: int = 4096) -> None:
        generator = torch.Generator().manual_seed(0)
        angle = torch.randint(8, (size,), generator=generator) * torch.pi / 4
        centre = 2.0 * torch.stack([angle.cos(), angle.sin()], dim=1)
        self._x = centre + 0.1 * torch.randn(size, 2, generator=generator)
        self._start = torch.randn(size, 2, generator=generator)
        for first in range(0, size if coupled else 0, 512):
            rows = slice(first, first + 512)
            cost = torch.cdist(self._x[rows], self._start[rows]).square()
            order = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
            self._start[rows] = self._start[rows][order]

    @classmethod
    def facts(cls, config):
        return {"shape": (2,), "range": None, "conditions": {"start": START}}

    @property
    def shape(self):
        return (2,)

    @property
    def conditions(self):
        return {"start": START}

    def __len__(self):
        return len(self._x)

    def batch(self, indices):
        rows = torch.as_tensor(indices)
        return Batch(self._x[rows], {"start": self._start[rows]})


class CoupledFlow(GaussianProcess):
    """`x_t = (1 - t) x_0 + t start`, on the schedule `rectified`. Tong et al. (2024), eq. 14."""

    def __init__(self, *, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    @classmethod
    def examples(cls):
        start = {"start": lambda count: torch.arange(2.0 * count).sin().reshape(count, 2)}
        return [Example(shape=(2,), conditions=start)]

    @property
    def schedule(self):
        return self._schedule

    @property
    def takes(self):
        return ("start",)

    @property
    def prior_takes(self):
        return ()

    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2))

    def draw(self, x_0, noise, condition=None):
        return condition["start"]

    def prior(self, shape, noise, condition=None):
        return noise.normal(shape)


class Euler(GaussianStepSampler):
    """Along the predicted x_0 and epsilon, which is Euler's step of the flow."""

    def step(self, prediction, t, s, noise):
        return s.alpha * prediction.x_0 + s.sigma * prediction.epsilon
