"""Fashion-MNIST by caption: does guidance paint what is asked for, and what does it cost?

python plugins/diffkit-guidance/benchmarks/fashion.py --run RUN --images FOLDER [--seconds 900]

Trains a run by captions, or takes the one that is in RUN already. A classifier that was trained on
the real images says how many samples are of the class that their caption names; the Frechet
distance in the features of diffkit's own classifier says how far the samples of all classes
together are from the data. Writes a grid of prompts and a plot, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diffkit
from diffkit.helpers import pictures

mpl.use("Agg")

CAPTIONS = [
    f"a photo of {what}"
    for what in (
        "a t-shirt",
        "trousers",
        "a pullover",
        "a dress",
        "a coat",
        "a sandal",
        "a shirt",
        "a sneaker",
        "a bag",
        "an ankle boot",
    )
]
DEBIAN = "/usr/share/datasets/fashion-mnist"
SCALES = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
SHOWN = 3.0


def dataset(folder: str, part: str) -> dict[str, object]:
    """The reference to one half of Fashion-MNIST, with captions."""
    return {
        "id": "idx",
        "config": {
            "images": f"{folder}/{part}-images-idx3-ubyte.gz",
            "labels": f"{folder}/{part}-labels-idx1-ubyte.gz",
            "captions": CAPTIONS,
        },
    }


def spec(folder: str) -> dict[str, object]:
    """A small U-Net that reads captions byte by byte."""
    unet = {
        "width": 24,
        "multipliers": [1, 2, 2],
        "blocks": 1,
        "attention": [7],
        "groups": 8,
        "dropout": 0.0,
    }
    return {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "unet", "config": unet},
        "loss": "simple",
        "parameterization": "velocity",
        "sampler": "samplers.dpmpp-2m",
        "steps": 25,
        "encoder": {"id": "characters", "config": {"width": 64, "depth": 2, "length": 32}},
        "guidance": {"id": "classifier-free", "config": {"scale": SHOWN}},
        "metric": {"id": "frechet", "config": {"max_samples": 500}},
        "dataset": dataset(folder, "train"),
        "training": {
            "steps": 1_000_000,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "ema_decay": 0.998,
            "checkpoint_every": 500,
        },
    }


def trained(options: argparse.Namespace) -> diffkit.Pipeline:
    """The run in the folder, trained now if there is none."""
    if not (options.run / "spec.json").exists():
        pipeline = diffkit.build(spec(options.data), device="cpu")
        pipeline.train(out=options.run, max_seconds=options.seconds)
    return diffkit.load(options.run)


class Judge(nn.Module):
    """A classifier of real images, trained apart from everything that is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the ten classes."""
        logits: Tensor = self.layers(x)
        return logits


def judge(folder: str) -> tuple[Judge, float]:
    """The classifier after three passes over the data, and the share of test images it knows."""
    from diffkit.bundled.datasets.idx import Idx

    data, test = (Idx(**dataset(folder, part)["config"]) for part in ("train", "t10k"))
    torch.manual_seed(0)
    network = Judge()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(3):
        for rows in torch.randperm(len(data)).split(128):
            batch = data.batch(rows.tolist())
            loss = F.cross_entropy(network(batch.x_0), batch.condition["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    whole = test.batch(range(len(test)))
    return network.eval(), right(network, whole.x_0, whole.condition["label"])


@torch.no_grad()
def right(network: Judge, x: Tensor, label: Tensor) -> float:
    """The share of images that the classifier says are of their class."""
    found = torch.cat([network(part).argmax(1) for part in x.split(500)])
    return float((found == label).double().mean())


def main() -> None:
    """Train, judge, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--data", default=DEBIAN)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--each", type=int, default=50, help="samples a class and scale")
    options = parser.parse_args()
    pipeline = trained(options)
    network, known = judge(options.data)
    labels = torch.arange(10).repeat_interleave(options.each)
    captions = [CAPTIONS[label] for label in labels]
    print(f"The classifier knows {known:.1%} of the test images.\n")
    print("| scale | of the class asked for | Frechet ratio |\n| --- | --- | --- |")
    curve = []
    for scale in SCALES:
        lead = {"id": "classifier-free", "config": {"scale": scale}}
        found = pipeline.sample(
            len(labels), condition={"caption": captions}, guidance=lead, batch_size=100,
            progress=False,
        )  # fmt: skip
        share = right(network, found, labels)
        ratio = pipeline.evaluate(found)["frechet_ratio"]
        curve.append((scale, share, ratio))
        print(f"| {scale:g} | {share:.1%} | {ratio:.2f} |", flush=True)
        if scale == SHOWN:
            prompts(options.images / "guidance-prompts.png", found, options.each)
    plot(options.images / "guidance-scale.png", curve)


def prompts(path: Path, found: Tensor, each: int) -> None:
    """A row of samples for each caption."""
    from PIL import Image, ImageDraw

    rows = found.reshape(10, each, *found.shape[1:])[:, :8].flatten(0, 1)
    sheet = pictures.grid(pictures.to_bytes(rows, (-1.0, 1.0)), 8)
    page = Image.new("RGB", (sheet.width + 150, sheet.height), "white")
    page.paste(sheet, (150, 0))
    draw = ImageDraw.Draw(page)
    for row, caption in enumerate(CAPTIONS):
        middle = (row + 0.5) * sheet.height / len(CAPTIONS)
        draw.text((4, middle - 6), caption, fill="black")
    pictures.write_png(path, page)


def plot(path: Path, curve: list[tuple[float, float, float]]) -> None:
    """Fidelity against diversity, scale by scale."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.6))
    axes.plot([100 * share for _, share, _ in curve], [ratio for *_, ratio in curve], marker="o")
    for scale, share, ratio in curve:
        axes.annotate(f" {scale:g}", (100 * share, ratio))
    axes.set_xlabel("samples of the class asked for, %")
    axes.set_ylabel("Frechet ratio (1: as good as data)")
    axes.set_title("Guidance scale")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
