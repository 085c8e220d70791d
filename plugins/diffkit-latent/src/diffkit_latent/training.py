"""What the KL autoencoder is trained on, and then the measure of its latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.errors import DataError
from diffkit.helpers.files import write_file
from diffkit.helpers.fit import FitSettings
from diffkit_latent.adversarial import Adversary
from diffkit_latent.kl import written
from diffkit_latent.network import Architecture, Network, Posterior
from diffkit_latent.perceptual import Features, trained_features

_AT_ONCE = 32
_FEATURE_STEPS = 300
"""Updates of the classifier whose features the perceptual term compares."""
_CRITIC_FROM = 0.5
"""The share of training after which there is a critic: it learns from what is nearly right."""
_SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class Weights:
    """What the terms beside the squared error weigh.

    Args:
        kl: of the KL, in nats, against the squared error, both divided by the number of an
            image's values.
        perceptual: of the distance between features of a classifier, which is trained on the
            data's labels before; 0 trains none.
        adversarial: of what a critic of patches says, once half of the training is done, against
            the squared error; 0 trains no critic.
    """

    kl: float = 1e-4
    perceptual: float = 0.0
    adversarial: float = 0.0


def initialised(sizes: Architecture, seed: int, device: torch.device | None = None) -> Network:
    """A network of fresh weights, which are a function of the seed."""
    with seeded(mix(seed, "weights")):
        network = Network(sizes).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class Reconstruction:
    """What is minimised: `|x - D(z)|^2 + w KL(q(z|x) | N(0, 1))`, and further terms.

    Kingma & Welling (2014), eq. 10, with z drawn from q(z|x), and the weight w on the KL as in
    Higgins et al. (2017), eq. 4. The critic, if there is one, learns with the network.

    Raises:
        ComponentError: the images have other channels, or sides that cannot be halved.
    """

    def __init__(
        self, network: Network, dataset: Dataset, settings: FitSettings, weights: Weights
    ) -> None:
        sizes, seed = network.sizes, settings.seed
        device = next(network.parameters()).device
        self._network, self._weights = network, weights
        self._latent_shape = sizes.latent_shape(dataset.shape)
        self._features: Features | None = None
        self._adversary: Adversary | None = None
        if weights.perceptual:
            self._features = trained_features(dataset, _FEATURE_STEPS, seed, device)
        if weights.adversarial:
            self._adversary = Adversary(sizes.channels, settings.learning_rate, seed, device)

    def __call__(
        self, batch: Batch, draws: torch.Generator, done: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms."""
        device = next(self._network.parameters()).device
        epsilon = torch.randn(len(batch), *self._latent_shape, generator=draws).to(device)
        x = batch.x_0.to(device)
        decoded, posterior = self._network(x, epsilon)
        terms = losses(x, decoded, posterior)
        loss = terms["squared_error"] + self._weights.kl * terms["kl"]
        if self._features is not None:
            terms["perceptual"] = self._features.distance(decoded, x)
            loss = loss + self._weights.perceptual * terms["perceptual"]
        if self._adversary is not None and done >= _CRITIC_FROM:
            terms["critic"] = self._adversary.learn(x, decoded)
            term = self._adversary.term(decoded, terms["squared_error"], self._network.last)
            loss = loss + self._weights.adversarial * term
        return loss, terms


def losses(x: Tensor, decoded: Tensor, posterior: Posterior) -> dict[str, Tensor]:
    """The mean `squared_error`, and the `kl` in nats a value of an image."""
    return {
        "squared_error": (decoded - x).square().mean(),
        "kl": posterior.kl().mean() / x[0].numel(),
    }


def latent_scale(
    network: Network, dataset: Dataset, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the deviation of each channel of the posterior's mean over all data, float64.

    Rombach et al. (2022), section 4.3.2, for each channel, and of all data for one batch.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for start in range(0, len(dataset), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(dataset)))
            z = network.posterior(dataset.batch(rows).x_0.to(device)).mean.cpu().double()
            count += z[:, 0].numel()
            total = total + z.sum(dim=(0, 2, 3))
            squares = squares + z.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0.0).sqrt()
    if bool((std < _SMALLEST_STD).any()):
        raise DataError(
            "a channel of the latents is the same for all data, so that it cannot be scaled; train "
            "longer, lower kl_weight, or take fewer latent channels"
        )
    return mean, std


def write_autoencoder(
    folder: Path, network: Network, sizes: Architecture, dataset: Dataset
) -> None:
    """Measure the scale, and write the folder that `latent.kl` reads. Raises CheckpointError."""
    device = next(network.parameters()).device
    mean, std = latent_scale(network, dataset, device)
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors["latent_mean"] = mean.float().reshape(-1, 1, 1)
    tensors["latent_std"] = std.float().reshape(-1, 1, 1)
    for name, content in written(sizes, tensors, dataset.range).items():
        write_file(folder / name, content)
