"""What may change at resume is applied and recorded; what may not is refused before any writing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import diffkit
from diffkit.config.spec import PipelineSpec, TrainingSpec
from diffkit.helpers.files import read_json, write_json
from diffkit.storage import run_directory
from diffkit.storage.resume import FREE, FREE_TRAINING

FIXED = {
    *("schedule", "process", "model", "loss", "parameterization", "times", "encoder"),
    *("autoencoder", "dataset", "data", "seed", "training"),
}
"""What the weights, the optimiser's state or the order of the data depend on."""
FIXED_TRAINING = {"batch_size", "optimizer", "init"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "a.npz"
    np.savez(path, images=np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32))
    return path


def spec(data: Path, **changes) -> dict:
    found = {
        "schedule": {"id": "cosine", "config": {"steps": 20}},
        "process": "variance-preserving",
        "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
        "loss": "simple",
        "sampler": "ddpm",
        "dataset": {"id": "npz", "config": {"path": str(data)}},
    }
    training = {"batch_size": 16, "steps": 8, "checkpoint_every": 4, "log_every": 2}
    return {**found, **changes, "training": {**training, **changes.get("training", {})}}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    diffkit.build(spec(data)).train(out=run, progress=False)
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(run: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}


def test_every_field_is_one_or_the_other() -> None:
    """A new field has to be thought about: until then it may not change."""
    assert set(PipelineSpec.model_fields) == FREE | FIXED
    assert not FREE & FIXED
    assert set(TrainingSpec.model_fields) == FREE_TRAINING | FIXED_TRAINING
    assert not FREE_TRAINING & FIXED_TRAINING


@pytest.mark.parametrize(
    ("changes", "field", "before", "now"),
    [
        ({"parameterization": "velocity"}, "parameterization.id", "epsilon", "velocity"),
        ({"schedule": "linear"}, "schedule.id", "cosine", "linear"),
        (
            {"process": "variance-exploding"},
            "process.id",
            "variance-preserving",
            "variance-exploding",
        ),
        ({"loss": {"id": "simple", "config": {"weighting": "min-snr"}}}, "loss", "none", "min-snr"),
        ({"times": "importance"}, "times.id", "uniform", "importance"),
        ({"model": {"id": "mlp", "config": {"width": 16}}}, "model.config.width", "8", "16"),
        ({"seed": 7}, "seed", "0", "7"),
        ({"training": {"batch_size": 32}}, "training.batch_size", "16", "32"),
        ({"training": {"optimizer": "adam"}}, "training.optimizer", "adamw", "adam"),
    ],
)
def test_what_may_not_change_is_refused(run, data, changes, field, before, now) -> None:
    untouched = contents(run)
    pipeline = diffkit.build(spec(data, **changes))
    with pytest.raises(diffkit.CheckpointError) as caught:
        pipeline.train(out=run, resume=True, steps=12, progress=False)
    message = str(caught.value)
    assert field in message
    assert before in message
    assert now in message
    assert contents(run) == untouched


def test_every_problem_is_told_at_once(run, data) -> None:
    pipeline = diffkit.build(spec(data, seed=7, parameterization="velocity"))
    with pytest.raises(diffkit.CheckpointError, match=r"parameterization\.id was .*; seed was 0"):
        pipeline.train(out=run, resume=True, progress=False)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"id": "adamw", "config": {"weight_decay": 5.0}}},
        {"optimizer": {"id": "adamw", "config": {"betas": [0.5, 0.6]}}},
        {"learning_rate": 0.01},
    ],
)
def test_settings_of_the_optimiser_are_applied_recorded_and_said(
    trained, data, tmp_path, change
) -> None:
    """As a run that had its moments from the old settings, and makes the rest with the new."""
    weights = []
    for name, changes in (("same", {}), ("changed", change)):
        run = Path(shutil.copytree(trained, tmp_path / name))
        pipeline = diffkit.build(spec(data))
        if changes:
            with pytest.warns(UserWarning, match=next(iter(changes))):
                pipeline.train(out=run, resume=True, steps=12, progress=False, **changes)
        else:
            pipeline.train(out=run, resume=True, steps=12, progress=False)
        recorded = read_json(run / "spec.json")["training"]
        of_weights = read_json(run_directory.latest_checkpoint(run) / "spec.json")["training"]
        assert recorded == of_weights
        for key, value in changes.items():
            wanted = {"rate": value} if isinstance(value, float) else value["config"]
            assert recorded[key]["config"].items() >= wanted.items()
        weights.append(torch.cat([w.detach().flatten() for w in pipeline.system.parameters()]))
    assert not torch.equal(*weights)


def test_more_steps_need_no_word(run, data, recwarn) -> None:
    diffkit.build(spec(data)).train(out=run, resume=True, steps=12, progress=False)
    assert not [w for w in recwarn if "resumed" in str(w.message)]


def test_data_that_were_moved_are_the_same_data(run, data, tmp_path) -> None:
    elsewhere = shutil.copy(data, tmp_path / "moved.npz")
    pipeline = diffkit.build(spec(Path(elsewhere)))
    with pytest.warns(UserWarning, match=r"dataset\.config\.path was"):
        pipeline.train(out=run, resume=True, steps=12, progress=False)
    assert read_json(run / "spec.json")["dataset"]["config"]["path"] == str(elsewhere)


def test_other_data_are_refused(run, tmp_path) -> None:
    np.savez(tmp_path / "b.npz", images=np.zeros((64, 2), dtype=np.float32))
    with pytest.raises(diffkit.CheckpointError, match=r"dataset\.config\.path was"):
        diffkit.build(spec(tmp_path / "b.npz")).train(out=run, resume=True, progress=False)


def test_what_the_recorded_spec_knows_nothing_of_is_said(run, data) -> None:
    path = run_directory.latest_checkpoint(run) / "spec.json"
    recorded = read_json(path)
    del recorded["loss"]["config"]["weighting"]
    write_json(path, recorded)
    with pytest.warns(UserWarning, match=r"loss\.config\.weighting was not there"):
        diffkit.build(spec(data)).train(out=run, resume=True, steps=9, progress=False)


@pytest.mark.filterwarnings("ignore:.*begins again")
def test_training_that_ended_before_its_first_checkpoint_can_go_on(data, tmp_path) -> None:
    """`train` says resume, and resume does it."""
    run, early = tmp_path / "run", spec(data, training={"checkpoint_every": 100})
    diffkit.build(early).train(out=run, progress=False)
    whole = contents(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(diffkit.CheckpointError, match="resume it"):
        diffkit.build(early).train(out=run, progress=False)
    with pytest.raises(diffkit.CheckpointError, match=r"before the first checkpoint; resume it"):
        diffkit.load(run)
    diffkit.build(early).train(out=run, resume=True, progress=False)
    again = contents(run)
    weights = [name for name in whole if name.endswith(".safetensors")]
    assert weights
    assert all(again[name] == whole[name] for name in weights)
    steps = [line["step"] for line in run_directory.read_metrics(run)]
    assert steps == [2, 4, 6, 8]


@pytest.mark.parametrize("how", ["gone", "a dangling link", "set aside"])
def test_checkpoints_that_are_lost_are_not_begun_over(how, run, data, tmp_path) -> None:
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    if how == "a dangling link":
        (run / "checkpoints").symlink_to(tmp_path / "unmounted")
    if how == "set aside":
        (run / "superseded").mkdir()
    untouched = contents(run)
    with pytest.raises(diffkit.CheckpointError, match="to update 8, and its checkpoints are not"):
        diffkit.build(spec(data)).train(out=run, resume=True, progress=False)
    assert contents(run) == untouched


@pytest.mark.parametrize("make", [False, True])
def test_there_is_nothing_to_resume_where_no_run_was(make, data, tmp_path) -> None:
    if make:
        (tmp_path / "none").mkdir()
    words = "it holds no checkpoint" if make else "no such run"
    # The lock makes the folder, which is then empty.
    with pytest.raises(diffkit.CheckpointError, match=f"{words}|it holds no checkpoint"):
        diffkit.build(spec(data)).train(out=tmp_path / "none", resume=True, progress=False)


def test_going_back_sets_later_checkpoints_aside(data, tmp_path, caplog) -> None:
    run = tmp_path / "run"
    # Not the shared one, which may have been trained with another number of threads.
    diffkit.build(spec(data)).train(out=run, progress=False)
    later = load_file(run_directory.latest_checkpoint(run) / "model.safetensors")
    pipeline = diffkit.build(spec(data))
    pipeline.train(out=run, resume=True, checkpoint=4, steps=6, progress=False)
    assert [run_directory.step_of(path) for path in run_directory.checkpoints(run)] == [4, 6]
    assert "step-00000008" in caplog.text
    (aside,) = (run / "superseded").iterdir()
    kept = load_file(aside / "model.safetensors")
    assert all(torch.equal(kept[name], later[name]) for name in later)
    # From there the same updates are made again, and the same weights come of them.
    diffkit.build(spec(data)).train(out=run, resume=True, progress=False)
    found = load_file(run_directory.latest_checkpoint(run) / "model.safetensors")
    assert all(torch.equal(found[name], later[name]) for name in later)


BIG = "model.embed.layers.2.weight.exp_avg"


def replaced(name: str, change):
    def edit(folder: Path) -> None:
        path = folder / "optimizer.safetensors"
        tensors = {key: value.clone() for key, value in load_file(path).items()}
        value = change(tensors.pop(name))
        save_file(tensors if value is None else {**tensors, name: value}, path)

    return edit


def added(name: str):
    def edit(folder: Path) -> None:
        path = folder / "optimizer.safetensors"
        save_file({**load_file(path), name: torch.zeros(1)}, path)

    return edit


def told(change):
    def edit(folder: Path) -> None:
        path = folder / "trainer.json"
        progress = json.loads(path.read_text())
        change(progress)
        path.write_text(json.dumps(progress))

    return edit


def without_one_weight(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    stem = BIG.rpartition(".")[0]
    save_file({k: v for k, v in load_file(path).items() if not k.startswith(stem)}, path)


CRAFTED = {
    "one element": replaced(BIG, lambda v: torch.zeros(1)),
    "no element": replaced(BIG, lambda v: torch.zeros(0)),
    "squares of one element": replaced(f"{BIG}_sq", lambda v: torch.zeros(1)),
    "huge": replaced(BIG, lambda v: torch.zeros(1_000_000)),
    "flat": replaced(BIG, lambda v: v.flatten()),
    "int8": replaced(BIG, lambda v: v.to(torch.int8)),
    "float64": replaced(BIG, lambda v: v.double()),
    "NaN": replaced(BIG, lambda v: v * float("nan")),
    "negative squares": replaced(f"{BIG}_sq", lambda v: v - 1),
    "missing": replaced(BIG, lambda v: None),
    "a weight missing": without_one_weight,
    "step NaN": replaced(BIG.replace("exp_avg", "step"), lambda v: v * float("nan")),
    "step of int64": replaced(BIG.replace("exp_avg", "step"), lambda v: v.long()),
    "step vector": replaced(BIG.replace("exp_avg", "step"), lambda v: torch.zeros(5)),
    "step empty": replaced(BIG.replace("exp_avg", "step"), lambda v: torch.zeros(0)),
    "step negative": replaced(BIG.replace("exp_avg", "step"), lambda v: -v),
    "extra weight": added("model.none.weight.exp_avg"),
    "extra state": added(BIG.replace("exp_avg", "max_exp_avg_sq")),
    "no name": added("x"),
    "fewer in the record": told(lambda p: p["optimizer"]["state"][0]["weights"].pop()),
    "more in the record": told(lambda p: p["optimizer"]["state"][0]["weights"].append("model.x")),
    "another tree": told(lambda p: p["optimizer"]["state"][0].update(tree={"value": 1})),
    "no tree": told(lambda p: p["optimizer"]["state"][0].update(tree={"code": "x"})),
    "no dtype": told(lambda p: p["optimizer"]["state"][0]["tree"]["dict"][0][1].update(dtype="x")),
    "settings of its own": told(
        lambda p: p["optimizer"]["groups"][0]["dict"].append(["eps", {"float": "nan"}])
    ),
    "another class": told(lambda p: p["optimizer"].update({"class": "Adagrad"})),
    "groups of numbers": told(lambda p: p["optimizer"].update(groups=[1])),
    "more groups": told(lambda p: p["optimizer"]["groups"].append({"dict": []})),
    "no groups": told(lambda p: p["optimizer"].pop("groups")),
    "no record": told(lambda p: p.pop("optimizer")),
    "seconds": told(lambda p: p.update(seconds=float("inf"))),
    "another step": told(lambda p: p.update(step=9)),
    "files of its own": told(lambda p: p.update(files=["model", "ema"])),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_state_is_refused_before_a_kernel_reads_it(run, data, kind) -> None:
    folder = run_directory.latest_checkpoint(run)
    CRAFTED[kind](folder)
    untouched = contents(run)
    with pytest.raises(diffkit.CheckpointError, match=folder.name):
        diffkit.build(spec(data)).train(out=run, resume=True, steps=12, progress=False)
    assert contents(run) == untouched


def test_a_weight_that_never_had_a_gradient_has_no_state(tmp_path, data) -> None:
    """And resuming such a run is exact."""
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "import torch\n"
        "from diffkit.core.model import EpsilonModel\n"
        "class Odd(EpsilonModel):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(4, 4)\n"
        "    def forward(self, x, c_noise, condition):\n"
        "        return self.used(torch.cat([x, c_noise[:, None] / 1000], 1))\n"
    )
    host = diffkit.Host(plugin_files=[plugin])
    odd = spec(data, model="local.odd")
    whole = diffkit.build(odd, host=host).train(steps=8, progress=False)
    diffkit.build(odd, host=host).train(out=tmp_path / "run", steps=4, progress=False)
    halves = diffkit.build(odd, host=host)
    halves.train(out=tmp_path / "run", resume=True, steps=8, progress=False)
    pairs = zip(whole.system.parameters(), halves.system.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
