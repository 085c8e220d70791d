"""diffusers' U-Nets as diffkit models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt
from diffkit.core.component import Config, Facts
from diffkit.core.data import DataShape
from diffkit.core.model import Condition, EpsilonModel
from diffkit.core.parameterization import TIME_SCALE
from diffkit.errors import CheckpointError, ComponentError
from torch import Tensor

from diffkit_diffusers.folder import read_json, read_weights

if TYPE_CHECKING:
    from jaxtyping import Float

_PLAIN, _CONDITIONED = "UNet2DModel", "UNet2DConditionModel"
_TEXT = "encoder_hidden_states"
_CLASS = "class_labels"
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
        if problems := list(_misfits(config, shape)):
            raise ComponentError("diffusers.unet-2d: " + "; ".join(problems))
        self._steps = steps
        self._conditions = _conditions(config)
        self.network = _network(config)
        if folder is not None:
            _load(self.network, _model_folder(folder))

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
        yield from _misfits(found, facts["data.shape"])

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
    path = Path(folder)
    return path / "unet" if (path / "model_index.json").exists() else path


def _misfits(config: Mapping[str, Any], shape: tuple[int, ...]) -> Iterable[str]:
    name = config.get("_class_name", _PLAIN)
    if name not in (_PLAIN, _CONDITIONED):
        yield f"_class_name = {name!r} is not supported; it is {_PLAIN} or {_CONDITIONED}"
        return
    channels = 3 if name == _PLAIN else 4
    for key in ("in_channels", "out_channels"):
        value = config.get(key, channels)
        if len(shape) != 3 or value != shape[0]:
            yield f"{key} = {value!r}, and the data's shape is {list(shape)}"
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
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        return network(**given)
    except (TypeError, ValueError, KeyError, RuntimeError, IndexError) as error:
        raise ComponentError(
            f"diffusers.unet-2d: diffusers cannot make a {network.__name__} so configured: {error}"
        ) from error


def _load(network: Any, folder: Path) -> None:
    try:
        network.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder}: its weights do not fit its config.json: {str(error).splitlines()[0]}"
        ) from error
