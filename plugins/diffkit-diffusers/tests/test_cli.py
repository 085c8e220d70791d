"""The command line: the same two functions, and a message for every mistake."""

from __future__ import annotations

import subprocess
import sys

import diffkit
import pytest
from click.testing import CliRunner
from diffusers import DDPMPipeline

from diffkit_diffusers import cli

from .small_pipelines import saved, theirs


def test_import_and_export(tmp_path):
    folder = saved(theirs(), tmp_path / "pipe")
    runner = CliRunner()
    result = runner.invoke(cli.cli, ["import", str(folder), str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "diffkit.unet" in result.output
    assert diffkit.load(tmp_path / "run").spec.sampler.id == "diffkit.ddpm"
    result = runner.invoke(cli.cli, ["export", str(tmp_path / "run"), str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    assert type(DDPMPipeline.from_pretrained(tmp_path / "again")) is DDPMPipeline


def test_another_sampler_and_another_scheduler(tmp_path):
    folder = saved(theirs(), tmp_path / "pipe")
    runner, run = CliRunner(), str(tmp_path / "run")
    arguments = ["import", str(folder), run, "--sampler", "diffusers.scheduler"]
    assert runner.invoke(cli.cli, arguments).exit_code == 0
    arguments = ["export", run, str(tmp_path / "again"), "--scheduler", "ddim"]
    assert runner.invoke(cli.cli, arguments).exit_code == 0


def test_a_mistake_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diffkit-diffusers", "import", str(tmp_path), "out"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("Error: ")


def imported_with(*modules):
    command = [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_nothing_imports_diffusers_before_it_is_used():
    modules = ("cli", "importing", "exporting", "unet", "sampler")
    imported = imported_with(*(f"diffkit_diffusers.{name}" for name in modules))
    assert "diffusers" not in imported


def test_importing_the_package_costs_nothing():
    assert not {"torch", "diffusers", "pydantic"} & imported_with("diffkit_diffusers")
