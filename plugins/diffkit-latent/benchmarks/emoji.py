r"""Text-to-image diffusion on emoji: in latents, and in pixels on the same budget of time.

An autoencoder, and then a network in its latents, are trained for the seconds that are given; a
network of the same kind in pixels for as many as both together. Prints a table, and draws samples
of a few prompts beside the pictures that have these names.

    python benchmarks/emoji.py --spec ../../docs/examples/emoji-latent.yaml \
        --image ../../docs/images/emoji-latent.png
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import diffkit
from diffkit import Pipeline
from diffkit.api import make
from diffkit.config.files import read_data
from diffkit.core.noise import mix
from diffkit.helpers import pictures
from diffkit.helpers.fit import FitSettings, fit
from diffkit_latent.emoji import Emoji
from diffkit_latent.network import Architecture
from diffkit_latent.training import Reconstruction, Weights, initialised, write_autoencoder

PROMPTS = (
    "smiling face with open mouth",
    "red apple",
    "cat face",
    "full moon symbol",
    "house building",
    "blue heart",
)
COLUMNS = 4
SIZE = 64
METRIC = {
    "id": "frechet",
    "config": {
        "max_samples": 128,
        "features": {"id": "classifier", "config": {"steps": 150, "batch_size": 64}},
    },
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    updates: int
    training: float
    sampling: float
    values: dict[str, float]


def spec_of(example: Path, autoencoder: Path | None, seconds: float, seed: int) -> dict[str, Any]:
    """The example's pipeline, with this autoencoder or in pixels without one."""
    spec = dict(read_data(example))
    spec["training"] = {**spec["training"], "steps": 10**6, "max_seconds": seconds}
    spec["seed"] = seed
    if autoencoder is not None:
        spec["autoencoder"] = {"id": "latent.kl", "config": {"folder": str(autoencoder)}}
        return spec
    del spec["autoencoder"]
    model = {**spec["model"]["config"], "width": 32, "multipliers": [1, 2, 2, 2]}
    return {**spec, "model": {**spec["model"], "config": model}}


def measured(name: str, pipeline: Pipeline, run: Path) -> Row:
    """Train, sample without guidance for captions of the data, and compare with the data."""
    pipeline.train(out=run)
    progress = json.loads(
        next((run / "checkpoints").iterdir()).joinpath("trainer.json").read_text()
    )
    images = progress["step"] * pipeline.spec.training.batch_size
    dataset = pipeline.dataset()
    count = METRIC["config"]["max_samples"]  # type: ignore[index]
    host = torch.Generator().manual_seed(mix(0, "captions"))
    rows = torch.randperm(len(dataset), generator=host)[:count].tolist()
    captions = dataset.batch(rows).condition["caption"]
    unguided = {"id": "guidance.classifier-free", "config": {"scale": 1.0}}
    began = time.perf_counter()
    samples = pipeline.sample(count, condition={"caption": captions}, guidance=unguided)
    sampling = (time.perf_counter() - began) / count
    values = pipeline.evaluate(samples, metric=METRIC)
    return Row(name, progress["step"], progress["seconds"] / images, sampling, values)


def reconstructed(pipeline: Pipeline) -> tuple[float, dict[str, float]]:
    """Deviation of what the autoencoder makes of the data from them, and their distance."""
    dataset, space = pipeline.dataset(), pipeline.parts.latents
    assert space is not None
    count = METRIC["config"]["max_samples"]  # type: ignore[index]
    host = torch.Generator().manual_seed(mix(0, "captions"))
    rows = torch.randperm(len(dataset), generator=host)[:count].tolist()
    x_0 = dataset.batch(rows).x_0
    with torch.no_grad():
        decoded = space.decode(space.encode(x_0))
    error = float((decoded - x_0).square().mean().sqrt())
    return error, pipeline.evaluate(decoded, metric=METRIC)


def table(rows: list[Row], error: float, best: dict[str, float], budget: float, steps: int) -> str:
    """The results, as Markdown."""
    lines = [
        f"Trained for {budget:.0f} s each, {SIZE}x{SIZE} pixels, {steps} steps of "
        f"`samplers.dpmpp-2m`; threads: {torch.get_num_threads()}.",
        "",
        "| | Updates of 16 | s / training image | s / sample | Frechet | over real data's |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.name} | {row.updates} | {row.training:.4f} | {row.sampling:.3f} | "
        f"{row.values['frechet']:.3g} | {row.values['frechet_ratio']:.3g} |"
        for row in rows
    ]
    lines.append(f"| reconstructions | | | | {best['frechet']:.3g} | {best['frechet_ratio']:.3g} |")
    lines += ["", f"Root mean square error of the reconstructions: {error:.3f} in [-1, 1]."]
    return "\n".join(lines)


def drawn(pipelines: dict[str, Pipeline], dataset: Emoji) -> Image.Image:
    """Each prompt with the picture that has this name, and samples of each pipeline."""
    prompts = [prompt for prompt in PROMPTS if prompt in dataset.captions]
    real = dataset.batch([dataset.captions.index(prompt) for prompt in prompts]).x_0
    repeated = [prompt for prompt in prompts for _ in range(COLUMNS)]
    sheets: list[Tensor] = [real[:, None]]
    for pipeline in pipelines.values():
        found = pipeline.sample(len(repeated), condition={"caption": repeated}, seed=1)
        sheets.append(found.unflatten(0, (len(prompts), COLUMNS)))
    head, gap, text = 16, 12, 190
    width = text + sum(sheet.shape[1] * SIZE + gap for sheet in sheets)
    picture = Image.new("RGB", (width, head + len(prompts) * (SIZE + 4)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default()
    left = text
    for name, sheet in zip(("real", *pipelines), sheets, strict=True):
        draw.text((left, 2), name, fill="black", font=font)
        for row, images in enumerate(sheet):
            for column, pixels in enumerate(pictures.to_bytes(images, (-1.0, 1.0))):
                at = (left + column * SIZE, head + row * (SIZE + 4))
                picture.paste(Image.fromarray(pixels), at)
        left += sheet.shape[1] * SIZE + gap
    for row, prompt in enumerate(prompts):
        at = (4, head + row * (SIZE + 4) + SIZE // 2 - 6)
        draw.text(at, prompt, fill="black", font=font)
    return picture


def main() -> None:
    """Train, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--spec", type=Path, required=True, help="docs/examples/emoji-latent.yaml")
    parser.add_argument("--autoencoder-seconds", type=float, default=500.0)
    parser.add_argument("--diffusion-seconds", type=float, default=1300.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dataset = make("dataset", {"id": "latent.emoji", "config": {"size": SIZE}})
    assert isinstance(dataset, Emoji)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sizes = Architecture(multipliers=(1, 2, 4, 8), latent_channels=8)
        settings = FitSettings(
            steps=10**6, max_seconds=given.autoencoder_seconds, batch_size=16, seed=given.seed
        )
        began = time.perf_counter()
        network = initialised(sizes, given.seed)
        fit(network, dataset, Reconstruction(network, dataset, settings, Weights()), settings)
        write_autoencoder(work / "autoencoder", network, sizes, dataset)
        print(f"autoencoder: {time.perf_counter() - began:.0f} s", flush=True)
        budget = given.autoencoder_seconds + given.diffusion_seconds
        latent = diffkit.build(
            spec_of(given.spec, work / "autoencoder", given.diffusion_seconds, given.seed),
            device="cpu",
        )
        rows = [measured("latent", latent, work / "latent")]
        error, best = reconstructed(latent)
        print(rows[0], error, best, flush=True)
        pixels = diffkit.build(spec_of(given.spec, None, budget, given.seed), device="cpu")
        rows.append(measured("pixels", pixels, work / "pixels"))
        print(table(rows, error, best, budget, latent.spec.steps), flush=True)
        drawn({"latent": latent, "pixels": pixels}, dataset).save(given.image)


if __name__ == "__main__":
    main()
