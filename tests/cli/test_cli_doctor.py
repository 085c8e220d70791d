"""`diffkit doctor` survives every plugin, and its exit code says whether all are well."""

import json
import os
import subprocess
import sys

import pytest

import diffkit

# Only hooks modules and a broken component: no child imports torch but the one that asks for it.
GROUPS = {"hooks": "diffkit.hooks.v1", "spacing": "diffkit.spacing.v1"}
PLUGINS = {
    "calm": ("hooks", "calm_plugin", "x = 1"),
    "needy": ("spacing", "needy_plugin:Needy", "import not_there"),
    "faulty": ("hooks", "faulty_plugin", "import ctypes; ctypes.string_at(0)"),
    "quitting": ("hooks", "quitting_plugin", "import os; os._exit(0)"),
    "sleepy": ("hooks", "sleepy_plugin", "import time; time.sleep(999)"),
    "noisy": ("hooks", "noisy_plugin", "print('{]\\x1b[31m' * 99)"),
}
STATUSES = {
    "calm": "ok",
    "needy": "broken",
    "faulty": "crashed",
    "quitting": "crashed",
    "sleepy": "hung",
    "noisy": "ok",
}


@pytest.fixture
def site(tmp_path):
    for name, (kind, target, source) in PLUGINS.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUPS[kind]}]\nit = {target}\n")
        (tmp_path / f"{name}_plugin.py").write_text(source + "\n")
    return tmp_path


def _doctor(site, *arguments, disabled=("diffkit",)):
    # Whatever else is installed beside diffkit is not this test's business.
    others = {entry.origin.namespace for entry in diffkit.components()} - {"diffkit"}
    others |= {hooks.origin.namespace for hooks in diffkit.Host().hooks}
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "DIFFKIT_DISABLE": ",".join([*disabled, *others]),
    }
    code = "from diffkit.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_json_and_exit_code(site):
    done = _doctor(site, "--json", "--timeout", "3")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["healthy"] is False
    assert found["environment"]["diffkit"] == diffkit.__version__
    assert found["environment"]["torch"]
    ours = {f["distribution"]: f for f in found["findings"] if f["distribution"] in PLUGINS}
    assert {name: f["status"] for name, f in ours.items()} == STATUSES
    assert all(f["status"] == "disabled" for f in found["findings"] if f not in ours.values())


def test_the_table_says_what_is_wrong_and_what_to_do(site):
    done = _doctor(site, "--timeout", "3")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.startswith("STATUS"))
    assert header.split() == ["STATUS", "KIND", "ID", "DISTRIBUTION", "VERSION"]
    row = next(line for line in lines if "needy.it" in line)
    assert row.split() == ["broken", "spacing", "needy.it", "needy", "1.0"]
    assert row.index("needy.it") == header.index("ID")
    assert "No module named 'not_there'" in done.stdout
    assert "SIGSEGV" in done.stdout
    assert "faulty_plugin.py" in done.stdout
    assert "leave it out with --disable needy" in done.stdout
    assert done.stdout.count("  to do: ") == 4
    assert "\x1b" not in done.stdout
    assert lines[-1] == "2 ok, 4 with problems"


def test_healthy_is_0_and_the_disabled_are_listed(site):
    off = [word for name, s in STATUSES.items() if s != "ok" for word in ("--disable", name)]
    done = _doctor(site, *off)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 ok, 0 with problems"
    row = next(line for line in done.stdout.splitlines() if "sleepy.it" in line)
    assert row.startswith("disabled")


def test_a_plugin_file_is_not_run_in_the_command_itself(site):
    file = site / "mine.py"
    file.write_text("import os; os._exit(0)")
    off = [word for name in PLUGINS for word in ("--disable", name)]
    done = _doctor(site, "--plugin-file", str(file), *off)
    assert done.returncode == 1
    assert "crashed: file mine.py" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--plugin-file", "no.py"], "no.py"), (["--timeout", "0"], "--timeout"), (["x"], "x")],
)
def test_a_mistake_is_2(invoke, arguments, word):
    result = invoke("doctor", *arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert "Traceback" not in result.stderr
