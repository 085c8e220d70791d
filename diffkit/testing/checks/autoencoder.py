"""The laws of autoencoders. That latents have deviation 1 is a law of them and their data."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor

from diffkit.core.autoencoder import Autoencoder
from diffkit.core.component import Config, arguments_of
from diffkit.errors import ComponentError
from diffkit.testing.check import Check, check
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require, within
from diffkit.testing.reference import Points

_ROUNDING = "only the order of sums may differ, float32's 6e-8 of their size a term"


@check
def latents_have_the_declared_shape(subject: ComponentUnderTest) -> None:
    """Latents are finite, and of the shape that the configuration declares."""
    autoencoder, samples = _made(subject), _samples(subject.fixtures.shape)
    _check_latents(autoencoder, samples[:1])
    _check_latents(autoencoder, samples[:3])


@check
def decoding_gives_the_shape_of_data(subject: ComponentUnderTest) -> None:
    """What is decoded is finite, and of the shape of what was encoded."""
    autoencoder, samples = _made(subject), _samples(subject.fixtures.shape)[:3]
    decoded = _decoded(autoencoder, _encoded(autoencoder, samples))
    require(
        decoded.shape == samples.shape and decoded.is_floating_point(),
        "decoded samples",
        measured=f"{decoded.dtype} {tuple(decoded.shape)}",
        expected=f"floating point, {tuple(samples.shape)}",
    )
    require(
        bool(decoded.isfinite().all()),
        "decoded samples",
        measured=f"{int((~decoded.isfinite()).sum())} numbers not finite",
        expected="all finite",
    )


@check
def shapes_are_encoded_or_refused(subject: ComponentUnderTest) -> None:
    """Data of another shape are encoded as declared, or refused with a ComponentError before."""
    autoencoder = _made(subject)
    first, *rest = subject.fixtures.shape
    for shape in (
        (first, *(side + 1 for side in rest)),
        (first, *(2 * side for side in rest)),
        (first + 1, *rest),
        (7,),
    ):
        try:
            _declared(autoencoder, shape)
        except ComponentError:
            continue
        _check_latents(autoencoder, _samples(shape)[:2])


@check
def latents_are_of_their_own_sample(subject: ComponentUnderTest) -> None:
    """Neither a latent nor a decoded sample depends on the batch it is in."""
    autoencoder, samples = _made(subject), _samples(subject.fixtures.shape)
    whole = _encoded(autoencoder, samples)
    decoded = _decoded(autoencoder, whole)
    tolerance = 1e-4 * float(whole.abs().max())
    alone = _encoded(autoencoder, samples[:1])
    within("the latent of a sample alone", alone, whole[:1], tolerance, _ROUNDING)
    flipped = _encoded(autoencoder, samples.flip(0))
    within("latents in another order", flipped, whole.flip(0), tolerance, _ROUNDING)
    tolerance = 1e-4 * float(decoded.abs().max())
    alone = _decoded(autoencoder, whole[:1])
    within("a latent decoded alone", alone, decoded[:1], tolerance, _ROUNDING)


@check
def encoding_is_not_random(subject: ComponentUnderTest) -> None:
    """Encoded or decoded twice, the same comes out, whatever the global generators are at."""
    autoencoder, samples = _made(subject), _samples(subject.fixtures.shape)[:4]
    first = _encoded(autoencoder, samples)
    decoded = _decoded(autoencoder, first)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(subject.seed_for("another seed"))
        why = "latents are computed once and kept: take the posterior's mean, draw nothing"
        within("latents, asked again", _encoded(autoencoder, samples), first, 0.0, why)
        why = "samples depend on the seed and on their number alone"
        within("samples, decoded again", _decoded(autoencoder, first), decoded, 0.0, why)


@check
def latents_tell_samples_apart(subject: ComponentUnderTest) -> None:
    """Different samples have different latents, and different latents are of different samples."""
    autoencoder, samples = _made(subject), _samples(subject.fixtures.shape)
    z = _encoded(autoencoder, samples)
    for what, found in (("latents", z), ("decoded samples", _decoded(autoencoder, z))):
        require(
            bool((found - found[:1]).any()),
            f"the {what} of {len(samples)} different samples",
            measured="all equal",
            expected="different",
            why="what is lost here no diffusion brings back",
        )


@check
def its_identity_is_data(subject: ComponentUnderTest) -> None:
    """What identifies it is JSON data, the same for two that were made alike."""
    first, again = _made(subject).identity(), _made(subject).identity()
    try:
        written = json.dumps(dict(first), sort_keys=True)
    except (TypeError, ValueError) as error:
        written = f"not JSON: {error}"
    require(
        written == json.dumps(dict(again), sort_keys=True, default=str),
        "what identifies it",
        measured=written,
        expected="JSON, equal for two made alike",
        why="latents in a cache are known by it, and would be computed at every start",
    )


CHECKS: tuple[Check, ...] = (
    latents_have_the_declared_shape,
    decoding_gives_the_shape_of_data,
    shapes_are_encoded_or_refused,
    latents_are_of_their_own_sample,
    encoding_is_not_random,
    latents_tell_samples_apart,
    its_identity_is_data,
)


def _made(subject: ComponentUnderTest) -> Autoencoder:
    autoencoder: Autoencoder = subject.make()
    return autoencoder.eval()


def _samples(shape: tuple[int, ...]) -> Tensor:
    return Points(shape=shape).batch(range(8)).x_0


def _encoded(autoencoder: Autoencoder, samples: Tensor) -> Tensor:
    with torch.no_grad():
        return autoencoder.encode(samples)


def _decoded(autoencoder: Autoencoder, z: Tensor) -> Tensor:
    with torch.no_grad():
        return autoencoder.decode(z)


def _declared(autoencoder: Autoencoder, shape: tuple[int, ...]) -> tuple[int, ...]:
    config = cast(Config, SimpleNamespace(**arguments_of(autoencoder)))
    return tuple(type(autoencoder).latent_shape(config, shape))


def _check_latents(autoencoder: Autoencoder, samples: Tensor) -> None:
    declared = _declared(autoencoder, tuple(samples.shape[1:]))
    z = _encoded(autoencoder, samples)
    require(
        tuple(z.shape) == (len(samples), *declared) and z.is_floating_point(),
        f"the latents of {len(samples)} samples of the shape {tuple(samples.shape[1:])}",
        measured=f"{z.dtype} {tuple(z.shape)}",
        expected=f"floating point, {(len(samples), *declared)}",
        why="the model is made for the shape that is declared",
    )
    require(
        bool(z.isfinite().all()),
        f"the latents of {len(samples)} samples",
        measured=f"{int((~z.isfinite()).sum())} numbers not finite",
        expected="all finite",
    )
