"""diffusers' U-Nets as diffkit models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Gt
from diffkit.arguments import expanded
from diffkit.core.component import Config, Facts
from diffkit.core.data import DataShape
from diffkit.core.model import Condition, EpsilonModel
from diffkit.core.parameterization import TIME_SCALE
from diffkit.core.weights import fit_tensors, load_state, state_of
from diffkit.errors import CheckpointError, ComponentError
from diffkit.helpers.files import read_json
from torch import Tensor

from diffkit_diffusers._errors import ERRORS
from diffkit_diffusers.folder import read_weights, with_defaults
from diffkit_diffusers.weights import modern

if TYPE_CHECKING:
    from jaxtyping import Float

_PLAIN, _CONDITIONED = "UNet2DModel", "UNet2DConditionModel"
_TEXT = "encoder_hidden_states"
_CLASS = "class_labels"
_LEVELS = (224, 448, 672, 896)
"""The channels of a UNet2DModel that does not say any."""
_MORE_INPUTS = ("addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


class DiffusersUNet(EpsilonModel):
    """A `UNet2DModel` or `UNet2DConditionModel` of diffusers, weights and all, as it is.

    diffusers counts noise levels from 0, so at `t = k / steps` the network is asked at index
    `k - 1`. It can be asked on this grid only: the schedule must have as many steps.

    Args:
        shape: channels, height, width; the pipeline supplies its data's.
        folder: of a model as `save_pretrained` writes it, or of a pipeline, whose `unet` it is;
            weights are read from safetensors only. A saved run needs the folder again.
        architecture: diffusers' configuration, for a fresh network. `_class_name` chooses the
            class, `UNet2DModel` by default. Exactly one of `folder` and `architecture` is given.
        steps: T, the number of noise levels that the network knows.

    The conditions are `encoder_hidden_states` `[b, tokens, width]` for a `UNet2DConditionModel`,
    and `class_labels` `[b]` where the configuration embeds classes.

    Raises:
        ComponentError: the configuration is wrong or needs what is not supported; names it.
        CheckpointError: the folder cannot be read, or its weights do not fit.
    """

    def __init__(
        self,
        *,
        shape: DataShape,
        folder: str | None = None,
        architecture: dict[str, Any] | None = None,
        steps: Annotated[int, Gt(0)] = 1000,
    ) -> None:
        super().__init__()
        config = _configuration(folder, architecture)
        if problems := list(_incompatibilities(config, shape)):
            raise ComponentError("diffusers.unet-2d: " + "; ".join(problems))
        self._steps = steps
        self._conditions = _conditions(config)
        self.network = _network(config)
        if folder is not None:
            _load(self.network, _model_folder(folder))
        self._try(config, shape[0])

    def _try(self, config: Mapping[str, Any], channels: int) -> None:
        """Diffusers makes networks of some configurations that cannot run: ask once, for little."""
        if any(config.get(key) is not None for key in ("class_embed_type", "encoder_hid_dim")):
            return
        side = 2 ** len(config.get("block_out_channels", _LEVELS))
        width = config.get("cross_attention_dim", 1280)
        given = {
            _TEXT: torch.zeros(1, 1, width if isinstance(width, int) else 1),
            _CLASS: torch.zeros(1, dtype=torch.int64),
        }
        mode = self.network.training
        try:
            with torch.no_grad():
                self.network.eval()
                self(torch.zeros(1, channels, side, side), torch.full((1,), TIME_SCALE), given)
        except ERRORS as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ComponentError(
                f"diffusers.unet-2d: the network so configured does not run: {said}"
            ) from error
        finally:
            self.network.train(mode)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """The conditions, and the grid of times."""
        try:
            conditions = _conditions(_configuration(config.folder, config.architecture))
        except (ComponentError, CheckpointError):
            conditions = ()  # `requires` says why.
        return {"conditions": conditions, "steps": config.steps}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Images of the network's channels, and a configuration that is supported."""
        try:
            found = _configuration(config.folder, config.architecture)
        except (ComponentError, CheckpointError) as error:
            yield str(error)
            return
        yield from _incompatibilities(found, facts["data.shape"])

    def forward(
        self, x: Float[Tensor, "b c h w"], c_noise: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """The output at index `c_noise steps / 1000 - 1`."""
        index = c_noise * (self._steps / TIME_SCALE) - 1
        given = {name: condition[name] for name in self._conditions}
        output: Tensor = self.network(x, index, return_dict=False, **given)[0]
        return output


def _configuration(folder: str | None, architecture: Mapping[str, Any] | None) -> dict[str, Any]:
    if (folder is None) == (architecture is None):
        raise ComponentError(
            "diffusers.unet-2d: give either folder or architecture, and not both; "
            "architecture={} is a fresh network with diffusers' defaults"
        )
    if folder is not None:
        return read_json(_model_folder(folder) / "config.json")
    return dict(architecture or {})


def _model_folder(folder: str) -> Path:
    path = expanded(folder)
    return path / "unet" if (path / "model_index.json").exists() else path


def takes(config: Mapping[str, Any]) -> bool:
    """Whether `diffusers.unet-2d` takes this configuration, with images as it describes them."""
    try:
        size = config.get("sample_size")
        if size is None:  # Any that the levels halve will do.
            size = 2 ** len(config.get("block_out_channels", _LEVELS))
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if list(_incompatibilities(config, (config.get("in_channels", 3), *sides))):
            return False
        with torch.device("meta"):
            _network(config)
    except (ComponentError, *ERRORS):
        return False
    return True


def _incompatibilities(config: Mapping[str, Any], shape: tuple[int, ...]) -> Iterable[str]:
    name = config.get("_class_name", _PLAIN)
    if name not in (_PLAIN, _CONDITIONED):
        yield f"_class_name = {name!r} is not supported; it is {_PLAIN} or {_CONDITIONED}"
        return
    channels = 3 if name == _PLAIN else 4
    for key in ("in_channels", "out_channels"):
        value = config.get(key, channels)
        if len(shape) != 3 or value != shape[0]:
            yield f"{key} = {value!r}, and the data's shape is {list(shape)}"
    levels = config.get("block_out_channels", _LEVELS)
    if name == _PLAIN and isinstance(levels, list | tuple) and levels:
        # UNet2DConditionModel brings back the size that it halved; this one does not.
        halved = 2 ** (len(levels) - 1)
        if any(side % halved for side in shape[1:]):
            yield (
                f"block_out_channels = {list(levels)} has {len(levels)} levels, and the data's "
                f"shape is {list(shape)}; height and width must be multiples of {halved}"
            )
    if config.get("time_embedding_type", "positional") != "positional":
        yield f"time_embedding_type = {config['time_embedding_type']!r} is not supported"
    for key in _MORE_INPUTS:
        if config.get(key) is not None:
            yield f"{key} = {config[key]!r} is not supported; it needs inputs beside x"


def _conditions(config: Mapping[str, Any]) -> tuple[str, ...]:
    text = (_TEXT,) if config.get("_class_name", _PLAIN) == _CONDITIONED else ()
    embeds = ("class_embed_type", "num_class_embeds")
    return (*text, _CLASS) if any(config.get(key) is not None for key in embeds) else text


def _network(config: Mapping[str, Any]) -> Any:
    from diffusers import UNet2DConditionModel, UNet2DModel

    conditioned = config.get("_class_name", _PLAIN) == _CONDITIONED
    network = UNet2DConditionModel if conditioned else UNet2DModel
    try:
        return network(**with_defaults(config, network))
    except ERRORS as error:
        raise ComponentError(
            f"diffusers.unet-2d: diffusers cannot make a {network.__name__} so configured: "
            f"{type(error).__name__}: {error}"
        ) from error


def _load(network: Any, folder: Path) -> None:
    try:
        weights = {modern(name): tensor for name, tensor in read_weights(folder).items()}
        load_state(network, fit_tensors(weights, state_of(network), folder))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: its weights do not fit: {error}") from error
