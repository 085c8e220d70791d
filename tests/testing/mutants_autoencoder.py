"""Autoencoders with the mistakes that they are known for."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from diffkit.core.autoencoder import Autoencoder
from diffkit.errors import ComponentError

from .mutant import Mutant


class Folded(Autoencoder):
    """Squares of four pixels as four channels, right; the mutants below change one thing."""

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def latent_shape(cls, config, shape):
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise ComponentError(f"it takes images of even sides, not {shape}")
        return (4 * shape[0], shape[1] // 2, shape[2] // 2)

    def encode(self, x):
        return F.pixel_unshuffle(x, 2)

    def decode(self, z):
        return F.pixel_shuffle(z, 2)


class DeclaredOtherwise(Folded):
    @classmethod
    def latent_shape(cls, config, shape):
        channels, height, width = super().latent_shape(config, shape)
        return (channels // 2, height, width)


class OddSidesAccepted(Folded):
    """The decoder gives back one row and column less."""

    @classmethod
    def latent_shape(cls, config, shape):
        if len(shape) != 3:
            raise ComponentError(f"it takes images, not {shape}")
        return (4 * shape[0], shape[1] // 2, shape[2] // 2)


class DrawnFromThePosterior(Folded):
    def encode(self, x):
        z = super().encode(x)
        return z + 0.1 * torch.randn_like(z)


class DropoutInTheDecoder(Folded):
    def decode(self, z):
        return F.dropout(super().decode(z), 0.1)


class ScaledByTheBatch(Folded):
    """The scale that is to be measured once is that of each batch."""

    def encode(self, x):
        z = super().encode(x)
        return z / z.std()


class Collapsed(Folded):
    """The posterior is the prior: the KL won."""

    def encode(self, x):
        return 0.0 * super().encode(x)


class LogarithmOfNegatives(Folded):
    def encode(self, x):
        return super().encode(x).log()


class OverflowingDecoder(Folded):
    def decode(self, z):
        return (1e4 * super().decode(z)).exp()


class Cropped(Folded):
    def decode(self, z):
        return super().decode(z)[..., :-1, :-1]


class KnownByItsAddress(Folded):
    def identity(self):
        return {"network": str(object.__repr__(self))}


RIGHT = (Folded,)

MUTANTS = (
    Mutant(DeclaredOtherwise, "latents of another shape than declared"),
    Mutant(OddSidesAccepted, "sides accepted that cannot be halved"),
    Mutant(DrawnFromThePosterior, "latents drawn from the posterior"),
    Mutant(DropoutInTheDecoder, "dropout when decoding"),
    Mutant(ScaledByTheBatch, "latents scaled by the deviation of the batch"),
    Mutant(Collapsed, "a posterior that is the prior"),
    Mutant(LogarithmOfNegatives, "latents that are not finite for negative values"),
    Mutant(OverflowingDecoder, "a decoder that overflows"),
    Mutant(Cropped, "a decoder that gives smaller images"),
    Mutant(KnownByItsAddress, "an identity that is an address in memory"),
)
