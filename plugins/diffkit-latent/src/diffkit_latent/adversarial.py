"""The adversarial term of the autoencoder's training: a critic of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffkit.core.noise import mix
from diffkit.core.random_state import seeded

if TYPE_CHECKING:
    from jaxtyping import Float

_WIDTH, _GROUPS, _SLOPE = 32, 8, 0.2
_LARGEST, _SMALL = 1e4, 1e-4


class Critic(nn.Module):
    """Says of every patch of an image whether it looks like the data: above 0, or below.

    Isola et al. (2017), section 3.2.2, "PatchGAN", with two halvings and group normalisation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 4, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 4, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, 2 * _WIDTH),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(2 * _WIDTH, 1, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 p q"]:
        """One number a patch."""
        judged: Tensor = self.layers(x)
        return judged


class Adversary:
    """A critic in training, and what the autoencoder is told of it.

    Esser et al. (2021), section 3.1, with the hinge loss of Lim & Ye (2017).
    """

    def __init__(self, channels: int, rate: float, seed: int, device: torch.device | None) -> None:
        with seeded(mix(seed, "critic")):
            self._critic = Critic(channels).to(device)
        self._optimizer = torch.optim.AdamW(
            self._critic.parameters(), lr=rate, betas=(0.5, 0.9), weight_decay=0.0
        )

    def term(self, decoded: Tensor, reconstruction: Tensor, last: Tensor) -> Tensor:
        """`lambda -E[D(decoded)]`, balanced against the reconstruction at the weight `last`.

        `lambda = |grad reconstruction| / (|grad -E D| + 1e-4)`. Esser et al. (2021), eq. 7.
        """
        self._critic.requires_grad_(False)
        fooled = -self._critic(decoded).mean()
        self._critic.requires_grad_(True)
        (ours,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
        (theirs,) = torch.autograd.grad(fooled, last, retain_graph=True)
        balance = (ours.norm() / (theirs.norm() + _SMALL)).clamp(max=_LARGEST)
        weighted: Tensor = balance.detach() * fooled
        return weighted

    def learn(self, x: Tensor, decoded: Tensor) -> Tensor:
        """One update of the critic; gives its loss."""
        loss = hinge(self._critic(x), self._critic(decoded.detach()))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.detach()


def hinge(real: Tensor, decoded: Tensor) -> Tensor:
    """`(E max(0, 1 - D(x)) + E max(0, 1 + D(decoded))) / 2`. Lim & Ye (2017)."""
    return 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + decoded).mean())
