"""Mutated specs, files, checkpoints and images: one of our errors, or none; never a hang or code.

`python tests/storage/test_fuzz.py KIND SEED NUMBER` shows one case again. The environment variable
FUZZ makes so many times the usual number: 5 is the whole suite.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import random
import shutil
import signal
import string
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load, save

import diffkit
from diffkit.bundled.datasets.idx import Idx
from diffkit.bundled.datasets.image_folder import ImageFolder
from diffkit.bundled.datasets.npz import Npz
from diffkit.config.files import read_data
from diffkit.storage import run_directory

SECONDS = 10
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": {"id": "simple", "config": {"weighting": "none"}},
    "sampler": {"id": "ddpm", "config": {"variance": "fixed_small"}},
    "spacing": "trailing",
    "data": {"shape": [2], "range": [-1.0, 1.0]},
    "steps": 3,
    "seed": 1,
    "precision": "float32",
    "training": {
        "steps": 2,
        "batch_size": 4,
        "optimizer": {"id": "adamw", "config": {"betas": [0.9, 0.99]}},
        "clip_norm": 1.0,
    },
}
ODD: list[object] = [
    *(None, True, False, 0, -1, 1, 2**63, -(2**70), 1e308, float("nan"), float("inf"), 0.5, ""),
    *("os:system", "builtins.eval", "../../etc/passwd", "ddpm", "diffkit.ddpm", "\x00", "é" * 40),
    *([], {}, [[]], {"id": "ddpm"}, {"id": None}, {"config": {}}, {"run": "/"}, [1, "a", None]),
    *("!!python/object/apply:os.system ['true']", "__import__('os')", "{}", "a" * 5000),
]


class Hang(Exception):
    """A case took too long."""


@contextmanager
def limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated_tree(value: object, dice: random.Random) -> object:
    """One to three changes anywhere in a tree of mappings and lists."""
    tree = copy.deepcopy(value)
    for _ in range(dice.randint(1, 3)):
        places: list[tuple[dict | list, object]] = []
        pending = [tree]
        while pending:
            node = pending.pop()
            if isinstance(node, dict | list):
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                places += [(node, key) for key in keys]
                pending += [node[key] for key in keys]
        if not places:
            return dice.choice(ODD)
        node, key = dice.choice(places)
        action = dice.random()
        if action < 0.6:
            node[key] = copy.deepcopy(dice.choice(ODD))
        elif action < 0.75:
            del node[key]
        elif isinstance(node, dict):
            name = "".join(dice.choices(string.ascii_letters + "._-0 ", k=dice.randint(0, 12)))
            node[name] = copy.deepcopy(dice.choice([*ODD, node[key]]))
        else:
            node.append(copy.deepcopy(node[key]))
    return tree


def mutated_bytes(content: bytes, dice: random.Random) -> bytes:
    """Bits flipped, parts cut, doubled, moved or replaced."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        if not data:
            return bytes(data)
        start = dice.randrange(len(data))
        # Headers are at the front, where most can go wrong.
        start = start if dice.random() < 0.5 else min(start, dice.randrange(1, 64))
        start = min(start, len(data) - 1)
        length = dice.randint(1, 16)
        action = dice.randrange(6)
        if action == 0:
            data[start] ^= 1 << dice.randrange(8)
        elif action == 1:
            del data[start:]
        elif action == 2:
            del data[start : start + length]
        elif action == 3:
            data[start:start] = data[start : start + length] * dice.randint(1, 3)
        elif action == 4:
            data[start : start + length] = bytes(dice.choices(range(256), k=length))
        else:
            data[start : start + length] = dice.choice([b"\xff", b"\x00"]) * length
    return bytes(data)


def specs(folder: Path, dice: random.Random) -> None:
    tree = mutated_tree(SPEC, dice)
    diffkit.build(tree, device="cpu")  # type: ignore[arg-type]


def spec_files(folder: Path, dice: random.Random) -> None:
    ending = dice.choice(["yaml", "json", "toml"])
    if ending == "toml":
        text = 'schedule = "cosine"\nsteps = 3\n[model]\nid = "mlp"\n[model.config]\nwidth = 8\n'
    elif ending == "json":
        text = json.dumps(SPEC)
    else:
        text = yaml.safe_dump(SPEC)
    path = folder / f"spec.{ending}"
    path.write_bytes(mutated_bytes(text.encode(), dice))
    diffkit.build(read_data(path), device="cpu")


def checkpoints(folder: Path, dice: random.Random) -> None:
    run = folder / "run"
    if not run.exists():
        pipeline = diffkit.build({**SPEC, "data": None, "dataset": "digits"}, device="cpu")
        pipeline.train(out=run, progress=False)
        for path in [p for p in run.rglob("*") if p.is_file() and p.suffix != ".lock"]:
            (folder / f"{path.name}.whole").write_bytes(path.read_bytes())
    names = ["spec.json", "model.safetensors", "ema.safetensors", "optimizer.safetensors"]
    name = dice.choice([*names, "trainer.json"])
    path = run_directory.latest_checkpoint(run) / name
    whole = (folder / f"{name}.whole").read_bytes()
    path.write_bytes(mutated_bytes(whole, dice))
    try:
        pipeline = diffkit.load(run, device="cpu")
        if name in ("optimizer.safetensors", "trainer.json"):
            pipeline.train(out=run, resume=True, steps=2, progress=False)
    finally:
        path.write_bytes(whole)


def images(folder: Path, dice: random.Random) -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    kind = dice.choice(["png", "jpg", "gif", "bmp", "idx", "idx.gz", "npz", "jsonl"])
    path = folder / "images" / f"a.{kind}"
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.iterdir():
        old.unlink()
    content = io.BytesIO()
    if kind == "npz":
        np.savez(content, images=pixels[None].transpose(0, 3, 1, 2))
    elif kind.startswith("idx"):
        idx = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 8]) + pixels.tobytes()
        content.write(gzip.compress(idx, mtime=0) if kind == "idx.gz" else idx)
    elif kind == "jsonl":
        Image.fromarray(pixels).save(path.with_name("a.png"))
        path = path.with_name("metadata.jsonl")
        content.write(b'{"file_name": "a.png", "text": "a picture"}\n')
    else:
        names = {"jpg": "JPEG"}
        Image.fromarray(pixels).save(content, names.get(kind, kind.upper()))
    path.write_bytes(mutated_bytes(content.getvalue(), dice))
    if kind == "npz":
        dataset = Npz(path=str(path), images="images")
    elif kind.startswith("idx"):
        dataset = Idx(images=str(path))
    else:
        dataset = ImageFolder(folder=str(path.parent), size=8)
    dataset.batch(range(len(dataset)))


def optimizer_state(folder: Path, dice: random.Random) -> None:
    """Whole files, whose tensors are of other names, shapes, dtypes and values."""
    run = folder / "state"
    if not run.exists():
        pipeline = diffkit.build({**SPEC, "data": None, "dataset": "digits"}, device="cpu")
        pipeline.train(out=run, progress=False)
    path = run_directory.latest_checkpoint(run) / "optimizer.safetensors"
    whole = path.read_bytes()
    tensors = {name: value.clone() for name, value in load(whole).items()}
    for _ in range(dice.randint(1, 3)):
        name = dice.choice(sorted(tensors))
        tensors |= {name: mutated_tensor(tensors[name], dice)}
        if dice.random() < 0.3:
            tensors[dice.choice([name + "x", "x", name[::-1], name.replace("avg", "sum")])] = (
                tensors.pop(name)
            )
    path.write_bytes(save(tensors))
    try:
        pipeline = diffkit.load(run, device="cpu")
        pipeline.train(out=run, resume=True, steps=3, progress=False)
        for weight in pipeline.system.parameters():
            assert bool(weight.isfinite().all()), "state that was taken broke the weights"
    finally:
        for other in run_directory.checkpoints(run):
            if other != path.parent:
                shutil.rmtree(other)
        path.write_bytes(whole)


def mutated_tensor(value: torch.Tensor, dice: random.Random) -> torch.Tensor:
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda v: v.flatten()[: dice.randint(0, 3)],
        lambda v: v.reshape(-1),
        lambda v: v[None],
        lambda v: torch.zeros(dice.choice([0, 1, 7, 100_000])),
        lambda v: v.to(dice.choice([torch.int8, torch.float64, torch.bool, torch.float16])),
        lambda v: v * float("nan"),
        lambda v: -v - 1,
        lambda v: v + float("inf"),
        lambda v: torch.zeros(dice.choice([(0, 3), (1, 1, 1), (2, 0)])),
        lambda v: v.flip(0) if v.ndim else v,
    ]
    return dice.choice(changes)(value).contiguous()


def pictures(folder: Path, dice: random.Random) -> None:
    """One mutated picture through every door."""
    modes = {"PNG": ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"], "JPEG": ["L", "RGB", "CMYK"]}
    modes |= {"WEBP": ["RGB", "RGBA"], "TIFF": ["L", "RGB", "RGBA", "CMYK", "F", "I;16"]}
    modes |= {"GIF": ["L", "P"], "BMP": ["L", "RGB", "1"], "PPM": ["L", "RGB", "1"]}
    kind = dice.choice(sorted(modes))
    mode = dice.choice(modes[kind])
    size = dice.choice([(8, 8), (1, 9), (16, 3)])
    grey = Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1]))
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = dice.randint(0, 9)
    picture = Image.new(mode, size, 40_000) if mode == "I;16" else grey.convert(mode)
    picture.save(content, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
    at = folder / "pictures"
    at.mkdir(exist_ok=True)
    path = at / "a.png"
    path.write_bytes(mutated_bytes(content.getvalue(), dice))
    channels = dice.choice([1, 3])
    asked = [lambda: ImageFolder(folder=str(at), size=8, channels=channels).batch([0]).x_0]
    with contextlib.suppress(ImportError):
        from diffkit_inverse.images import read_image, read_mask

        shape, resize = (channels, 8, 8), {"resize": True}
        asked.append(lambda: read_image(path, shape, (-1.0, 1.0), **resize))
        asked.append(lambda: read_mask(path, shape, **resize))
    found = []
    for ask in asked:
        with contextlib.suppress(diffkit.DataError):
            found.append(ask())
    # What one door reads the others read, and as the same picture.
    if len(found) > 1 and found[0].shape == found[1].shape:
        assert torch.allclose(found[0], found[1], atol=1e-5)


KINDS: dict[str, tuple[Callable[[Path, random.Random], None], int]] = {
    "specs": (specs, 1200),
    "spec_files": (spec_files, 1000),
    "checkpoints": (checkpoints, 800),
    "optimizer_state": (optimizer_state, 600),
    "images": (images, 1200),
    "pictures": (pictures, 1000),
}
TIMES = float(os.environ.get("FUZZ", "1"))


def one_case(kind: str, seed: int, number: int, folder: Path) -> None:
    """Raises where a case ends in anything but success or one of our errors."""
    with limited(), contextlib.suppress(diffkit.DiffkitError):
        KINDS[kind][0](folder, random.Random(f"{kind}/{seed}/{number}"))


def test_what_is_mutated_is_right_to_begin_with(tmp_path) -> None:
    # Or every case would end in an error, and nothing behind the first check be tried.
    diffkit.build(SPEC, device="cpu").sample(1, progress=False)
    fine = 0
    for number in range(40):
        with contextlib.suppress(diffkit.DiffkitError):
            images(tmp_path, random.Random(number))
            fine += 1
    assert 2 <= fine <= 38


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_mutants_end_in_our_errors(kind, tmp_path) -> None:
    failures: list[str] = []
    for number in range(round(TIMES * KINDS[kind][1])):
        try:
            one_case(kind, 0, number, tmp_path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            failures.append(f"case {number}: {type(error).__name__}: {error}"[:300])
    assert not failures, f"{len(failures)}:\n" + "\n".join(failures[:20])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        one_case(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(folder))
