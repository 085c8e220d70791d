"""The KL autoencoder, from the folder that `diffkit train-autoencoder` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Config, Facts
from diffkit.core.denoiser import DataRange
from diffkit.core.regular import MOST_JSON, read_regular
from diffkit.core.weights import fit_tensors, load_state, read_tensors, state_of, tensor_bytes
from diffkit.errors import CheckpointError, ComponentError
from diffkit_latent.network import Architecture, Network

if TYPE_CHECKING:
    from jaxtyping import Float

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FORMAT = "diffkit-latent.kl.1"


@final
class KL(Autoencoder):
    """A small convolutional autoencoder whose latents are kept near a standard normal.

    Rombach et al. (2022), section 3.1, "KL-reg."; Kingma & Welling (2014). `encode` gives the
    posterior's mean `mu(x)`, brought to mean 0 and deviation 1 over the data that it was trained
    on, channel by channel: `z = (mu(x) - m) / s`, where that paper has one `s` and no `m` (section
    4.3.2). `m` and `s` are measured after training and kept with the weights.

    Args:
        folder: what `diffkit train-autoencoder` wrote: config.json and model.safetensors.

    Raises:
        ComponentError: the folder is not there, or holds something else.
    """

    def __init__(self, *, folder: str) -> None:
        super().__init__()
        self._sizes = read_sizes(expanded(folder))
        self.network = Network(self._sizes)
        shape = (self._sizes.latent_channels, 1, 1)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        for name in ("latent_mean", "latent_std"):
            self.register_buffer(name, next(self.network.parameters()).new_ones(shape))
        self._load(expanded(folder) / WEIGHTS)
        self.requires_grad_(False)

    @classmethod
    def latent_shape(cls, config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(latent channels, height / factor, width / factor)`."""
        return read_sizes(expanded(config.folder)).latent_shape(shape)

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Data in the range of those that it was trained on."""
        trained, declared = _read(expanded(config.folder))[1], facts.get("data.range")
        if trained is not None and declared is not None and tuple(declared) != trained:
            yield (
                f"it was trained on data in {list(trained)}, and the data's range is "
                f"{list(declared)}; scale the data, or train another"
            )

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k p q"]:
        """The mean of the posterior, scaled."""
        return (self.network.posterior(x).mean - self.latent_mean) / self.latent_std

    def decode(self, z: Float[Tensor, "b k p q"]) -> Float[Tensor, "b c h w"]:
        """The images, which may leave the range of the data a little."""
        return self.network.images(z * self.latent_std + self.latent_mean)

    def identity(self) -> Mapping[str, Any]:
        """The sizes of the network: where the folder is does not matter."""
        return self._sizes.as_data()

    def _load(self, path: Path) -> None:
        try:
            load_state(self, fit_tensors(read_tensors(path), state_of(self), path))
        except CheckpointError as error:
            raise ComponentError(
                f"kl: {path} does not hold the weights that {CONFIG} beside it is of: {error}; "
                "train the autoencoder again"
            ) from error


def read_sizes(folder: Path) -> Architecture:
    """What a folder's config.json says of the network. Raises ComponentError."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Architecture, DataRange | None]:
    """The sizes of the network, and the range of the data that it was trained on."""
    path = folder / CONFIG
    try:
        data = json.loads(read_regular(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise ComponentError(
            f"{path} cannot be read: {error}; give the folder that `diffkit train-autoencoder` "
            "wrote"
        ) from error
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        raise ComponentError(
            f"{path} is not of `diffkit train-autoencoder` (its format is to be {_FORMAT!r}); a "
            "folder of diffusers is read by `latent.diffusers-kl`"
        )
    try:
        declared = data.pop("range", None)
        sizes = Architecture(**{**data, "multipliers": tuple(data["multipliers"])})
        return sizes, None if declared is None else (float(declared[0]), float(declared[1]))
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise ComponentError(f"{path} does not describe the network: {error}") from error


def written(
    sizes: Architecture, tensors: Mapping[str, Tensor], data_range: DataRange | None = None
) -> dict[str, bytes]:
    """The files of a folder, by name, the one that makes it whole last."""
    told = {"format": _FORMAT, **sizes.as_data(), "range": data_range}
    text = json.dumps(told, indent=2) + "\n"
    return {WEIGHTS: tensor_bytes(tensors), CONFIG: text.encode()}
