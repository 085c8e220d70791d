"""`train-autoencoder` keeps what it has, whatever ends it, and tries its folder first."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from diffkit.cli.main import cli
from diffkit.errors import ComponentError, DataError
from diffkit_latent.kl import KL

WORDS = ["--steps", "5000", "--multipliers", "1,2", "--width", "8"]
COMMAND = """
import signal, sys
from diffkit.cli.main import main
from diffkit.bundled.datasets.digits import Digits
batch, count, number = Digits.batch, [0], int(sys.argv.pop(1))
def counted(*given):
    count[0] += 1
    if count[0] == 3:
        signal.raise_signal(number)
    return batch(*given)
Digits.batch = counted
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_an_autoencoder(number, tmp_path) -> None:
    out = tmp_path / "ae"
    command = [sys.executable, "-c", COMMAND, str(int(number)), "train-autoencoder", "digits"]
    done = subprocess.run([*command, "--out", str(out), *WORDS], capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    assert f"ended early by {number.name}" in done.stderr
    assert KL(folder=str(out)).encode(torch.zeros(1, 1, 8, 8)).isfinite().all()


def test_an_error_leaves_what_was_learned_until_then(tmp_path, monkeypatch) -> None:
    from diffkit.bundled.datasets.digits import Digits

    real, reads = Digits.batch, []

    def batch(self, indices):
        reads.append(len(indices))
        if len(reads) == 4:
            raise DataError("a broken picture")
        return real(self, indices)

    monkeypatch.setattr(Digits, "batch", batch)
    out = tmp_path / "ae"
    result = CliRunner().invoke(cli, ["train-autoencoder", "digits", "--out", str(out), *WORDS])
    assert result.exit_code == 2
    assert "a broken picture" in result.output
    assert f"What was learned until then is in {out}" in result.output
    KL(folder=str(out))


def test_a_folder_that_cannot_be_written_is_noticed_before_training(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    words = ["train-autoencoder", "digits", "--out", str(tmp_path / "file" / "ae"), *WORDS]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_weights_that_are_not_finite_are_refused(tmp_path) -> None:
    words = ["--steps", "2", "--multipliers", "1,2", "--width", "8"]
    out = tmp_path / "ae"
    CliRunner().invoke(cli, ["train-autoencoder", "digits", "--out", str(out), *words])
    path = out / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * float(np.nan)}, path)
    with pytest.raises(ComponentError, match="not finite"):
        KL(folder=str(out))
