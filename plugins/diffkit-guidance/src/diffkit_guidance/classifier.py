"""Guidance by a classifier of noisy images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, final

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from diffkit.arguments import expanded
from diffkit.core.denoiser import Denoiser, Times
from diffkit.core.guidance import Conditioning, Guidance, MakeDenoiser
from diffkit.core.model import Condition
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.schedule import Time
from diffkit.errors import ComponentError
from diffkit.functional.coefficients import broadcast_right
from diffkit_guidance._leading import Interval, Led, check_interval, gaussian, kept
from diffkit_guidance.noisy_classifier import (
    LABEL,
    WEIGHTS,
    Architecture,
    Network,
    read_classifier,
    unit,
)

_WITH_SIGNAL = (-20.0, 20.0)

LogProbability = Callable[[Tensor, Tensor], Tensor]
"""Of the label of each sample, given `x_t / sqrt(alpha^2 + sigma^2)` and the log-SNR."""


@final
class Classifier(Guidance):
    """Up the gradient of a classifier: `epsilon - scale sigma grad log p(label | x_t)`.

    Dhariwal & Nichol (2021), Algorithm 2, at every noise level; Song et al. (2021), SDE, eq. 14.
    The network that is led need not know of labels. If it does not, 0 is no guidance, and 1 leads
    from the distribution of all data to that of the label, as with `classifier-free`; a network
    that is given the label is guided from its own prediction. As the signal fades, `sigma^2/alpha
    grad log p` tends to `E[x_0 | label] - E[x_0]`, of which the gradient keeps nothing where none
    is left: a trajectory that begins there needs an `interval`. The classifier is trained by
    `diffkit train-classifier`; the schedule and the process of the run that it was trained for do
    not matter, but its noise levels are to cover the trajectory's.

    Args:
        folder: what `diffkit train-classifier` wrote.
        scale: how far; theirs are from 1 to 10.
        interval: of the log-SNR, within which to guide; None: everywhere.

    Raises:
        ComponentError: the interval is none; the folder does not hold a classifier, or one of
            other data; it is to lead where no signal is left.
    """

    takes = (LABEL,)

    def __init__(
        self,
        *,
        folder: str,
        scale: Annotated[float, Ge(0)] = 1.0,
        interval: Interval | None = None,
    ) -> None:
        check_interval("classifier", interval)
        self._folder, self._scale, self._interval = folder, scale, interval

    def guide(self, make_denoiser: MakeDenoiser, conditioning: Conditioning) -> Denoiser:
        """The guided denoiser."""
        network, sizes = _loaded(*kept(expanded(self._folder), WEIGHTS))
        label = conditioning.given.get(LABEL)
        if label is None:
            raise ComponentError("classifier: it leads to a label; give condition={'label': ...}")
        if label.is_floating_point() or label.ndim != 1:
            raise ComponentError("classifier: a label is one whole number a sample")
        network = network.to(label.device)
        asked = _Asked(network, sizes, label, self._folder)
        return _ByGradient(
            make_denoiser(conditioning.condition), asked, self._scale, self._interval
        )


class _Asked:
    """The logarithm of the probability of the samples' labels."""

    def __init__(self, network: Network, sizes: Architecture, label: Tensor, folder: str) -> None:
        self._network, self._sizes, self._label, self._folder = network, sizes, label, folder
        highest = int(label.max()) if len(label) else 0
        if highest >= sizes.classes or (len(label) and int(label.min()) < 0):
            raise ComponentError(
                f"classifier: {folder} knows the labels 0 to {sizes.classes - 1}, and "
                f"{highest if highest >= sizes.classes else int(label.min())} is asked for"
            )

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self._sizes.channels:
            raise ComponentError(
                f"classifier: {self._folder} is of images of {self._sizes.channels} channels, not "
                f"of data of the shape {list(x.shape[1:])}; train one for this run"
            )
        chosen = functional.log_softmax(self._network(x.float(), log_snr), dim=1)
        return chosen.gather(1, self._label[:, None])[:, 0]


class _ByGradient(Led):
    def __init__(
        self, plain: Denoiser, asked: LogProbability, scale: float, interval: Interval | None
    ) -> None:
        super().__init__(plain, interval, idle=scale == 0.0)
        self._asked, self._scale = asked, scale

    def start(self, inputs: Mapping[str, Tensor]) -> Led:
        return _ByGradient(self.wrapped.start(inputs), self._asked, self._scale, self._interval)

    def check_times(self, times: Sequence[float]) -> None:
        super().check_times(times)
        for t in times:
            if t > 0.0 and bool(self._active(t).any()):
                _check_signal(self.process.log_snr(t))

    def _both(
        self, x_t: Tensor, t: Time, given: Condition, times: Times
    ) -> tuple[GaussianPrediction, Tensor]:
        log_snr = self.process.log_snr(t)
        _check_signal(log_snr)
        plain = gaussian(self.wrapped(x_t, t, given=given, times=times))
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            inside = unit(self.process, x, log_snr)
            levels = log_snr.expand(len(x_t)).to(x_t.device)
            (gradient,) = torch.autograd.grad(self._asked(inside, levels).sum(), x)
        # epsilon falls by sigma times it, and x_0 rises by sigma^2 / alpha times it.
        (on_x_0, on_epsilon), (alpha, sigma) = plain.target, plain.scales
        change = self._scale * (on_x_0 * sigma * sigma / alpha - on_epsilon * sigma)
        return plain, plain.output + (broadcast_right(change, x_t) * gradient).to(x_t.dtype)


def _check_signal(log_snr: Tensor) -> None:
    """Raise ComponentError where no signal is left; times, and this, are on the host."""
    if bool(log_snr.isneginf().any()):
        raise ComponentError(
            "classifier: where no signal is left, as at t = 1 of this schedule, a classifier sees "
            "nothing of the label, and its gradient, 0, cannot say what the label's data are; set "
            f"interval to lead where there is signal only, such as {list(_WITH_SIGNAL)}, or take "
            "classifier-free guidance"
        )


@lru_cache(maxsize=4)
def _loaded(folder: Path, _: int) -> tuple[Network, Architecture]:
    return read_classifier(folder)
