"""EpsilonModel: the denoising network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from diffkit.core.component import Component
from diffkit.core.prediction import NO_EXTRAS

if TYPE_CHECKING:
    from jaxtyping import Float

Condition = Mapping[str, Tensor]
"""What a sample is conditioned on: named tensors, batch first."""


class Output(NamedTuple):
    """What a network may return in place of its output: that, and named tensors beside it."""

    output: Tensor
    extras: Mapping[str, Tensor] = NO_EXTRAS
    """A row a sample each; the prediction's `extras`."""


class Network(Protocol):
    """What is called like a model: one itself, or one that runs it in another way."""

    def __call__(
        self, x: Float[Tensor, "b *data"], c_noise: Float[Tensor, " b"], condition: Condition, /
    ) -> Float[Tensor, "b *output"] | Output: ...


class EpsilonModel(nn.Module, Component):
    """A network that looks at a noisy sample and its noise level.

    What its output means (epsilon, x_0, velocity ...) is the parameterization's to say. Facts, all
    of them optional:

    - `conditions`: the names of the conditions that it takes;
    - `null`: by name, the number that fills such a condition, given to it as the dataset gave it,
      where it stands for none; without it that one can be neither dropped nor left out;
    - `given`: the names of tensors that whoever asks may give with a question, such as an earlier
      prediction (`denoiser(x_t, t, given={"x_0": x})`); in `condition` where they are given;
    - `times`: the names of second times (`denoiser(x_t, t, times={"r": r})`), in `condition` as
      noise levels `[b]` made of the time as `c_noise` is of t; t itself where none is given;
    - `extras`: the names of what it returns beside its output, in an `Output`;
    - `steps`: where it can be asked at `k / steps` only;
    - `learned_variance`: where it gives twice as many channels as it takes, of which the second
      half places the reverse variance: -1 at the posterior's, 1 at the largest, in between in log
      space (Nichol & Dhariwal, 2021, eq. 15).
    """

    kind: ClassVar[str] = "model"

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "b *data"], c_noise: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b *output"] | Output:
        """The output for `x`, scaled by the parameterization, at noise level `c_noise`.

        Who asks with a time for each token tells `c_noise` `[b, n]`.
        """
