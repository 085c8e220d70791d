"""Texts as conditions, from a dataset with captions to the command line."""

from __future__ import annotations

import copy
import json
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import diffkit
from diffkit.cli.main import cli
from diffkit.core.text import as_text
from diffkit_guidance.characters import Characters
from diffkit_guidance.pretrained import PretrainedText, Sentence

from .guidance_runs import clip_folder

UNET = {"width": 16, "multipliers": [1, 2], "blocks": 1, "groups": 4, "attention": [4]}
CAPTIONS = ["coal at night", "snow"]


@pytest.fixture(scope="module")
def idx(tmp_path_factory):
    """Black and white images of 8x8, in turn."""
    folder = tmp_path_factory.mktemp("idx")
    count = 32
    pixels = b"".join(bytes([255 * (i % 2)]) * 64 for i in range(count))
    (folder / "images").write_bytes(struct.pack(">HBBIII", 0, 8, 3, count, 8, 8) + pixels)
    labels = bytes(i % 2 for i in range(count))
    (folder / "labels").write_bytes(struct.pack(">HBBI", 0, 8, 1, count) + labels)
    config = {
        "images": str(folder / "images"),
        "labels": str(folder / "labels"),
        "captions": CAPTIONS,
    }
    return {"id": "idx", "config": config}


def spec(dataset, encoder):
    return {
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": {"id": "unet", "config": UNET},
        "loss": "simple",
        "sampler": "ddpm",
        "parameterization": "velocity",
        "dataset": dataset,
        "encoder": encoder,
        "training": {"batch_size": 16, "warmup_steps": 5, "learning_rate": 3e-3, "ema_decay": 0.9},
    }


ENCODERS = [
    {"id": "characters", "config": {"width": 16, "depth": 1, "length": 24}},
    {"id": "pretrained-text", "config": {"name": "CLIP", "length": 24}},
    {"id": "sentence", "config": {"name": "CLIP", "length": 24}},
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder["id"])
def test_what_is_asked_for_is_painted(encoder, idx, tmp_path):
    encoder = copy.deepcopy(encoder)
    if "name" in encoder["config"]:
        encoder["config"]["name"] = str(clip_folder())
    pipeline = diffkit.build(spec(idx, encoder), device="cpu")
    # A network with random weights tells sentences apart, but not by much.
    steps = 400 if encoder["id"] == "sentence" else 120
    pipeline.train(steps=steps, out=tmp_path / "run", progress=False)
    pipeline = diffkit.load(tmp_path / "run")
    lead = {"id": "classifier-free", "config": {"scale": 2.0}}
    found = pipeline.sample(
        8, steps=20, condition={"caption": CAPTIONS * 4}, guidance=lead, progress=False
    )
    mean = found.mean((1, 2, 3))
    # Black is -1 and white 1; without the condition half of each would be the other.
    assert bool((mean[0::2] < -0.5).all())
    assert bool((mean[1::2] > 0.5).all())


def test_prompts_on_the_command_line(idx, tmp_path):
    pipeline = diffkit.build(spec(idx, ENCODERS[0]), device="cpu")
    run = pipeline.save(tmp_path / "run")
    out = tmp_path / "found.npz"
    words = ["sample", str(run), "--num", "3", "--steps", "3", "--out", str(out)]
    asked = ["--prompt", CAPTIONS[0], "--prompt", CAPTIONS[1], "--guidance", "3"]
    result = CliRunner().invoke(cli, [*words, *asked], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    import numpy as np

    lead = {"id": "classifier-free", "config": {"scale": 3.0}}
    wanted = pipeline.sample(
        3,
        steps=3,
        condition={"caption": [CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]]},
        guidance=lead,
        progress=False,
    )
    assert np.array_equal(np.load(out)["samples"], wanted.numpy())
    result = CliRunner().invoke(cli, [*words, "--label", "3"])
    assert result.exit_code == 2
    assert "conditions taken are: caption" in result.output


def test_a_fixed_encoder_is_neither_saved_nor_copied(idx, tmp_path):
    encoder = {"id": "pretrained-text", "config": {"name": str(clip_folder()), "length": 24}}
    pipeline = diffkit.build(spec(idx, encoder), device="cpu")
    assert not list(pipeline.parts.encoder.parameters())
    twin = copy.deepcopy(pipeline.parts.encoder)
    assert twin._fixed[0] is pipeline.parts.encoder._fixed[0]
    assert not [name for name in pipeline.system.state_dict() if "encoder" in name]


def test_tokens_are_those_of_the_library():
    import transformers

    folder = str(clip_folder())
    encoder = PretrainedText(name=folder, length=12)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.CLIPTextModel.from_pretrained(folder).eval()
    texts = ["a cat", "boots"]
    given = tokenizer(texts, padding="max_length", max_length=12, return_tensors="pt")
    given.pop("token_type_ids", None)  # transformers 4 makes them, and CLIP takes none.
    with torch.no_grad():
        wanted = network(**given).last_hidden_state
    told = encoder(encoder.prepare({"caption": as_text(texts)}))
    assert torch.equal(told["tokens"], wanted)
    assert told["mask"].sum(1).tolist() == [7, 7]
    mean = Sentence(name=folder, length=12)
    vector = mean(mean.prepare({"caption": as_text(texts)}))["vector"]
    hidden = wanted[:, :7].mean(1)
    assert torch.allclose(vector, hidden / hidden.norm(dim=1, keepdim=True), atol=1e-6)


def test_padding_changes_nothing():
    texts = as_text(["a cat", "two cats"])
    short, long = Characters(length=8).eval(), Characters(length=32).eval()
    state = short.state_dict()
    grown = torch.cat([state["positions"], torch.randn(24, 128)])
    long.load_state_dict({**state, "positions": grown})
    few, many = (encoder(encoder.prepare({"caption": texts})) for encoder in (short, long))
    assert torch.allclose(few["vector"], many["vector"], atol=1e-5)
    counted = few["mask"]
    assert torch.allclose(few["tokens"][counted], many["tokens"][many["mask"]], atol=1e-5)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(diffkit.DataError, match="has 9 bytes, and the encoder reads 8"):
        Characters(length=8).prepare({"caption": as_text(["nine byte"])})


def test_a_folder_without_an_encoder_is_refused(idx, tmp_path):
    encoder = {"id": "pretrained-text", "config": {"name": str(tmp_path)}}
    with pytest.raises(diffkit.DiffkitError, match="configuration that can be read"):
        diffkit.build(spec(idx, encoder), device="cpu")


def test_no_code_in_a_folder_is_run(tmp_path):
    """A configuration that names code of its own: it is refused without a question."""
    shutil.copytree(clip_folder(), tmp_path / "clip")
    config = tmp_path / "clip" / "config.json"
    data = json.loads(config.read_text())
    data |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Strange"}}
    config.write_text(json.dumps(data))
    (tmp_path / "clip" / "code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Strange: pass\n"
    )
    reference = {"id": "pretrained-text", "config": {"name": str(tmp_path / "clip")}}
    command = f"from diffkit.api import make; make('encoder', {reference!r})"
    ended = subprocess.run(
        [sys.executable, "-c", command],
        input="y\ny\ny\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "cannot be read" in ended.stderr or "no configuration" in ended.stderr
    assert not (tmp_path / "ran").exists()


def test_a_long_text_reaches_an_encoder_that_takes_it():
    encoder = {"id": "characters", "config": {"width": 16, "depth": 1, "length": 400}}
    data = {"shape": [1, 8, 8], "range": [-1.0, 1.0]}
    whole = {**spec(None, encoder), "data": data, "steps": 2}
    pipeline = diffkit.build(whole, device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.system.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    found = [
        pipeline.sample(1, condition={"caption": 300 * "a" + end}, progress=False)
        for end in ("boot", "coat")
    ]
    assert not torch.equal(*found)
