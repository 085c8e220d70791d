"""Muon with AdamW, laws of the learning rate, and averages: they learn, and resume to the bit."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

import diffkit
from diffkit.storage import run_directory

from .common import host_of, report

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "x_0",
    "model": {"id": "mlp", "config": {"width": 32, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
}
SETTINGS = {"batch_size": 64, "warmup_steps": 10, "log_every": 20, "checkpoint_every": 20}
POWERS = {"power": "power", "kept": {"id": "power", "config": {"lengths": [0.075]}}}
OTHER = "power-0.1"
TRAININGS = {
    "Muon with AdamW": {"optimizer": "local.muon", "learning_rate": 0.02},
    "cosine decay": {"learning_rate": {"id": "cosine-decay", "config": {"rate": 0.01}}},
    "inverse square root": {
        "learning_rate": {"id": "inverse-sqrt", "config": {"rate": 0.01, "decay_steps": 20}}
    },
    "power averages": {"learning_rate": 0.01, "averages": POWERS},
}


def trained(name, out, *, ended_after=None):
    """A run of 160 updates; or one that was ended, and resumed from what was left."""
    host = host_of("muon")
    training = {**SETTINGS, "steps": 160, "keep": 8, **TRAININGS[name]}
    first = diffkit.build({**SPEC, "training": training}, host=host)
    if ended_after is None:
        return first.train(out=out, progress=False)

    class Ends:
        @diffkit.hookimpl
        def diffkit_checkpoint(self, step):
            if step == ended_after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(out=out, observers=[Ends()], progress=False)
    return diffkit.load(out, host=host).train(out=out, resume=True, progress=False)


def tensors(run):
    last = run_directory.latest_checkpoint(run)
    return {
        f"{path.stem}/{name}": value
        for path in sorted(last.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_it_learns_and_resumes_to_the_bit(name, tmp_path):
    trained(name, tmp_path / "once")
    trained(name, tmp_path / "twice", ended_after=60)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "once/metrics.jsonl").open()]
    wanted, found = tensors(tmp_path / "once"), tensors(tmp_path / "twice")
    apart = [key for key in wanted if not torch.equal(wanted[key], found[key])]
    report(
        name,
        f"loss of the first 20 updates {losses[0]:.3f}, of the last {losses[-1]:.3f}; "
        f"{len(wanted) - len(apart)} of {len(wanted)} tensors equal to the bit when resumed",
    )
    assert losses[-1] < 0.8 * losses[0]
    assert wanted.keys() == found.keys()
    assert not apart


def test_an_average_of_another_length_is_made_after_training(tmp_path):
    """What is drawn with it is what is drawn with the one that was kept."""
    trained("power averages", tmp_path)
    made = diffkit.post_hoc(tmp_path, 0.075)
    drawn = {name: made.sample(16, steps=5, average=name) for name in ("kept", "latest")}
    drawn |= {"made": made.sample(16, steps=5), "of 0.1": made.sample(16, steps=5, average=OTHER)}
    apart = {
        name: float((x - drawn["kept"]).square().mean().sqrt())
        for name, x in drawn.items()
        if name != "kept"
    }
    report(
        "post-hoc average",
        f"samples are {apart['made']:.4f} from those of the average that was kept, "
        f"{apart['of 0.1']:.4f} of another length, {apart['latest']:.4f} of the last weights",
    )
    assert apart["made"] < 0.2 * min(apart["latest"], apart["of 0.1"])
