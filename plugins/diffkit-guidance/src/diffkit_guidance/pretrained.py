"""Texts as a condition, read by a network that was trained before: CLIP, T5, sentence models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, final

import torch
from annotated_types import Gt
from safetensors import SafetensorError
from torch import Tensor

from diffkit.arguments import expanded
from diffkit.core.component import Config
from diffkit.core.encoder import MASK, TOKENS, VECTOR, Encoder
from diffkit.core.model import Condition
from diffkit.core.text import as_strings
from diffkit.errors import ComponentError
from diffkit_guidance._loaded import problems_of, raise_for
from diffkit_guidance.characters import CAPTION

_IDS = "caption_ids"
_MASK = "caption_mask"
_UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError),
    *(SafetensorError, RecursionError),
)
"""What `transformers` raises of folders that hold something else."""


class _Fixed:
    """A network that nobody trains, saves or copies; it comes to where its inputs are."""

    def __init__(self, name: str) -> None:
        transformers = _transformers()
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                name, trust_remote_code=False
            )
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            self.network, info = _model_class(transformers, config).from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
            folder = Path(transformers.utils.cached_file(name, "config.json")).parent
        except _UNREADABLE as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ComponentError(
                f"the text encoder {name!r} cannot be read: {said}; name a folder, or a model of "
                "the hub, with a tokenizer and safetensors weights"
            ) from error
        self.network.eval()
        raise_for(list(problems_of(self.network, self.tokenizer, info, folder)), name)
        self.network.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fixed:
        return self

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.network.device != ids.device:
            self.network.to(ids.device)
        with torch.no_grad():
            hidden: Tensor = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


class _Pretrained(Encoder):
    """What both have in common: tokens of the text, and the hidden states of the last layer."""

    def __init__(self, name: str, length: int) -> None:
        super().__init__()
        self._length = length
        self._fixed = [_Fixed(str(expanded(name)))]

    def prepare(self, condition: Condition) -> Condition:
        """`caption` as the tokenizer's numbers, `[b, length]`, cut off and filled up to length."""
        return self._tokens(as_strings(condition[CAPTION]))

    def null(self, count: int) -> Condition:
        """The empty text."""
        return self._tokens([""] * count)

    def _tokens(self, texts: list[str]) -> Condition:
        found = self._fixed[0].tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        mask = found["attention_mask"].bool()
        # Some tokenizers give an empty text no token at all, and something has to count.
        mask[:, 0] |= ~mask.any(dim=1)
        return {_IDS: found["input_ids"], _MASK: mask}

    def _states(self, prepared: Condition) -> tuple[Tensor, Tensor]:
        mask = prepared[_MASK]
        return self._fixed[0](prepared[_IDS], mask.to(torch.int64)), mask


@final
class PretrainedText(_Pretrained):
    """The last hidden states of a text encoder of `transformers`: CLIP, T5, BERT and others.

    As in latent diffusion's successors and Imagen (Saharia et al., 2022, section 2.1): the encoder
    stays as it is, and gives `tokens` `[b, length, width]`. Its weights are not among the run's.

    Args:
        name: a folder, or a model of the hub, with a tokenizer and safetensors weights.
        length: tokens a text; longer texts are cut off.

    Raises:
        ComponentError: `transformers` is not installed, or nothing can be read there.
    """

    def __init__(self, *, name: str, length: Annotated[int, Gt(0)] = 77) -> None:
        super().__init__(name, length)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """It takes `caption` and gives tokens."""
        return {"takes": (CAPTION,), TOKENS: _width(config.name)}

    def forward(self, prepared: Condition) -> Condition:
        """`tokens` and their `mask`."""
        hidden, mask = self._states(prepared)
        return {TOKENS: hidden, MASK: mask}


@final
class Sentence(_Pretrained):
    """A sentence embedding: the mean of a text encoder's last hidden states, of length 1.

    Reimers & Gurevych (2019), section 3. It gives `vector` `[b, width]`, and stays as it is.

    Args:
        name: a folder, or a model of the hub, with a tokenizer and safetensors weights.
        length: tokens a text; longer texts are cut off.

    Raises:
        ComponentError: `transformers` is not installed, or nothing can be read there.
    """

    def __init__(self, *, name: str, length: Annotated[int, Gt(0)] = 128) -> None:
        super().__init__(name, length)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """It takes `caption` and gives a vector."""
        return {"takes": (CAPTION,), VECTOR: _width(config.name)}

    def forward(self, prepared: Condition) -> Condition:
        """`vector`."""
        hidden, mask = self._states(prepared)
        counts = mask[..., None].to(hidden.dtype)
        mean = (hidden * counts).sum(dim=1) / counts.sum(dim=1)
        return {VECTOR: torch.nn.functional.normalize(mean, dim=1)}


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ComponentError(
            "text encoders that were trained before need transformers; "
            "pip install 'diffkit-guidance[text]'"
        ) from error
    return transformers


def _model_class(transformers: Any, config: Any) -> Any:
    """The half that reads, of models that also write, or see."""
    by_type = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
    return getattr(transformers, by_type.get(config.model_type, "AutoModel"))


def _width(name: str) -> int:
    """Of the hidden states, from the configuration alone."""
    try:
        config = _transformers().AutoConfig.from_pretrained(
            str(expanded(name)), trust_remote_code=False
        )
        config = getattr(config, "text_config", None) or config
        return int(getattr(config, "hidden_size", None) or config.d_model)
    except _UNREADABLE as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ComponentError(
            f"the text encoder {name!r} has no configuration that can be read: {said}"
        ) from error
