"""The pictures and the numbers of the README: a run of a minute, asked about digits it never saw.

$ python benchmarks/pictures.py --out ../../docs/images
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.svm import SVC
from torch import Tensor

import diffkit
import diffkit_inverse as inverse
from diffkit.bundled.datasets.digits import Digits
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.helpers import pictures
from diffkit_inverse.operators import blurred, pooled
from diffkit_inverse.repaint import RePaint

HELD_OUT, SHOWN, STEPS, FACTOR, SIGMA = 297, 10, 100, 2, 1.0
RANGE = (-1.0, 1.0)


class Some(Dataset):
    """A part of the digits."""

    def __init__(self, *, rows: Sequence[int]) -> None:
        self._all, self._rows = Digits(), list(rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._all.shape

    @property
    def range(self) -> tuple[float, float] | None:
        return self._all.range

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int]) -> Batch:
        return self._all.batch([self._rows[i] for i in indices])


class Judge:
    """What is said of answers: their error, and how many are read as the digit that they were."""

    def __init__(self, known: Batch, truth: Batch) -> None:
        self._svm = SVC(C=10.0, gamma="scale").fit(_flat(known.x_0), known.condition["label"])
        self._truth = truth

    def row(self, name: str, answers: Tensor, where: Tensor | None = None) -> str:
        """A row of the table; `where` is 1 at the pixels that count."""
        weight = torch.ones_like(answers) if where is None else where.expand(answers.shape)
        error = (weight * (answers - self._truth.x_0).square()).sum() / weight.sum()
        psnr = 10 * float(torch.log10(4.0 / error))
        read = self._svm.predict(_flat(answers)) == self._truth.condition["label"].numpy()
        return f"| {name} | {psnr:.2f} | {100 * float(np.mean(read)):.1f} % |"


def _flat(images: Tensor) -> np.ndarray:
    return images.flatten(1).numpy()


def trained(data: Dataset, seconds: float) -> diffkit.Pipeline:
    """The pipeline of `diffkit demo`, trained on these digits."""
    spec = {
        "schedule": "cosine",
        "process": "variance-preserving",
        "parameterization": "velocity",
        "model": {
            "id": "unet",
            "config": {
                "width": 32,
                "multipliers": [1, 2],
                "blocks": 1,
                "attention": [4],
                "groups": 8,
                "dropout": 0.0,
            },
        },
        "loss": "simple",
        "sampler": "ddpm",
        "dataset": "digits",
    }
    return diffkit.build(spec).train(
        data,
        steps=100_000,
        max_seconds=seconds,
        batch_size=64,
        learning_rate=2e-3,
        ema_decay=0.995,
        progress=False,
    )


def painted(pipeline: diffkit.Pipeline, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The lower half, by each method and a baseline."""
    known = truth * (1 - mask)
    mean = (known.sum((1, 2, 3)) / (1 - mask).sum()).reshape(-1, 1, 1, 1)
    short = RePaint(jump_length=10, resamplings=5)
    asked: dict[str, Any] = {
        "replacement": "replacement",
        "RePaint, 10 and 5": short,
        "DPS": "dps",
    }
    answers = {
        name: inverse.inpaint(pipeline, truth, mask, method=method, steps=STEPS, batch_size=297)
        for name, method in asked.items()
    }
    return {"mean of what is known": known + mean * mask, **answers}


def enlarged(pipeline: diffkit.Pipeline, truth: Tensor) -> dict[str, Tensor]:
    """From half the size: by DPS and by two interpolations."""
    small = pooled("pictures", truth, FACTOR)
    size = truth.shape[2:]
    return {
        "nearest": F.interpolate(small, size, mode="nearest"),
        "bicubic": F.interpolate(small, size, mode="bicubic", align_corners=False).clamp(*RANGE),
        "DPS": inverse.upscale(pipeline, small, factor=FACTOR, steps=STEPS, batch_size=297),
    }


def sharpened(pipeline: diffkit.Pipeline, truth: Tensor) -> dict[str, Tensor]:
    """From a blur: as it is, and by DPS."""
    soft = blurred("pictures", truth, SIGMA)
    answer = inverse.deblur(pipeline, soft, sigma=SIGMA, steps=STEPS, batch_size=297)
    return {"as it is": soft, "DPS": answer}


def edited(pipeline: diffkit.Pipeline, truth: Tensor) -> dict[str, Tensor]:
    """SDEdit at some strengths."""
    return {
        f"strength {strength:g}": inverse.edit(
            pipeline, truth, strength=strength, steps=STEPS, batch_size=297
        )
        for strength in (0.2, 0.4, 0.6, 0.8)
    }


def section(title: str, rows: Sequence[str]) -> None:
    """One table."""
    print(f"| {title} | PSNR, dB | Read as the digit |\n| --- | ---: | ---: |")
    print("\n".join(rows), end="\n\n")


def strip(out: Path, name: str, rows: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
    """A picture: a row for each tensor of images."""
    tensors = list(rows.values()) if isinstance(rows, Mapping) else list(rows)
    shown = [pictures.to_bytes(images.clamp(*RANGE), RANGE) for images in tensors]
    sheet = pictures.grid(np.concatenate(shown), len(shown[0]), 5)
    pictures.write_png(out / f"inverse-{name}.png", sheet)


def ask(pipeline: diffkit.Pipeline, judge: Judge, x: Tensor, out: Path) -> None:
    """All the questions, each with its table and its picture."""
    few = slice(0, SHOWN)
    mask = torch.zeros(1, 1, *x.shape[2:])
    mask[..., x.shape[2] // 2 :, :] = 1.0
    answers = painted(pipeline, x, mask)
    rows = [judge.row(name, found, mask) for name, found in answers.items()]
    section("Lower half painted", [*rows, judge.row("the originals", x, mask)])
    strip(out, "inpaint", [a[few] for a in (x, x * (1 - mask) - mask, *answers.values())])

    answers = enlarged(pipeline, x)
    section("Enlarged twice", [judge.row(name, found) for name, found in answers.items()])
    strip(out, "upscale", [a[few] for a in (x, *answers.values())])

    answers = sharpened(pipeline, x)
    section("Deblurred, 1 pixel", [judge.row(name, found) for name, found in answers.items()])
    strip(out, "deblur", [a[few] for a in (x, *answers.values())])

    answers = edited(pipeline, x)
    section("Edited", [judge.row(name, found) for name, found in answers.items()])
    strip(out, "edit", [a[few] for a in (x, *answers.values())])

    frames = [
        inverse.interpolate(pipeline, x[2 * i, None], x[2 * i + 1, None], steps=STEPS, frames=10)
        for i in range(4)
    ]
    strip(out, "interpolate", frames)
    rows = []
    for steps in (25, 50, 100, 200):
        denoiser = (pipeline.average or pipeline.system).denoiser()
        times = pipeline.parts.spacing.times(steps, pipeline.parts.schedule)
        back = inverse.follow(denoiser, inverse.invert(denoiser, x, times), times)
        rows.append(judge.row(f"{steps} steps", back))
    section("Inverted and back", rows)


def main() -> None:
    """Train, ask, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training")
    arguments = parser.parse_args()
    count = len(Digits())
    known, held = Some(rows=range(count - HELD_OUT)), Some(rows=range(count - HELD_OUT, count))
    truth = held.batch(range(HELD_OUT))
    judge = Judge(known.batch(range(len(known))), truth)
    pipeline = trained(known, arguments.seconds)
    ask(pipeline, judge, truth.x_0, arguments.out)


if __name__ == "__main__":
    main()
