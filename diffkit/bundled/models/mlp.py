"""A residual network for data that is not images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, MultipleOf
from torch import Tensor, nn

from diffkit.bundled.models.embedding import NoiseEmbedding
from diffkit.core.component import Config, Facts
from diffkit.core.data import DataShape, tokens_problem
from diffkit.core.example import Example
from diffkit.core.model import Condition, EpsilonModel

if TYPE_CHECKING:
    from jaxtyping import Float


class MLP(EpsilonModel):
    """Residual layers over the flattened sample, each told the noise level.

    `h <- h + W_2 silu(W_1 norm(h) + W_e embedding)`; the output starts at zero.

    Args:
        shape: of one sample; the pipeline supplies its data's.
        width: of the hidden state, even.
        depth: how many residual layers.
        learned_variance: double the output channels; the second half places the reverse variance.
    """

    def __init__(
        self,
        *,
        shape: DataShape,
        width: Annotated[int, Gt(0), MultipleOf(2)] = 256,
        depth: Annotated[int, Ge(1)] = 4,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.embed = NoiseEmbedding(width)
        self.first = nn.Linear(size, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, (1 + learned_variance) * size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """`learned_variance`."""
        return {"learned_variance": config.learned_variance}

    @classmethod
    def requires(cls, config: Config, facts: Facts) -> Iterable[str]:
        """Numbers."""
        yield from tokens_problem(facts)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Small."""
        return [
            Example({"width": 32, "depth": 2}),
            Example({"width": 32, "depth": 2, "learned_variance": True}),
        ]

    def forward(
        self, x: Float[Tensor, "b *data"], c_noise: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b *output"]:
        """The output at noise level `c_noise`; it takes no conditions."""
        embedding = self.embed(c_noise)
        hidden = self.first(x.flatten(1))
        for layer in self.layers:
            hidden = layer(hidden, embedding)
        output: Tensor = self.last(self.last_norm(hidden))
        return output.reshape(len(x), -1, *x.shape[2:])


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, width)
        self.embed = nn.Linear(4 * width, width)
        self.outward = nn.Linear(width, width)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        inner = nn.functional.silu(self.inward(self.norm(hidden)) + self.embed(embedding))
        out: Tensor = hidden + self.outward(inner)
        return out
