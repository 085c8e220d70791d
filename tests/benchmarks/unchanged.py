"""Whether a change of the code changes a number: losses and samples of many pipelines, to the bit.

    python tests/benchmarks/unchanged.py --out after.json
    python tests/benchmarks/unchanged.py --out before.json --rename new-id=old-id
    python tests/benchmarks/unchanged.py --compare before.json after.json

The second line is run in an environment with the older code, on the same machine: numbers are
equal to the bit for one kind of processor alone. `--rename` says what components were called then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import diffkit

UNET = {
    "id": "unet",
    "config": {"width": 16, "multipliers": [1, 2], "blocks": 1, "groups": 4},
}
LABELS = {
    "encoder": {"id": "guidance.label", "config": {"classes": 10, "width": 16}},
    "guidance": {"id": "guidance.classifier-free", "config": {"scale": 2.0}},
}
BASE: dict[str, Any] = {
    "schedule": {"id": "linear", "config": {"steps": 100}},
    "process": "variance-preserving",
    "model": UNET,
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 8,
    "training": {"steps": 20, "batch_size": 16, "log_every": 1, "warmup_steps": 5},
}
COSINE = {"id": "cosine", "config": {"steps": 100}}
WITH_VARIANCE = {"id": "unet", "config": {**UNET["config"], "learned_variance": True}}
SPECS: dict[str, dict[str, Any]] = {
    "ddpm": {},
    "hybrid": {"schedule": COSINE, "model": WITH_VARIANCE, "loss": "hybrid"},
    "velocity-zero-terminal": {
        "schedule": {"id": "zero-terminal", "config": {"schedule": BASE["schedule"]}},
        "parameterization": "velocity",
        "sampler": "samplers.dpmpp-2m",
    },
    "edm": {
        "schedule": "karras",
        "process": "variance-exploding",
        "parameterization": "edm",
        "times": "lognormal",
        "loss": {"id": "simple", "config": {"weighting": "edm"}},
        "sampler": "samplers.heun",
        "spacing": "samplers.karras",
    },
    "rectified-flow": {
        "schedule": "rectified",
        "process": "rectified-flow",
        "parameterization": "flow",
        "times": "logit-normal",
        "sampler": "samplers.euler",
    },
    "learned": {"schedule": "learned", "loss": "elbo", "times": "stratified"},
    "importance": {
        "schedule": "sigmoid",
        "parameterization": "x_0",
        "times": "importance",
        "loss": {"id": "simple", "config": {"weighting": "p2"}},
        "sampler": {"id": "samplers.ddim", "config": {"eta": 0.5}},
    },
    "min-snr": {"schedule": COSINE, "loss": {"id": "simple", "config": {"weighting": "min-snr"}}},
    "guided": LABELS,
    "micro-batches": {
        "model": {"id": "unet", "config": {**UNET["config"], "dropout": 0.1}},
        "training": {**BASE["training"], "accumulate": 4, "optimizer": "adam"},
    },
    "bfloat16": {"precision": "bfloat16"},
    "latents": {"autoencoder": {"id": "latent.kl", "config": {"folder": "autoencoder"}}},
    "two-processes": {},
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddpm": {},
    "samplers.ddim": {"eta": 1.0},
    "samplers.dpmpp-2m": {},
    "samplers.dpmpp-2m-sde": {},
    "samplers.dpmpp-3m": {},
    "samplers.euler": {},
    "samplers.euler-ancestral": {},
    "samplers.heun": {},
    "samplers.ode": {},
    "samplers.plms": {},
    "samplers.unipc": {},
    "inverse.replacement": {},
    "inverse.repaint": {"jump_length": 2, "resamplings": 2},
    "inverse.dps-inpaint": {},
    "inverse.dps-super-resolution": {},
    "inverse.dps-blur": {},
    "inverse.sdedit": {},
    "diffusers.scheduler": {},
}
SWAPPED = {
    "ddim on rectified flow": {"sampler": "samplers.ddim", "process": "rectified-flow"},
    "heun on exploding": {"sampler": "samplers.heun", "process": "variance-exploding"},
    "2m on uniform steps": {"sampler": "samplers.dpmpp-2m", "spacing": "samplers.uniform-log-snr"},
}


def digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def sampled(pipeline: diffkit.Pipeline, **choices: Any) -> str:
    return digest(pipeline.sample(6, seed=3, batch_size=4, progress=False, **choices))


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    image = torch.linspace(-1.0, 1.0, 64).reshape(1, 1, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:, :] = 1.0
    if "super-resolution" in name:
        return {"measurement": image[..., ::2, ::2]}
    if "blur" in name:
        return {"measurement": image}
    if "sdedit" in name:
        return {"image": image}
    return {"image": image, "mask": mask} if name.startswith("inverse.") else {}


def trained(name: str, spec: Mapping[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    pipeline = diffkit.build(spec).train(out=folder / name, progress=False)
    rows = (folder / name / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"].hex() for row in rows]
    given = {"condition": {"label": [3]}} if "encoder" in spec else {}
    return pipeline, {"losses": losses, "samples": sampled(pipeline, **given)}


def in_two_processes(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A child of its own, as processes have to be launched."""
    (folder / "two.json").write_text(json.dumps(spec))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, __file__, "--child", str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def autoencoder(folder: Path) -> None:
    arguments = ["train-autoencoder", "digits", "--out", str(folder / "autoencoder")]
    sizes = ["--steps", "20", "--width", "8", "--multipliers", "1,2", "--groups", "4"]
    command = [sys.executable, "-m", "diffkit", *arguments, *sizes, "--latent-channels", "2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: renamed(item, names) for key, item in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


def figures(names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        autoencoder(folder)
        first = None
        for name, changes in SPECS.items():
            spec = renamed({**BASE, **changes}, names)
            if name == "latents":
                spec["autoencoder"]["config"]["folder"] = str(folder / "autoencoder")
            if name == "two-processes":
                yield name, in_two_processes(spec, folder)
                continue
            pipeline, found = trained(name, spec, folder)
            first = first or pipeline
            yield name, found
        assert first is not None
        for sampler, config in SAMPLERS.items():
            reference = {"id": renamed(sampler, names), "config": config}
            yield f"with {sampler}", sampled(first, sampler=reference, inputs=inputs_of(sampler))
        for name, choices in SWAPPED.items():
            yield name, sampled(first, **renamed(choices, names))
        yield (
            "measured",
            {
                key: float(value).hex()
                for key, value in first.evaluate(metric="bits-per-dim").items()
            },
        )


def compare(before: Path, after: Path) -> int:
    one, other = (json.loads(path.read_text()) for path in (before, after))
    different = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    print(f"{len(one)} before, {len(other)} after, {len(different)} different", *different)
    return 1 if different else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rename", action="append", default=[], metavar="NEW=OLD")
    parser.add_argument("--compare", type=Path, nargs=2)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compare:
        return compare(*options.compare)
    torch.set_num_threads(1)
    if options.child:
        spec = json.loads((options.child / "two.json").read_text())
        _, found = trained("two", spec, options.child)
        if os.environ["RANK"] == "0":
            (options.child / "found.json").write_text(json.dumps(found))
        return 0
    names = dict(item.split("=", 1) for item in options.rename)
    found = {}
    for name, value in figures(names):
        print(name, flush=True)
        found[name] = value
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
