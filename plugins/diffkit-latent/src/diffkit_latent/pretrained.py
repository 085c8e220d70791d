"""Autoencoders of diffusers, of which Stable Diffusion's are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, final

import torch
from safetensors import SafetensorError
from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Config, Facts
from diffkit.core.regular import MOST_JSON, read_regular
from diffkit.errors import ComponentError
from diffkit_latent.network import latent_shape

if TYPE_CHECKING:
    from jaxtyping import Float

_CLASS = "AutoencoderKL"
_UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError),
    *(SafetensorError, RecursionError, ArithmeticError),
)
"""What diffusers raises of folders that hold something else."""
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
        self._scale = _number(self._config, "scaling_factor", _SCALING)
        self._shift = _number(self._config, "shift_factor", 0.0)
        try:
            self.network, info = _diffusers().AutoencoderKL.from_pretrained(
                expanded(folder),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except _UNREADABLE as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ComponentError(
                f"diffusers-kl: {folder} cannot be read: {said}; give a folder with config.json "
                "and diffusion_pytorch_model.safetensors"
            ) from error
        _check_loaded(self.network, info, folder)
        self.requires_grad_(False)
        self._try(folder)

    def _try(self, folder: str) -> None:
        """Diffusers makes networks of some configurations that cannot run."""
        side = 2 ** _levels(self._config)
        try:
            x = torch.zeros(1, _whole(self._config, "in_channels", 3), side, side)
            self.decode(self.encode(x))
        except _UNREADABLE as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ComponentError(
                f"diffusers-kl: the network that {folder} describes does not run: {said}"
            ) from error

    @classmethod
    def latent_shape(cls, config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(latent channels, height / factor, width / factor)`."""
        read = _read(config.folder)
        channels, latent = _whole(read, "in_channels", 3), _whole(read, "latent_channels", 4)
        return latent_shape(shape, channels, latent, 2 ** (_levels(read) - 1))

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


def _whole(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if type(value) is not int or not 0 < value < 2**31:
        raise ComponentError(f"diffusers-kl: {key} = {value!r} in config.json is no number of them")
    return value


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ComponentError(f"diffusers-kl: {key} = {value!r} in config.json is no number")
    # Diffusers takes its own where a file says 0.
    return float(value) or default


def _levels(config: Mapping[str, Any]) -> int:
    levels = config.get("block_out_channels", (64,))
    if not isinstance(levels, list | tuple) or not 0 < len(levels) < 16:
        raise ComponentError(
            f"diffusers-kl: block_out_channels = {levels!r} in config.json is no list of channels"
        )
    return len(levels)


def _check_loaded(network: Any, info: Mapping[str, Any], folder: str) -> None:
    """All of the file is used, all of the network is filled, and all of it is finite."""
    found = {
        "lacks": info["missing_keys"],
        "has besides": info["unexpected_keys"],
        "differs in": [str(key) for key in info["mismatched_keys"]],
    }
    if not any(found.values()):  # What was missing may have no values at all.
        weights = network.named_parameters()
        found["is not finite in"] = [n for n, w in weights if not w.isfinite().all()]
    parts = [f"it {what} {', '.join(sorted(names)[:3])}" for what, names in found.items() if names]
    if parts:
        raise ComponentError(
            f"diffusers-kl: the weights in {folder} are not those of its config.json: "
            f"{'; '.join(parts)}"
        )


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
        data = json.loads(read_regular(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise ComponentError(
            f"{path} cannot be read: {error}; give the folder of an {_CLASS} (of a pipeline: vae)"
        ) from error
    found = data.get("_class_name") if isinstance(data, dict) else None
    if found != _CLASS:
        raise ComponentError(f"{path} is of {found}, and this reads an {_CLASS}; give its folder")
    assert isinstance(data, dict)
    return data
