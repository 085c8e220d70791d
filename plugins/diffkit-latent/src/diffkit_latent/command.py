"""`diffkit train-autoencoder`: from a dataset to a folder that `latent.kl` reads."""

from __future__ import annotations

from pathlib import Path

import click

from diffkit.cli.ending import end_if_asked, what_is_there_kept
from diffkit.cli.options import UserPath, choice_of, host_options, make_host


@click.command("train-autoencoder")
@click.argument("dataset", metavar="DATASET")
@click.option(
    "--out",
    required=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="The folder to write, which must not hold an autoencoder.",
)
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option(
    "--max-seconds", type=click.FloatRange(min=0, min_open=True), help="Stop training earlier."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
)
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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@host_options
def command(
    dataset: str,
    out: Path,
    steps: int,
    max_seconds: float | None,
    batch_size: int,
    learning_rate: float,
    kl_weight: float,
    perceptual_weight: float,
    adversarial_weight: float,
    width: int,
    multipliers: str,
    blocks: int,
    latent_channels: int,
    groups: int,
    seed: int,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train a KL autoencoder on DATASET, a name or {id, config} as YAML.

    A spec then refers to it: autoencoder: {id: latent.kl, config: {folder: DIR}}
    """
    from diffkit.api import make
    from diffkit.core.dataset import Dataset
    from diffkit.helpers.files import check_writable_folder
    from diffkit.helpers.interruption import requests_noted
    from diffkit.helpers.progress import bar
    from diffkit_latent.kl import CONFIG
    from diffkit_latent.network import Architecture, Network
    from diffkit_latent.training import Training, trained, write_autoencoder

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
    training = Training(
        steps=steps,
        max_seconds=max_seconds,
        batch_size=batch_size,
        learning_rate=learning_rate,
        kl_weight=kl_weight,
        perceptual_weight=perceptual_weight,
        adversarial_weight=adversarial_weight,
        seed=seed,
    )
    check_writable_folder(out)
    last: dict[str, float] = {}
    begun: list[Network] = []
    with requests_noted() as request, bar("training", 1.0) as shown:

        def told(done: float, terms: object) -> None:
            assert isinstance(terms, dict)
            last.update(terms)
            text = ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
            shown.update(done, text)

        def stop() -> bool:
            return request.signal is not None

        with what_is_there_kept(out, lambda: write_autoencoder(out, begun[0], sizes, data)):
            trained(data, sizes, training, told, made=begun.append, stop=stop)
    write_autoencoder(out, begun[0], sizes, data)
    if last:
        click.echo(f"squared error {last['squared_error']:.5f}, KL {last['kl']:.4f} nats a value")
    click.echo(f"The autoencoder is in {out}")
    click.echo(f"Refer to it:  autoencoder: {{id: latent.kl, config: {{folder: {out}}}}}")
    end_if_asked(request)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise click.UsageError(
            f"--multipliers {text}: whole numbers with commas between them, such as 1,2,4"
        ) from error
