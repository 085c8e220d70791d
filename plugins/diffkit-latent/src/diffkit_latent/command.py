"""`diffkit train-autoencoder`: from a dataset to a folder that `latent.kl` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli.fitting import end_if_stopped, fit_options, fitting
from diffkit.cli.options import UserPath, choice_of, host_options, make_host

if TYPE_CHECKING:
    from diffkit.helpers.fit import FitSettings


@click.command("train-autoencoder")
@click.argument("dataset", metavar="DATASET")
@click.option(
    "--out",
    required=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="The folder to write, which must not hold an autoencoder.",
)
@fit_options(steps=2000, batch_size=16, learning_rate=1e-3)
@click.option(
    "--kl-weight",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Of the KL, against the squared error.",
)
@click.option(
    "--perceptual-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Of a distance between features, which tell the data's labels apart; 0 trains none.",
)
@click.option(
    "--adversarial-weight",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Of what a critic of patches says, in the second half of training; 0 trains none.",
)
@click.option("--width", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--multipliers",
    default="1,2,4",
    show_default=True,
    help="The channels of each level over the width; each level but the first halves the sides.",
)
@click.option("--blocks", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--latent-channels", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--groups", type=click.IntRange(min=1), default=8, show_default=True)
@host_options
def command(
    dataset: str,
    out: Path,
    settings: FitSettings,
    kl_weight: float,
    perceptual_weight: float,
    adversarial_weight: float,
    width: int,
    multipliers: str,
    blocks: int,
    latent_channels: int,
    groups: int,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train a KL autoencoder on DATASET, a name or {id, config} as YAML.

    A spec then refers to it: autoencoder: {id: latent.kl, config: {folder: DIR}}
    """
    from diffkit.api import make
    from diffkit.core.dataset import Dataset
    from diffkit.helpers.files import check_writable_folder
    from diffkit.helpers.fit import fit
    from diffkit_latent.kl import CONFIG
    from diffkit_latent.network import Architecture
    from diffkit_latent.training import Reconstruction, Weights, initialised, write_autoencoder

    if (out / CONFIG).exists():
        raise click.UsageError(f"--out {out} holds an autoencoder already; choose another folder")
    data = make("dataset", choice_of("dataset", dataset), host=make_host(disabled, plugin_files))
    assert isinstance(data, Dataset)
    sizes = Architecture(
        channels=data.shape[0],
        width=width,
        multipliers=_numbers(multipliers),
        blocks=blocks,
        latent_channels=latent_channels,
        groups=groups,
    )
    check_writable_folder(out)
    network = initialised(sizes, settings.seed)
    weights = Weights(kl_weight, perceptual_weight, adversarial_weight)
    objective = Reconstruction(network, data, settings, weights)
    with fitting(out, lambda: write_autoencoder(out, network, sizes, data)) as fitted:
        fit(network, data, objective, settings, progress=fitted.progress, stop=fitted.stop)
    if last := fitted.terms:
        click.echo(f"squared error {last['squared_error']:.5f}, KL {last['kl']:.4f} nats a value")
    click.echo(f"The autoencoder is in {out}")
    click.echo(f"Refer to it:  autoencoder: {{id: latent.kl, config: {{folder: {out}}}}}")
    end_if_stopped(fitted)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise click.UsageError(
            f"--multipliers {text}: whole numbers with commas between them, such as 1,2,4"
        ) from error
