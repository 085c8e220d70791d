"""Texts as a condition, read byte by byte by a network that is trained with the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, final

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from einops import rearrange
from torch import Tensor, nn

from diffkit.core.component import Config, Facts
from diffkit.core.encoder import MASK, TOKENS, VECTOR, Encoder
from diffkit.core.model import Condition
from diffkit.core.text import as_strings
from diffkit.errors import ComponentError, DataError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

CAPTION = "caption"
_START = 256
"""The token before the bytes: an empty text is this token alone."""


@final
class Characters(Encoder):
    """A small transformer over the UTF-8 bytes of a text, trained together with the model.

    Pre-norm layers of self-attention and a feed-forward network (Vaswani et al., 2017; Xiong et
    al., 2020), with learned positions. It gives `tokens`, one a byte and one for the start, and
    `vector`, a linear map of the start's. It needs no download and knows no word beforehand; the
    text for no condition is the empty one.

    Args:
        width: of the tokens and of the vector.
        depth: how many layers.
        heads: of the attention; divides `width`.
        length: the longest text in bytes.

    Raises:
        ComponentError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        *,
        width: Annotated[int, Gt(0)] = 128,
        depth: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Gt(0)] = 4,
        length: Annotated[int, Gt(0)] = 64,
    ) -> None:
        super().__init__()
        if problem := _misfit(width, heads):
            raise ComponentError(f"characters: {problem}")
        self._length = length
        self.bytes = nn.Embedding(257, width)
        self.positions = nn.Parameter(0.1 * torch.randn(1 + length, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width)
        self.vector = nn.Linear(width, width)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """It takes `caption`, and gives tokens and a vector."""
        return {"takes": (CAPTION,), VECTOR: config.width, TOKENS: config.width}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Heads that divide the width."""
        if problem := _misfit(config.width, config.heads):
            yield problem

    def prepare(self, condition: Condition) -> Condition:
        """`caption` as numbers of bytes, int64 `[b, length]`, with -1 behind.

        Raises DataError where a text is longer than `length`.
        """
        text = condition[CAPTION]
        as_strings(text[:1])
        found = text != 0
        longest = int(found.sum(dim=1).max()) if len(text) else 0
        if longest > self._length:
            row = int(found.sum(dim=1).argmax())
            raise DataError(
                f"the caption {as_strings(text[[row]])[0][:60]!r} has {longest} bytes, and the "
                f"encoder reads {self._length}; shorten it, or give the encoder a larger `length`"
            )
        text = F.pad(text, (0, max(0, self._length - text.shape[1])))[:, : self._length]
        return {CAPTION: torch.where(text != 0, text.to(torch.int64), -1)}

    def null(self, count: int) -> Condition:
        """The empty text."""
        return {CAPTION: torch.full((count, self._length), -1)}

    def forward(self, prepared: Condition) -> Condition:
        """`tokens` `[b, 1 + length, width]`, their `mask`, and `vector` `[b, width]`."""
        text = F.pad(prepared[CAPTION], (1, 0), value=_START)
        mask = text >= 0
        hidden = self.bytes(text.clamp(min=0)) + self.positions
        for layer in self.layers:
            hidden = layer(hidden, mask)
        hidden = self.last_norm(hidden)
        return {TOKENS: hidden, MASK: mask, VECTOR: self.vector(hidden[:, 0])}


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 4 * width)
        self.outward = nn.Linear(4 * width, width)

    def forward(
        self, hidden: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        query, key, value = rearrange(
            self.query_key_value(self.norm(hidden)),
            "b n (three k d) -> three b k n d",
            three=3,
            k=self.heads,
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        hidden = hidden + self.out(rearrange(seen, "b k n d -> b n (k d)"))
        further: Tensor = self.outward(F.gelu(self.inward(self.forward_norm(hidden))))
        return hidden + further


def _misfit(width: int, heads: int) -> str | None:
    if width % heads == 0:
        return None
    return f"heads = {heads} does not divide width = {width}; change one of them"
