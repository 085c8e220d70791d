"""Autoencoders of diffusers, of which Stable Diffusion's are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, final

from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Config, Facts
from diffkit.errors import ComponentError
from diffkit_latent.network import latent_shape

if TYPE_CHECKING:
    from jaxtyping import Float

_CLASS = "AutoencoderKL"
_SCALING = 0.18215
"""What diffusers takes where a configuration says nothing."""


@final
class DiffusersKL(Autoencoder):
    """An `AutoencoderKL` of diffusers from its folder, safetensors only.

    `encode` gives the posterior's mean as `z = c (mu(x) - d)` with the folder's `scaling_factor` c
    and `shift_factor` d: what Stable Diffusion's networks take (Rombach et al., 2022, section
    4.3.2). They are its authors' and of their data. Images are taken in [-1, 1].

    Args:
        folder: of config.json and the weights; a pipeline's is its sub-folder `vae`. It is never
            fetched.

    Raises:
        ComponentError: diffusers is not installed, or the folder holds something else.
    """

    def __init__(self, *, folder: str) -> None:
        super().__init__()
        self._config = _read(folder)
        self._scale = float(self._config.get("scaling_factor") or _SCALING)
        self._shift = float(self._config.get("shift_factor") or 0.0)
        try:
            self.network = _diffusers().AutoencoderKL.from_pretrained(
                expanded(folder), use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ComponentError(
                f"diffusers-kl: {folder} cannot be read: {str(error).splitlines()[0]}; give a "
                "folder with config.json and diffusion_pytorch_model.safetensors"
            ) from error
        self.requires_grad_(False)

    @classmethod
    def latent_shape(cls, config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(latent channels, height / factor, width / factor)`."""
        read = _read(config.folder)
        levels = len(read.get("block_out_channels", (64,)))
        channels, latent = int(read.get("in_channels", 3)), int(read.get("latent_channels", 4))
        return latent_shape(shape, channels, latent, 2 ** (levels - 1))

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Images in [-1, 1]."""
        declared = facts.get("data.range")
        if declared is not None and tuple(declared) != (-1.0, 1.0):
            yield (
                f"it takes images in [-1, 1], and the data's range is {list(declared)}; scale the "
                "data, and declare that range"
            )

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k p q"]:
        """The mean of the posterior, scaled."""
        mean: Tensor = self.network.encode(x).latent_dist.mean
        return self._scale * (mean - self._shift)

    def decode(self, z: Float[Tensor, "b k p q"]) -> Float[Tensor, "b c h w"]:
        """The images, which may leave [-1, 1] a little."""
        x: Tensor = self.network.decode(z / self._scale + self._shift).sample
        return x

    def identity(self) -> Mapping[str, Any]:
        """What the folder's configuration says."""
        return {key: value for key, value in self._config.items() if not key.startswith("_")}


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ComponentError(
            "diffusers-kl needs diffusers; pip install 'diffkit-latent[diffusers]'"
        ) from error
    return diffusers


def _read(folder: str) -> dict[str, Any]:
    path = expanded(folder) / "config.json"
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ComponentError(
            f"{path} cannot be read: {error}; give the folder of an {_CLASS} (of a pipeline: vae)"
        ) from error
    found = data.get("_class_name") if isinstance(data, dict) else None
    if found != _CLASS:
        raise ComponentError(f"{path} is of {found}, and this reads an {_CLASS}; give its folder")
    assert isinstance(data, dict)
    return data
