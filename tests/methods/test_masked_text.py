"""Masked tokens: whole numbers from the file to the loss, and a model that has read something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import diffkit

from .common import EXAMPLES, report

HERE = Path(__file__).parent
LENGTH = 32


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The Apache licence in windows of 32 characters: the last eighth is held out."""
    words = " ".join((HERE.parents[1] / "LICENSE").read_text().lower().split())
    letters = sorted(set(words))
    codes = np.array([letters.index(c) for c in words])
    cut = len(codes) * 7 // 8
    folder = tmp_path_factory.mktemp("text")
    found = {}
    for name, part, step in (("train", codes[:cut], 1), ("test", codes[cut:], LENGTH)):
        starts = range(0, len(part) - LENGTH, step)
        windows = np.stack([part[i : i + LENGTH] for i in starts])
        np.savez(folder / f"{name}.npz", images=windows)
        found[name] = {
            "id": "npz",
            "config": {"path": str(folder / f"{name}.npz"), "vocabulary": len(letters)},
        }
    shares = np.bincount(codes[:cut], minlength=len(letters)) + 1e-9
    tested = np.log2(shares / shares.sum())[codes[cut:]]
    return {**found, "letters": letters, "unigram": -float(tested.mean())}


@pytest.fixture(scope="module")
def pipeline(text):
    spec = {
        "dataset": text["train"],
        "schedule": "local.even",
        "process": "local.masking",
        "model": "local.reader",
        "loss": "local.masked_cross_entropy",
        "sampler": "ancestral",
        "metric": "local.bits_per_character",
        "training": {
            "batch_size": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 20,
        },
    }
    host = diffkit.Host(plugin_files=[EXAMPLES / "masked_text.py"])
    return diffkit.build(spec, host=host).train(steps=300, ema_decay=0.99, progress=False)


def test_tokens_are_declared_and_stay_whole_numbers(pipeline, text):
    data = pipeline.spec.data
    assert (data.dtype, data.vocabulary, data.range) == ("int64", len(text["letters"]), None)
    read = pipeline.dataset().batch([0, 1]).x_0
    assert read.dtype == torch.int64


def test_it_needs_fewer_bits_than_a_unigram_model(pipeline, text):
    bits = pipeline.evaluate(dataset=text["test"])["bits"]
    report("masked text", f"{bits:.2f} bits a character, {text['unigram']:.2f} of a unigram model")
    assert bits < text["unigram"] - 0.5


def test_samples_are_text(pipeline, text):
    samples = pipeline.sample(8, steps=32, seed=1, progress=False)
    assert samples.dtype == torch.int64
    assert int(samples.min()) >= 0
    assert int(samples.max()) < len(text["letters"])
    batches = dict(pipeline.batches(8, steps=32, seed=1, batch_size=5, progress=False))
    assert torch.equal(samples[5:], batches[range(5, 8)])


def test_tokens_and_gaussian_noise_do_not_go_together(text):
    spec = {
        "dataset": text["train"],
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": "mlp",
        "loss": "simple",
        "sampler": "ddpm",
    }
    with pytest.raises(diffkit.SpecError, match="the data are tokens"):
        diffkit.build(spec)


def test_a_vocabulary_that_nobody_declares_is_asked_for(text):
    host = diffkit.Host(plugin_files=[EXAMPLES / "masked_text.py"])
    spec = {
        "data": {"shape": [8], "dtype": "int64"},
        "schedule": "local.even",
        "process": "local.masking",
        "model": "local.reader",
        "loss": "local.masked_cross_entropy",
        "sampler": "ancestral",
    }
    with pytest.raises(diffkit.SpecError, match="no dataset says its vocabulary"):
        diffkit.build(spec, host=host)
    spec["data"]["vocabulary"] = 5
    assert int(diffkit.build(spec, host=host).sample(2, steps=4, progress=False).max()) < 5
