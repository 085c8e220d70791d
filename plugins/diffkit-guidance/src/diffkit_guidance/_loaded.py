"""Whether a text encoder is what its folder holds: no random weights, no other tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from diffkit.errors import ComponentError

_DIGITS = re.compile(r"\d+")
_NAMED = 3


def problems_of(
    network: Any, tokenizer: Any, info: Mapping[str, Any], folder: Path
) -> Iterator[str]:
    """What of the weights or the tokenizer is not the folder's, if anything.

    `info` is what `from_pretrained` says of its loading. Weights that the folder lacks do not
    matter where no hidden state depends on them, as on the pooler of a masked language model; nor
    do weights of other parts, such as heads, that are there besides.
    """
    if missing := sorted(_that_matter(network, info["missing_keys"])):
        yield f"the file of weights lacks {_listed(missing)}, which would be random"
    if beyond := sorted(_beyond(network, info["unexpected_keys"], folder)):
        yield f"the network is smaller than the file of weights, which also has {_listed(beyond)}"
    if other := sorted(str(key) for key in info.get("mismatched_keys", ())):
        yield f"weights have another shape than the configuration says: {_listed(other)}"
    broken = [n for n, value in network.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        yield f"the weights are not finite in {_listed(broken)}"
    yield from _of_tokenizer(network, tokenizer)


def raise_for(problems: list[str], name: str) -> None:
    """Raise ComponentError where there are problems."""
    if problems:
        raise ComponentError(
            f"the text encoder {name!r} cannot be used: {'; '.join(problems)}. Take a folder that "
            "holds the model whole, with its tokenizer, as save_pretrained of both writes them"
        )


def _that_matter(network: Any, missing: Any) -> list[str]:
    """Those of the missing weights that the last hidden states depend on."""
    named = {name: value for name, value in network.named_parameters() if name in set(missing)}
    others = [name for name in missing if name not in named]
    if not named:
        return others
    with torch.enable_grad():
        for value in named.values():
            value.requires_grad_(True)
        ids = torch.zeros(1, 2, dtype=torch.int64)
        mask = torch.ones_like(ids)
        hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = list(named.values())
        total = hidden.sum()
        if not total.requires_grad:
            return others
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
    used = [name for name, found in zip(named, gradients, strict=True) if found is not None]
    return [*others, *used]


def _beyond(network: Any, unexpected: Any, folder: Path) -> list[str]:
    """Weights in the file that are like those in use but for their numbers: more layers.

    Those in use have the names of the file, or of the network, as transformers translates some.
    """
    left = set(unexpected)
    in_use = [*network.state_dict(), *(name for name in _names_in(folder) if name not in left)]
    used = {_DIGITS.sub("#", name) for name in in_use}
    return [name for name in left if _DIGITS.sub("#", name) in used]


def _names_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                yield from file.keys()
        except (OSError, SafetensorError) as error:
            raise ComponentError(f"{path} is no whole safetensors file: {error}") from error


def _of_tokenizer(network: Any, tokenizer: Any) -> Iterator[str]:
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        yield "it has no tokenizer: all texts would be the same tokens"
        return
    known = int(network.get_input_embeddings().weight.shape[0])
    if (largest := max(vocabulary.values())) >= known:
        yield (
            f"the tokenizer is another model's: it has the token {largest}, and the network knows "
            f"{known} tokens"
        )


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
