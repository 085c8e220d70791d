"""Training of the KL autoencoder, and then the measure of its latents."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffkit.core.dataset import Dataset
from diffkit.core.noise import mix
from diffkit.core.random_state import seeded
from diffkit.errors import DataError, TrainingError
from diffkit.helpers.files import write_file
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
class Training:
    """How to train.

    Args:
        steps: updates in all.
        max_seconds: stop earlier, once so much time was spent.
        batch_size: images in an update.
        learning_rate: the largest one; it rises over a twentieth of the updates and then falls to
            0 with a cosine.
        kl_weight: of the KL, in nats, against the squared error, both divided by the number of
            an image's values.
        perceptual_weight: of the distance between features of a classifier, which is trained on
            the data's labels before; 0 trains none.
        adversarial_weight: of what a critic of patches says, once half of the training is done,
            against the squared error; 0 trains no critic.
        seed: of the weights, the order of the data and the noise.
    """

    steps: int = 2000
    max_seconds: float | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    kl_weight: float = 1e-4
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    seed: int = 0


def trained(
    dataset: Dataset,
    sizes: Architecture,
    training: Training,
    told: Callable[[float, Mapping[str, float]], None] = lambda done, terms: None,
    device: torch.device | None = None,
    *,
    made: Callable[[Network], None] = lambda network: None,
    stop: Callable[[], bool] = lambda: False,
) -> Network:
    """A network trained on images: the minimum of `|x - D(z)|^2 + w KL(q(z|x) | N(0, 1))`.

    Kingma & Welling (2014), eq. 10, with z drawn from q(z|x), and the weight w on the KL as in
    Higgins et al. (2017), eq. 4. `told` is given the share that is done, and the terms; `made`
    the network before it is trained; `stop` ends training early.

    Raises:
        ComponentError: the images have other channels, or sides that cannot be halved.
        TrainingError: the loss is not finite.
    """
    latent = sizes.latent_shape(dataset.shape)
    with seeded(mix(training.seed, "weights")):
        network = Network(sizes).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=0.0)
    objective = _Objective(dataset, sizes, training, device)
    generator = torch.Generator().manual_seed(mix(training.seed, "draws"))
    began, done = time.monotonic(), 0.0
    for step in range(training.steps):
        if done >= 1.0 or stop():
            break
        done = _share(step, time.monotonic() - began, training)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * _rate(done)
        rows = torch.randint(len(dataset), (training.batch_size,), generator=generator)
        epsilon = torch.randn(len(rows), *latent, generator=generator).to(device)
        x = dataset.batch(rows.tolist()).x_0.to(device)
        loss, terms = objective(network, x, epsilon, done)
        if not bool(loss.isfinite()):
            raise TrainingError(f"the loss of update {step} is not finite; lower learning_rate")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        told(done, {name: float(value.detach()) for name, value in terms.items()})
    return network.requires_grad_(False).eval()


class _Objective:
    """What is minimised, with what it needs beside the autoencoder."""

    def __init__(
        self,
        dataset: Dataset,
        sizes: Architecture,
        training: Training,
        device: torch.device | None,
    ) -> None:
        self._training, seed = training, training.seed
        self._features: Features | None = None
        self._adversary: Adversary | None = None
        if training.perceptual_weight:
            self._features = trained_features(dataset, _FEATURE_STEPS, seed, device)
        if training.adversarial_weight:
            self._adversary = Adversary(sizes.channels, training.learning_rate, seed, device)

    def __call__(
        self, network: Network, x: Tensor, epsilon: Tensor, done: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms; the critic, if there is one, learns too."""
        decoded, posterior = network(x, epsilon)
        terms = losses(x, decoded, posterior)
        loss = terms["squared_error"] + self._training.kl_weight * terms["kl"]
        if self._features is not None:
            terms["perceptual"] = self._features.distance(decoded, x)
            loss = loss + self._training.perceptual_weight * terms["perceptual"]
        if self._adversary is not None and done >= _CRITIC_FROM:
            terms["critic"] = self._adversary.learn(x, decoded)
            term = self._adversary.term(decoded, terms["squared_error"], network.last)
            loss = loss + self._training.adversarial_weight * term
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


def _share(step: int, seconds: float, training: Training) -> float:
    """How much is done, by updates or by time, whichever is more."""
    by_time = 0.0 if training.max_seconds is None else seconds / training.max_seconds
    return max(step / training.steps, by_time)


def _rate(done: float) -> float:
    warm = min(1.0, (done + 1e-3) / 0.05)
    return warm * 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * min(done, 1.0)))))
