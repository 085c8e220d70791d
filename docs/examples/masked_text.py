"""Masked diffusion of characters. Sahoo et al. (2024), MDLM; Austin et al. (2021), D3PM."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core import (
    DataShape,
    EpsilonModel,
    Example,
    ForwardProcess,
    Loss,
    LossRecord,
    Measured,
    ModelMetric,
    NoiseSchedule,
    Prediction,
    SampleNoise,
    Vocabulary,
    as_time,
)
from diffkit.functional.coefficients import broadcast_right


class Even(NoiseSchedule):
    """As many are masked as time has passed: `sigmoid(-log_snr(t)) = t`."""

    @property
    def t_min(self):
        return 1e-3

    def log_snr(self, t):
        t = as_time(t)
        return torch.log1p(-t) - torch.log(t)

    def time_at(self, log_snr):
        return torch.sigmoid(-log_snr)


@dataclass(frozen=True, eq=False)
class Logits(Prediction):
    """Logits of each character, `[b, length, vocabulary]`."""

    logits: Tensor

    @property
    def x_0(self):
        return self.logits


TRIED = Example(shape=(12,), vocabulary=5)
"""What the conformance kit tries these components with: twelve characters of five."""


class Masking(ForwardProcess):
    """Each token is hidden by time t with probability `sigmoid(-log_snr(t))`, and stays so.

    The token for a hidden one is behind the others. MDLM, eq. 3 and 6.
    """

    def __init__(self, *, schedule: NoiseSchedule, vocabulary: Vocabulary) -> None:
        self._schedule, self._mask = schedule, vocabulary

    @classmethod
    def examples(cls):
        return [TRIED]

    @property
    def schedule(self):
        return self._schedule

    def hidden(self, t):
        return torch.sigmoid(-self._schedule.log_snr(t))

    def draw(self, x_0, noise, condition=None):
        return noise.uniform(x_0.shape)

    def diffuse(self, x_0, t, drawn):
        return torch.where(drawn < broadcast_right(self.hidden(t), x_0), self._mask, x_0)

    def prior(self, shape, noise, condition=None):
        # The noise source knows the device.
        return torch.full_like(noise.uniform(shape), self._mask, dtype=torch.int64)

    def interpret(self, output, x_t, t):
        return Logits(output)

    def reverse(self, prediction, x_t, t, s, noise):
        """MDLM, eq. 7: a hidden token is shown with probability `1 - hidden(s) / hidden(t)`."""
        shown = 1 - self.hidden(s) / self.hidden(t)
        above = prediction.x_0.softmax(-1).cumsum(-1)
        choice = (noise.uniform(x_t.shape)[..., None] >= above).sum(-1).clamp(max=self._mask - 1)
        show = (x_t == self._mask) & (noise.uniform(x_t.shape) < shown)
        return torch.where(show, choice, x_t)

    def is_hidden(self, x_t):
        return x_t == self._mask


def _nats(x_0, context_process, denoiser, t, noise):
    """`-log p` of hidden characters over how many are expected: MDLM, eq. 10, of each sample."""
    x_t = context_process.diffuse(x_0, t, context_process.draw(x_0, noise))
    errors = functional.cross_entropy(denoiser(x_t, t).x_0.movedim(-1, 1), x_0, reduction="none")
    hidden = context_process.is_hidden(x_t)
    return (errors * hidden).mean(1) / broadcast_right(context_process.hidden(t), errors[:, 0])


class MaskedCrossEntropy(Loss):
    """The bound of masked diffusion at random times: the same number as its metric adds up."""

    process_class = Masking

    @classmethod
    def examples(cls):
        return [TRIED]

    def __call__(self, batch, context):
        t, weight = context.draw_times(len(batch))
        nats = _nats(batch.x_0, context.process, context.denoiser, t, context.noise)
        return LossRecord(values=broadcast_right(weight, nats) * nats, t=t)


class Reader(EpsilonModel):
    """Convolutions over embedded characters, each layer farther than the one before."""

    exempt: ClassVar = dict.fromkeys(
        (
            "noise_level_has_an_effect",
            "noise_level_is_per_sample",
            "neighbouring_noise_levels_are_told_apart",
            "calls_do_not_depend_on_earlier_calls",
        ),
        "it sees how many characters are hidden, and needs no other noise level",
    )

    def __init__(self, *, shape: DataShape, vocabulary: Vocabulary, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary + 1, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in (1, 2, 4, 1)
        )
        self.last = nn.Linear(width, vocabulary)

    @classmethod
    def examples(cls):
        return [TRIED]

    def forward(self, x, c_noise, condition):
        hidden = self.embed(x).movedim(-1, 1)
        for layer in self.layers:
            hidden = hidden + functional.silu(layer(hidden))
        return self.last(hidden.movedim(1, -1))


class BitsPerCharacter(ModelMetric):
    """The bound on bits a character, at evenly spread times. Lower is better."""

    def __init__(self, *, times: int = 16) -> None:
        self._times = times

    @classmethod
    def examples(cls):
        return [replace(TRIED, process=lambda: Masking(schedule=Even(), vocabulary=5))]

    def measure_model(self, model, dataset, seed, device):
        rows = list(range(len(dataset)))
        x_0 = dataset.batch(rows).x_0.to(device)
        noise = SampleNoise(seed=seed, indices=rows, device=device)
        denoiser, total = model({}), 0.0
        with torch.no_grad():
            for k in range(self._times):
                t = (k + 0.5) / self._times
                total += float(_nats(x_0, denoiser.process, denoiser, t, noise).mean())
        return Measured({"bits": total / self._times / math.log(2.0)})
