"""`diffkit new-plugin` writes a package whose components are right as they are."""

import importlib
import math
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import diffkit
from diffkit.cli.new_plugin import EXAMPLES, FURTHER, package
from diffkit.plugins.host import default_host
from diffkit.plugins.kinds import KINDS

ROOT = Path(__file__).parents[2]
SPEC = {
    "schedule": {"id": "linear", "config": {"steps": 100}},
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "training": {"batch_size": 4, "warmup_steps": 1},
    "steps": 4,
}


def _installed(folder, monkeypatch):
    """Put a written package on the path with the metadata that installing it would make."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder / "src"))
    importlib.invalidate_caches()
    default_host.cache_clear()


CONDITIONAL = ("encoder", "guidance")
"""Kinds that are tried with a dataset of labels and a model that takes a condition."""


def test_each_kind_has_a_template():
    assert EXAMPLES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_of_each_kind_builds_trains_and_samples(invoke, tmp_path, monkeypatch, kind):
    name, class_name = EXAMPLES[kind]
    monkeypatch.chdir(tmp_path)
    also = ["--kind", "encoder"] if kind == "guidance" else []
    result = invoke("new-plugin", f"new-{kind}", "--kind", kind, *also)
    assert result.exit_code == 0, result.output
    module = f"diffkit_new_{kind.replace('-', '_')}"
    _installed(tmp_path / f"diffkit-new-{kind}", monkeypatch)
    try:
        found = diffkit.resolve(kind, f"new-{kind}.{name}")
        assert (found.__module__, found.__name__) == (module, class_name)
        points = {"id": "npz", "config": {"path": "points.npz", "images": "points"}}
        _write_points(tmp_path / "points.npz")
        spec = {**SPEC, "dataset": points, **_use(kind, f"new-{kind}.{name}")}
        pipeline = diffkit.build(spec)
        pipeline.train(steps=2, progress=False)
        assert pipeline.sample(3, progress=False).isfinite().all()
        if kind in CONDITIONAL:
            told = pipeline.sample(3, condition={"label": [0, 1, 2]}, progress=False)
            assert told.isfinite().all()
        if kind in ("metric", "features"):
            assert all(math.isfinite(v) for v in pipeline.evaluate().values())
        pipeline.save("saved")
        assert f"new-{kind}.{name}" in (tmp_path / "saved" / "spec.json").read_text()
    finally:
        sys.modules.pop(module, None)
        default_host.cache_clear()


def test_a_package_of_tokens_builds_trains_and_samples(invoke, tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    result = invoke("new-plugin", "words", "--kind", "process:masking")
    assert result.exit_code == 0, result.output
    _installed(tmp_path / "diffkit-words", monkeypatch)
    # All tokens of a sample are equal.
    np.savez(tmp_path / "words.npz", images=np.repeat(np.arange(60)[:, None] % 3, 6, axis=1))
    data = {"id": "npz", "config": {"path": "words.npz", "vocabulary": 3}}
    model = {"id": "words.token-mlp", "config": {"width": 32, "depth": 1}}
    chosen = {"process": "words.masking", "loss": "words.masked-cross-entropy", "model": model}
    spec = {**SPEC, **chosen, "dataset": data, "sampler": "ancestral", "steps": 12}
    spec["schedule"] = "rectified"
    spec["training"] = {"batch_size": 32, "learning_rate": 1e-2, "warmup_steps": 1}
    try:
        pipeline = diffkit.build(spec)
        pipeline.train(steps=60, ema_decay=0.9, progress=False)
        samples = pipeline.sample(50, progress=False)
        assert samples.dtype == torch.int64
        # Left to chance, one sample in 243 is of equal tokens.
        equal = (samples == samples[:, :1]).all(1)
        assert float(equal.double().mean()) > 0.5
        assert set(samples.flatten().tolist()) == {0, 1, 2}
    finally:
        sys.modules.pop("diffkit_words", None)
        default_host.cache_clear()


def test_further_templates_are_of_a_kind_that_there_is():
    for template, parts in FURTHER.items():
        assert template.partition(":")[0] == parts[0][0]
        assert {kind for kind, _, _ in parts} <= KINDS.keys()


def _write_points(path):
    import numpy as np

    np.savez(path, points=np.random.default_rng(0).normal(size=(64, 2)).astype("f4"))


def _use(kind, full_id):
    if kind == "weighting":
        return {"loss": {"id": "simple", "config": {"weighting": full_id}}}
    if kind in CONDITIONAL:
        small = {"width": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4}
        encoder = f"{full_id.partition('.')[0]}.{EXAMPLES['encoder'][0]}"
        model = {"id": "unet", "config": small}
        return {"dataset": "digits", "model": model, "encoder": encoder, kind: full_id}
    of_training = {
        "optimizer": {"optimizer": full_id},
        "learning-rate": {"learning_rate": full_id},
        "average": {"averages": {"mine": full_id}},
        "augmentation": {"augmentations": [full_id]},
        "observer": {"observers": [full_id]},
    }
    return {"training": of_training[kind]} if kind in of_training else {kind: full_id}


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("acme", "acme"), ("diffkit-acme", "acme"), ("Acme_Two", "acme-two"), ("a1.b", "a1-b")],
)
def test_names_with_and_without_the_prefix(invoke, tmp_path, monkeypatch, name, namespace):
    monkeypatch.chdir(tmp_path)
    result = invoke("new-plugin", name, "--kind", "sampler", "--kind", "schedule")
    assert result.exit_code == 0, result.output
    folder = tmp_path / f"diffkit-{namespace}"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"diffkit-{namespace}"
    module = f"diffkit_{namespace.replace('-', '_')}"
    assert project["entry-points"] == {
        "diffkit.schedule.v1": {"sigmoid": f"{module}:Sigmoid"},
        "diffkit.sampler.v1": {"ddim": f"{module}:DDIM"},
    }
    assert (folder / "src" / module / "__init__.py").exists()


@pytest.mark.parametrize(
    "name", ["", "1st", "a b", "a/b", "-", "acme-", "naïve", "diffkit", "local", "diffkit-local"]
)
def test_bad_names(invoke, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = invoke("new-plugin", "--kind", "sampler", "--", name)
    assert result.exit_code == 2
    assert f"'{name}'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_bad_kinds(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unknown = invoke("new-plugin", "acme", "--kind", "samplr")
    assert unknown.exit_code == 2
    assert "sampler" in unknown.stderr
    assert invoke("new-plugin", "acme").exit_code == 2
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(invoke, tmp_path):
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    (full / "x").mkdir(parents=True)
    empty.mkdir()
    file.write_text("mine")
    for out in (full, file, file / "below"):
        result = invoke("new-plugin", "acme", "--kind", "sampler", "--out", out)
        assert result.exit_code == 2, result.output
        assert str(out) in result.stderr
    assert [path.name for path in full.iterdir()] == ["x"]
    assert file.read_text() == "mine"
    assert invoke("new-plugin", "acme", "--kind", "sampler", "--out", empty).exit_code == 0


def test_it_says_what_it_wrote_and_what_comes_next(invoke, tmp_path):
    out = tmp_path / "with space"
    result = invoke("new-plugin", "acme", "--kind", "sampler", "--out", out)
    written = {path for path in out.rglob("*") if path.is_file()}
    said = {Path(line[6:]) for line in result.stdout.splitlines() if line.startswith("wrote ")}
    assert said == written
    for words in (f"install -e '{out}[test]'", "diffkit check 'acme.*'", f"pytest '{out}'"):
        assert words in result.stdout


def test_the_files_that_are_no_code():
    files = package("acme", ["sampler"])
    assert files["LICENSE"] == (ROOT / "LICENSE").read_text()
    workflow = yaml.safe_load(files[".github/workflows/test.yml"])
    commands = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    assert any("download.pytorch.org/whl/cpu" in command for command in commands)
    assert "python -m pytest" in commands
    assert files["tests/test_contract.py"] == (
        "from diffkit.testing import parametrize_with_checks\n\n\n"
        '@parametrize_with_checks("acme.*")\n'
        "def test_contract(component, check):\n    check(component)\n"
    )
    assert not [
        path
        for path, text in files.items()
        if "$" in text and path != "README.md" and not path.endswith(".yml")
    ]


@pytest.mark.parametrize(
    "kinds", [*([kind] for kind in (*KINDS, *FURTHER)), [*KINDS, *FURTHER]], ids="-".join
)
def test_the_code_is_formatted_and_sorted(tmp_path, kinds):
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("no ruff")
    text = package("acme", kinds)["src/diffkit_acme/__init__.py"]
    (tmp_path / "acme.py").write_text(text)
    isolated = ["--isolated", "--no-cache", "--line-length", "100", str(tmp_path)]
    rules = "A,B,C4,D,E,F,I,N,PIE,RET,RUF,SIM,UP,W"
    ignored = "D102,D105,D107,D203,D205,D212,D213,D400,D401,D406,D407,D413,D415,N806"
    for words in (["check", "--select", rules, "--ignore", ignored], ["format", "--check"]):
        # Here diffkit is not a package of the same project, as it is not for a plugin's author.
        command = [ruff, *words, *isolated]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout


def test_importing_the_verb_imports_nothing_heavy():
    code = "import diffkit.cli.new_plugin, diffkit.cli.doctor, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not {"torch", "pydantic", "numpy", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize("name", ["samplers", "diffkit-diffusers"])
def test_names_of_official_plugins_are_refused(invoke, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = invoke("new-plugin", name, "--kind", "sampler")
    assert result.exit_code == 2
    assert "is an official plugin of diffkit" in result.output
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_installed_is_warned_of(invoke, tmp_path, monkeypatch):
    info = tmp_path / "diffkit_taken-3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diffkit-taken\nVersion: 3.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = invoke("new-plugin", "taken", "--kind", "sampler", "--out", tmp_path / "new")
    assert result.exit_code == 0
    assert "warning: diffkit-taken 3.0 is installed already" in result.stderr
