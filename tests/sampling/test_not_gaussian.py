"""What a process of tokens gives that is none: one sentence, and no error of torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import diffkit

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "masked_text.py"
WRONG = """
class FloatPrior(Masking):
    def prior(self, shape, noise, condition=None):
        return super().prior(shape, noise).float()

class ShortPrior(Masking):
    def prior(self, shape, noise, condition=None):
        return super().prior(shape, noise)[:, :2]

class FloatSteps(Masking):
    def reverse(self, prediction, x_t, t, s, noise):
        return super().reverse(prediction, x_t, t, s, noise).float()

class BareLogits(Masking):
    def interpret(self, output, x_t, t):
        return output
"""


@pytest.fixture
def built(tmp_path):
    (tmp_path / "tokens.py").write_text(EXAMPLE.read_text() + WRONG)
    host = diffkit.Host(plugin_files=[tmp_path / "tokens.py"])

    def build(process="local.masking", model="local.reader"):
        np.savez(tmp_path / "x.npz", images=np.arange(24).reshape(6, 4) % 5)
        dataset = {"id": "npz", "config": {"path": str(tmp_path / "x.npz"), "vocabulary": 5}}
        spec = {
            "dataset": dataset,
            "schedule": "local.even",
            "process": process,
            "model": model,
            "loss": "local.masked_cross_entropy",
            "sampler": "ancestral",
            "training": {"batch_size": 6, "steps": 1},
        }
        return diffkit.build(spec, host=host)

    return build


def test_what_is_right_is_sampled(built) -> None:
    x = built().train(progress=False).sample(3, steps=4)
    assert (x.dtype, tuple(x.shape)) == (torch.int64, (3, 4))


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ("float_prior", r"prior of FloatPrior gives float32 \[3, 4\], and should give int64"),
        ("short_prior", r"prior of ShortPrior gives int64 \[3, 2\], .* int64 \[3, 4\]"),
        ("float_steps", r"Ancestral yields torch.float32, .* reverse gives, mend that"),
        ("bare_logits", r"BareLogits.interpret gives a Tensor, and not a Prediction"),
    ],
)
def test_what_a_process_gives_is_looked_at(built, process, words) -> None:
    with pytest.raises(diffkit.ComponentError, match=words):
        built(process=f"local.{process}").sample(3, steps=4)


def test_a_network_of_numbers_is_refused_at_build(built) -> None:
    with pytest.raises(diffkit.SpecError, match=r"model: it computes with numbers, .* tokens"):
        built(model="mlp")
