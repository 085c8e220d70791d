"""Diffusion posterior sampling, whatever is measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.noise import Noise
from diffkit.core.prediction import GaussianPrediction
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.sampler import Sampler, State
from diffkit_inverse._checks import between, gaussian, predicted


class PosteriorSampler(Sampler):
    """An ancestral step, and one down the gradient of how far the predicted data are from what
    was measured:

        x_s = x_s' - zeta / |y - A(x_0)| grad_{x_t} |y - A(x_0)|^2,  x_s' ~ p(x_s | x_t)

    Chung et al. (2023), Algorithm 1, with the step size of appendix D.1. The norm is over one
    sample. Where the trajectory is clipped, the gradient is that of the prediction before, so that
    it never vanishes.

    A subclass says what A is.
    """

    process_class: ClassVar[type[ForwardProcess]] = GaussianProcess
    name: ClassVar[str]
    """The component's id, for errors."""

    def __init__(self, *, zeta: float) -> None:
        self._zeta = between(self.name, "zeta", zeta, 0.0)

    @abstractmethod
    def residual(self, x_0: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """`y - A(x_0)`, batch first. Raises ComponentError where the inputs do not fit."""

    def trajectory(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Sequence[float],
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[State]:
        """One step between each pair of neighbouring times."""
        for t, s in pairwise(times):
            state = self._step(denoiser, x, t, s, noise, inputs)
            yield state
            x = state.x

    def _step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: float,
        s: float,
        noise: Noise,
        inputs: Mapping[str, Tensor],
    ) -> State:
        process = gaussian(self.name, denoiser)
        with torch.enable_grad():
            leaf = x_t.detach().requires_grad_(True)
            asked = predicted(self.name, denoiser, leaf, t)
            squares = self.residual(asked.unclipped.x_0, inputs).flatten(1).square().sum(1)
            gradient = _gradient(squares, leaf)
        # A residual of 0 has a gradient of 0: any positive norm will do.
        norm = squares.detach().sqrt().clamp_min(torch.finfo(x_t.dtype).tiny)
        prediction = _detached(asked, x_t)
        x_s = process.reverse(prediction, x_t, t, s, noise)
        size = (self._zeta / norm).reshape(-1, *[1] * (x_t.ndim - 1))
        return State(x_s - size * gradient, s, prediction)


def _gradient(squares: Tensor, leaf: Tensor) -> Tensor:
    if not squares.requires_grad:
        return torch.zeros_like(leaf)  # The prediction does not depend on what is seen.
    (gradient,) = torch.autograd.grad(squares.sum(), leaf)
    return gradient


def _detached(prediction: GaussianPrediction, x_t: Tensor) -> GaussianPrediction:
    fraction = prediction.variance_fraction
    return GaussianPrediction(
        prediction.output.detach(),
        x_t,
        prediction.target,
        prediction.scales,
        fraction.detach() if isinstance(fraction, Tensor) else fraction,
    )
