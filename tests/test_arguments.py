"""Every argument of every public function: wrong ones are named, and scalars of NumPy are taken."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffkit
from diffkit import arguments
from diffkit.errors import DiffkitError, SpecError

SPEC = {
    "schedule": {"id": "diffkit.cosine", "config": {"steps": 8}},
    "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 8, "depth": 1}},
    "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm",
    "dataset": "diffkit.digits",
    "training": {"batch_size": 4, "steps": 1, "warmup_steps": 0},
}


@pytest.fixture(scope="module")
def pipeline() -> diffkit.Pipeline:
    return diffkit.build(SPEC)


class Silent:
    """Nothing that any argument can be, and nothing that can be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


WRONG: tuple[Any, ...] = (Silent(), 1.5, -1, True, "", "no such", b"x", [], {}, (None,), object)
"""Tried for every argument; what is allowed for one is skipped there."""

PIPELINE: dict[str, dict[str, tuple[Any, ...]]] = {
    # The arguments of each method, and what of WRONG each takes.
    "sample": {
        "num": (),
        "seed": (),
        "sampler": (),
        "steps": (),
        "spacing": (),
        "schedule": (),
        "process": (),
        "guidance": (),
        "condition": ({},),
        "inputs": ({},),
        "precision": (),
        "compile": (),
        "clip": (True, {}),
        "average": (),
        "batch_size": (),
        "observers": ([], (None,)),
        "progress": (True,),
    },
    "train": {
        "dataset": (),
        "out": (),
        "resume": (True,),
        "checkpoint": (),
        "observers": ([], (None,)),
        "progress": (True,),
        "steps": (),
        "batch_size": (),
        "learning_rate": (1.5,),
        "ema_decay": (),
        "augmentations": ([],),
    },
    "loss": {"x_0": (), "condition": ({},), "step": (), "module": ()},
    "learning_rate": {"step": ()},
    "take_average": {"name": (), "state": ()},
    "measure": {
        "samples": (),
        "of": (),
        "num": (),
        "metric": (),
        "features": (),
        "dataset": (),
        "seed": (),
    },
    "to": {"device": ()},
    "decoded": {"x": ()},
    "encoded": {"dataset": ()},
    "denoiser": {
        "condition": ({},),
        "guidance": (),
        "schedule": (),
        "process": (),
        "precision": (),
        "clip": (True, {}),
        "average": (),
    },
    "save": {"directory": ()},
    "restore": {"checkpoint": (), "nonfinite": (), "average": ()},
}
SHARED = {"batches": "sample", "trajectory": "sample", "evaluate": "measure"}
COUNTED = ("sample", "batches", "trajectory")
NOT_TAKEN = {"trajectory": {"batch_size", "observers", "progress"}}


def _table() -> dict[str, dict[str, tuple[Any, ...]]]:
    shared = {
        name: {k: v for k, v in PIPELINE[like].items() if k not in NOT_TAKEN.get(name, ())}
        for name, like in SHARED.items()
    }
    return {**PIPELINE, **shared}


def test_the_sweep_knows_every_argument_of_the_pipeline() -> None:
    public = {
        name: set(inspect.signature(member).parameters) - {"self", "training", "choices"}
        for name, member in vars(diffkit.Pipeline).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    table = _table()
    assert {name for name, taken in public.items() if taken} == set(table)
    for name, taken in public.items():
        assert taken <= set(table.get(name, {})), name


def _cases() -> Iterator[Any]:
    for name, taken in _table().items():
        for argument, right in taken.items():
            for value in WRONG:
                folder = value == "no such" and argument in ("directory", "out")
                if not folder and not any(type(value) is type(r) and value == r for r in right):
                    shown = "silent" if isinstance(value, Silent) else repr(value)
                    yield pytest.param(name, argument, value, id=f"{name}-{argument}-{shown}")


@pytest.mark.parametrize(("method", "argument", "value"), _cases())
def test_a_wrong_argument_is_an_error_of_ours(
    pipeline: diffkit.Pipeline,
    method: str,
    argument: str,
    value: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # Some of them are names of folders to write.
    given: dict[str, Any] = {"num": 1} if method in COUNTED else {}
    if method == "restore" and argument != "checkpoint":
        given = {"checkpoint": "no such"}
    if method == "loss":
        given = {"x_0": torch.zeros(1, *pipeline.parts.shape)}
    if method == "take_average":
        given = {"name": "mine", "state": {}}
    with pytest.raises(DiffkitError) as caught:
        _called(pipeline, method, {**given, argument: value})
    assert not list(tmp_path.iterdir())
    if not isinstance(value, str | dict) or argument not in ("sampler", "metric", "dataset"):
        word = "checkpoint" if argument == "checkpoint" else argument
        assert word in str(caught.value) or value in ("no such",)


def _called(pipeline: diffkit.Pipeline, method: str, given: dict[str, Any]) -> None:
    made = getattr(pipeline, method)(**given)
    if method in ("batches", "trajectory"):
        list(made)


DOORS: dict[str, Callable[[Any], object]] = {
    "build spec": diffkit.build,
    "build host": lambda v: diffkit.build(SPEC, host=v),
    "build device": lambda v: diffkit.build(SPEC, device=v),
    "load directory": diffkit.load,
    "load host": lambda v: diffkit.load("none", host=v),
    "load device": lambda v: diffkit.load("none", device=v),
    "load checkpoint": lambda v: diffkit.load("none", checkpoint=v),
    "load nonfinite": lambda v: diffkit.load("none", nonfinite=v),
    "make kind": lambda v: _make(v, "diffkit.digits"),
    "make choice": lambda v: _make("dataset", v),
    "make host": lambda v: _make("dataset", "diffkit.digits", v),
    "host path": lambda v: diffkit.Host(path=v),
    "host disabled": lambda v: diffkit.Host(disabled=v),
    "host files": lambda v: diffkit.Host(plugin_files=v),
    "components": diffkit.components,
    "resolve kind": lambda v: diffkit.resolve(v, "ddpm"),
    "resolve name": lambda v: diffkit.resolve("sampler", v),
    "text": diffkit.as_text,
    "text length": lambda v: diffkit.as_text(["a"], v),
}
RIGHT: dict[str, tuple[Any, ...]] = {
    "host path": ([],),
    "host disabled": ([],),
    "host files": ([],),
    "text": ([],),
}


def _make(kind: Any, choice: Any, host: Any = None) -> object:
    from diffkit.api import make

    return make(kind, choice, host=host)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_names_what_is_wrong(door: str) -> None:
    for value in WRONG:
        if any(type(value) is type(r) and value == r for r in RIGHT.get(door, ())):
            continue
        with pytest.raises(DiffkitError):
            DOORS[door](value)


@pytest.mark.parametrize("of", [np.int64, np.uint8, np.array, torch.tensor])
def test_whole_numbers_of_numpy_and_torch_are_numbers(
    pipeline: diffkit.Pipeline, of: Callable[[int], Any]
) -> None:
    expected = pipeline.sample(2, seed=3, steps=4, progress=False)
    found = pipeline.sample(of(2), seed=of(3), steps=of(4), batch_size=of(1), progress=np.False_)
    assert torch.equal(found, expected)
    spec = {
        **SPEC,
        "schedule": {"id": "diffkit.cosine", "config": {"steps": of(8)}},
        "training": {"batch_size": of(4), "learning_rate": np.float64(1e-3), "steps": of(1)},
        "data": {"shape": [of(1), of(8), of(8)], "range": (np.float32(-1), torch.tensor(1.0))},
        "seed": of(0),
    }
    built = diffkit.build(spec)
    assert built.spec.schedule.config["steps"] == 8
    assert built.spec.data is not None
    assert built.spec.data.range == (-1.0, 1.0)
    built.train(steps=of(1), learning_rate=torch.tensor(1e-3), progress=False)


def test_an_instance_made_with_numbers_of_numpy_can_be_saved(tmp_path: Path) -> None:
    from diffkit.bundled.schedules.cosine import Cosine

    built = diffkit.build({**SPEC, "schedule": Cosine(steps=np.int64(8))})
    built.save(tmp_path / "run")
    assert diffkit.load(tmp_path / "run").spec.schedule.config["steps"] == 8


PLUGIN = """
from diffkit.core.weighting import Weighting
class Mine(Weighting):
    error = "x_0"
    def weight(self, log_snr):
        return log_snr * 0 + 1
"""


def test_home_is_home_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "points.npz", images=np.zeros((8, 2), np.float32))
    data = {"id": "diffkit.npz", "config": {"path": "~/points.npz"}}
    (tmp_path / "spec.json").write_text(json.dumps({**SPEC, "dataset": data}))
    (tmp_path / "mine.py").write_text(PLUGIN)
    built = diffkit.build("~/spec.json", host=diffkit.Host(plugin_files=["~/mine.py"]))
    built.train(out="~/run", steps=1, batch_size=4, progress=False)
    built.save(Path("~/saved"))
    assert diffkit.load("~/run").spec == diffkit.load(tmp_path / "run").spec
    built.restore("~/run/checkpoints/step-00000001")
    assert not (tmp_path / "~").exists()


def test_a_path_is_shown_as_it_is_where_there_is_no_such_home() -> None:
    assert arguments.expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    for wrong in ("", "a\0b", 3, b"x", None):
        with pytest.raises(SpecError, match="out is a path"):
            arguments.path(wrong, "out")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_running_out_of_memory_says_what_to_lower(
    pipeline: diffkit.Pipeline, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(pipeline.parts.model), "forward", fail)
    with pytest.raises(SpecError, match="batch_size takes more memory"):
        pipeline.sample(1, progress=False)
    with pytest.raises(SpecError, match=r"training\.batch_size takes more memory"):
        pipeline.train(steps=1, progress=False)
    other = RuntimeError("something else")
    monkeypatch.setattr(type(pipeline.parts.model), "forward", lambda *_: _raise(other))
    with pytest.raises(RuntimeError, match="something else"):
        pipeline.sample(1, progress=False)


def _raise(error: Exception) -> None:
    raise error


def test_more_samples_than_there_is_memory_for_are_refused_at_once(
    pipeline: diffkit.Pipeline,
) -> None:
    with pytest.raises(SpecError, match=r"num = 1000000000000.*batches"):
        pipeline.sample(10**12, batch_size=1, progress=False)
    with pytest.raises(SpecError, match="batch_size"):
        next(pipeline.batches(10**12, batch_size=10**12, progress=False))
