"""`diffkit train-classifier`: from a run to a folder that the guidance `classifier` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli.fitting import end_if_stopped, fit_options, fitting
from diffkit.cli.options import UserPath, checkpoint_option, host_options, make_host

if TYPE_CHECKING:
    from diffkit.helpers.fit import FitSettings
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
@fit_options(steps=1000, batch_size=64, learning_rate=2e-3, weight_decay=0.01)
@click.option("--width", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--groups", type=click.IntRange(min=1), default=8, show_default=True)
@checkpoint_option
@host_options
def command(
    run: Path,
    checkpoint: Which,
    out: Path,
    settings: FitSettings,
    width: int,
    groups: int,
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
    from diffkit.helpers.fit import fit
    from diffkit_guidance.noisy_classifier import (
        CONFIG,
        Architecture,
        CrossEntropy,
        classes_of,
        initialised,
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
    network = initialised(sizes, settings.seed, pipeline.device)
    objective = CrossEntropy(network, process, sizes.classes)
    with fitting(out, lambda: write_classifier(out, network, sizes)) as fitted:
        fit(network, data, objective, settings, progress=fitted.progress, stop=fitted.stop)
    click.echo(f"The classifier of {sizes.classes} labels is in {out}")
    end_if_stopped(fitted)
