"""`diffkit train-classifier`: from a run to a folder that the guidance `classifier` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli.ending import end_if_asked, what_is_there_kept
from diffkit.cli.options import UserPath, checkpoint_option, host_options, make_host

if TYPE_CHECKING:
    from diffkit.storage.run_directory import Which


@click.command("train-classifier")
@click.argument("run", type=UserPath())
@click.option(
    "--out",
    required=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="The folder to write, which must not hold a classifier.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--max-seconds", type=click.FloatRange(min=0, min_open=True), help="Stop training earlier."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=2e-3,
    show_default=True,
)
@click.option("--width", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--groups", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@checkpoint_option
@host_options
def command(
    run: Path,
    checkpoint: Which,
    out: Path,
    steps: int,
    max_seconds: float | None,
    batch_size: int,
    learning_rate: float,
    width: int,
    groups: int,
    seed: int,
    disabled: tuple[str, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Train a classifier of the noisy data of the run directory RUN, by their labels.

    It then leads samples:

    diffkit sample RUN --out x.png --label 3
    --guidance "{id: guidance.classifier, config: {folder: DIR}}"
    """
    from diffkit.api import load
    from diffkit.core.process import GaussianProcess
    from diffkit.helpers.files import check_writable_folder
    from diffkit.helpers.interruption import requests_noted
    from diffkit.helpers.progress import bar
    from diffkit_guidance.noisy_classifier import (
        CONFIG,
        Architecture,
        Network,
        Training,
        classes_of,
        trained,
        write_classifier,
    )

    if (out / CONFIG).exists():
        raise click.UsageError(f"--out {out} holds a classifier already; choose another folder")
    check_writable_folder(out)
    pipeline = load(run, host=make_host(disabled, plugin_files), checkpoint=checkpoint)
    process = pipeline.parts.process
    if not isinstance(process, GaussianProcess):
        raise click.UsageError(f"{run}: a classifier guides samples of Gaussian processes only")
    data = pipeline.encoded(pipeline.dataset())
    sizes = Architecture(
        channels=data.shape[0], classes=classes_of(data), width=width, groups=groups
    )
    how = Training(
        steps=steps,
        max_seconds=max_seconds,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    begun: list[Network] = []
    with requests_noted() as request, bar("training", 1.0) as shown:

        def told(done: float, terms: object) -> None:
            assert isinstance(terms, dict)
            shown.update(done, ", ".join(f"{name} {value:.4f}" for name, value in terms.items()))

        def stop() -> bool:
            return request.signal is not None

        with what_is_there_kept(out, lambda: write_classifier(out, begun[0], sizes)):
            device = pipeline.device
            trained(data, process, sizes, how, told, device, made=begun.append, stop=stop)
    write_classifier(out, begun[0], sizes)
    click.echo(f"The classifier of {sizes.classes} labels is in {out}")
    end_if_asked(request)
