"""Gaussian processes beside the bundled one, to show that nothing depends on its curve."""

import torch

from diffkit.core.process import GaussianProcess
from diffkit.functional.gaussian import Scales


class Toy(GaussianProcess):
    def __init__(self, *, schedule):
        self._schedule = schedule

    @property
    def schedule(self):
        return self._schedule

    def prior(self, shape, noise):
        return self.scales(self.log_snr(1.0)).sigma * noise.normal(shape)


class VarianceExploding(Toy):
    def scales(self, log_snr):
        return Scales(torch.ones_like(log_snr), torch.exp(-log_snr / 2))


class RectifiedFlow(Toy):
    def scales(self, log_snr):
        return Scales(torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2))
