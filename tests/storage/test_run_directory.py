"""What is written is whole; what is read is checked; nothing in a file makes code run."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import diffkit
from diffkit.core.weights import read_tensors
from diffkit.helpers.files import read_json, write_json
from diffkit.storage import run_directory
from diffkit.storage.run_directory import append_metrics, drop_metrics_after, read_metrics

SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 16, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2]},
    "steps": 3,
}


class _Payload:
    """Its unpickling would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self._mark}",))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return diffkit.build(SPEC).save(tmp_path / "run")


def _model(run: Path) -> Path:
    return run_directory.latest_checkpoint(run) / "model.safetensors"


def _spec(run: Path) -> Path:
    return run_directory.latest_checkpoint(run) / "spec.json"


def _written(run: Path, step: int, loss: float | None = None) -> Path:
    return run_directory.write_checkpoint(run, step, {"model": {}}, {}, {"loss": loss})


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(run, tmp_path) -> None:
    mark = tmp_path / "executed"
    _model(run).write_bytes(pickle.dumps(_Payload(mark)))
    with pytest.raises(diffkit.CheckpointError, match="not a whole safetensors file"):
        diffkit.load(run)
    torch.save({"weights": _Payload(mark)}, _model(run))
    with pytest.raises(diffkit.CheckpointError, match="not a whole safetensors file"):
        diffkit.load(run)
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(run, kept) -> None:
    whole = _model(run).read_bytes()
    _model(run).write_bytes(whole[:kept])
    with pytest.raises(diffkit.CheckpointError, match="not a whole safetensors file"):
        diffkit.load(run)


def test_weights_of_another_model_are_refused(run) -> None:
    tensors = read_tensors(_model(run))
    name = next(iter(tensors))
    _model(run).write_bytes(save({**tensors, name: torch.zeros(3), "more": torch.zeros(1)}))
    with pytest.raises(
        diffkit.CheckpointError, match=f"has besides more; it differs in {name} .float32 .3., not"
    ):
        diffkit.load(run)
    del tensors[name]
    _model(run).write_bytes(save(tensors))
    with pytest.raises(diffkit.CheckpointError, match=f"lacks {name}"):
        diffkit.load(run)


@pytest.mark.parametrize("evil", ["os:system", "os.system", "diffkit.cli.main:main", "subprocess"])
def test_a_dotted_path_in_a_spec_is_only_an_unknown_name(run, evil) -> None:
    spec = read_json(_spec(run))
    spec["sampler"] = {"id": evil, "config": {"command": "touch executed"}}
    write_json(_spec(run), spec)
    with pytest.raises(diffkit.SpecError, match=f"no sampler is called '{evil}'"):
        diffkit.load(run)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"a": ' * 100_000])
def test_a_broken_spec_file_is_refused(run, text) -> None:
    (_spec(run)).write_text(text)
    with pytest.raises(diffkit.DiffkitError):
        diffkit.load(run)


def test_no_run_and_no_checkpoint_are_told_apart(tmp_path) -> None:
    with pytest.raises(diffkit.CheckpointError, match="no such run"):
        diffkit.load(tmp_path / "none")
    with pytest.raises(diffkit.CheckpointError, match="no checkpoint"):
        diffkit.load(tmp_path)


def test_a_missing_plugin_is_named_with_its_version(run) -> None:
    spec = read_json(_spec(run))
    spec["sampler"] = {"id": "acme.heun", "config": {}}
    spec["provenance"]["acme.heun"] = {"distribution": "diffkit-acme", "version": "1.2"}
    write_json(_spec(run), spec)
    with pytest.raises(diffkit.SpecError, match=r"pip install 'diffkit-acme==1.2'"):
        diffkit.load(run)


def test_a_disabled_plugin_is_not_called_missing(run) -> None:
    with pytest.raises(diffkit.SpecError, match="is disabled") as caught:
        diffkit.load(run, host=diffkit.Host(disabled=["diffkit"]))
    assert "pip install" not in str(caught.value)


def test_a_full_disk_leaves_earlier_checkpoints_whole(run, monkeypatch) -> None:
    expected = diffkit.load(run).sample(2)
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pipeline = diffkit.load(run)
    pipeline._weights.steps = 10
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(diffkit.CheckpointError, match="No space left"):
        pipeline.save(run)
    monkeypatch.setattr(os, "fsync", real)
    assert [path.name for path in run_directory.checkpoints(run)] == ["step-00000000"]
    assert not list(run.rglob("*.tmp"))
    assert torch.equal(diffkit.load(run).sample(2), expected)


def test_a_disk_that_is_really_full(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        small = diffkit.build(SPEC)
        small.save(disk / "run")
        large = diffkit.build({**SPEC, "model": {"id": "mlp", "config": {"width": 128}}})
        large._weights.steps = 10
        with pytest.raises(diffkit.CheckpointError, match="No space left"):
            large.save(disk / "run")
        assert [p.name for p in run_directory.checkpoints(disk / "run")] == ["step-00000000"]
        read_tensors(_model(disk / "run"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_only_the_last_checkpoints_are_kept(tmp_path) -> None:
    for step in range(5):
        _written(tmp_path, step)
        run_directory.prune(tmp_path, 2, 0)
    assert [p.name for p in run_directory.checkpoints(tmp_path)] == [
        "step-00000003",
        "step-00000004",
    ]


def test_half_written_checkpoints_are_not_seen(run) -> None:
    (run / "checkpoints" / ".step-00000009.123.tmp").mkdir()
    (run / "checkpoints" / "step-9").mkdir()
    assert run_directory.latest_checkpoint(run).name == "step-00000000"


def test_metrics_survive_a_line_cut_short(tmp_path) -> None:
    for step in (2, 4, 6):
        append_metrics(tmp_path, {"step": step, "loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [m["step"] for m in read_metrics(tmp_path)] == [2, 4, 6]
    drop_metrics_after(tmp_path, 4)
    assert [m["step"] for m in read_metrics(tmp_path)] == [2, 4]


@pytest.mark.parametrize("step", [None, "3", -1, True])
def test_a_checkpoint_that_does_not_say_its_step(run, step) -> None:
    path = run_directory.latest_checkpoint(run) / "trainer.json"
    progress = {**read_json(path), "step": step}
    write_json(path, progress)
    with pytest.raises(diffkit.CheckpointError, match="step is a number of updates"):
        diffkit.load(run)


@pytest.mark.parametrize("width", [2**63, 2**62])
def test_a_network_that_no_memory_holds(width) -> None:
    model = {"id": "mlp", "config": {"width": width}}
    with pytest.raises(diffkit.SpecError, match="give it smaller sizes"):
        diffkit.build({**SPEC, "model": model})
