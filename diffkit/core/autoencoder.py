"""Autoencoder: the smaller space that a network works in, and the way there and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from diffkit.core.component import Component, Config, arguments_of

if TYPE_CHECKING:
    from jaxtyping import Float


class Autoencoder(nn.Module, Component):
    """Takes samples to latents, in which diffusion is cheaper, and latents back to samples.

    Rombach et al. (2022), section 3.1. It was trained before: a pipeline takes it as it is, and
    neither trains nor saves it, so that its configuration says where its weights are. Latents are
    scaled to mean 0 and deviation 1 over the data, as schedules expect (section 4.3.2 there).
    """

    kind: ClassVar[str] = "autoencoder"

    @classmethod
    @abstractmethod
    def latent_shape(cls, config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the latent of a sample of this shape, from the configuration alone.

        Raises ComponentError where samples of this shape cannot be encoded.
        """

    @abstractmethod
    def encode(self, x: Float[Tensor, "b *data"]) -> Float[Tensor, "b *latent"]:
        """The latent of each sample, scaled; the same whenever it is asked for."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "b *latent"]) -> Float[Tensor, "b *data"]:
        """The sample behind each latent."""

    def identity(self) -> Mapping[str, Any]:
        """JSON data that, with the weights, tell it from others: latents in a cache are of one.

        The arguments, unless overridden; where those name a folder, what is read from it is better.
        """
        return arguments_of(self)
