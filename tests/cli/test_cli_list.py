"""`diffkit list` is quick, and imports nothing heavy."""

import json
import os
import statistics
import subprocess
import sys
import time

from ..plugins.fake_distributions import SPACING, Site

_LIST = "from diffkit.cli.main import cli; cli.main(['list'], standalone_mode=False)"


def _python(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables)


def _imported_by(code):
    *_, names = _python(f"{code}; import sys; print(*sys.modules)").stdout.splitlines()
    found = set(names.split())
    assert "diffkit.cli.main" in found
    return found


def _diffkit(*arguments):
    code = "from diffkit.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_nothing_heavy_is_imported():
    heavy = {"torch", "pydantic", "numpy", "rich", "yaml", "diffkit.bundled", "diffkit.core"}
    assert _imported_by(_LIST) & heavy == set()


def test_help_imports_no_verb():
    code = "from diffkit.cli.main import cli; cli.main(['--help'], standalone_mode=False)"
    assert _imported_by(code) & {"diffkit.cli.train", "torch"} == set()


def test_a_fifth_of_importing_torch_with_five_more_plugins(tmp_path):
    site = Site(tmp_path)  # which holds one itself
    for plugin in ("ant", "bee", "cow", "dog"):
        entries = {f"thing-{i}": f"{plugin}_module:Thing" for i in range(10)}
        site.add(f"diffkit-{plugin}", "1.0", {SPACING: entries})
    listed = _python(_LIST, PYTHONPATH=str(tmp_path)).stdout
    assert all(f"{name}." in listed for name in ("good", "ant", "bee", "cow", "dog"))
    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        _python("import torch")
        middle = time.perf_counter()
        _python(_LIST, PYTHONPATH=str(tmp_path))
        ratios.append((time.perf_counter() - middle) / (middle - start))
    assert statistics.median(ratios) <= 0.2, ratios


def test_columns_are_aligned():
    lines = _diffkit("list", "--kind", "sampler").stdout.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "ID", "DISTRIBUTION", "VERSION"]
    row = next(line for line in lines if "diffkit.ddpm" in line)
    assert row.index("diffkit.ddpm") == lines[0].index("ID")
    assert all(line.startswith("sampler") for line in lines[1:])


def test_json():
    entries = json.loads(_diffkit("list", "--json").stdout)
    assert {"kind", "name", "id", "distribution", "version"} <= entries[0].keys()
    assert "diffkit.unet" in {entry["id"] for entry in entries}


def test_problems_go_to_stderr():
    done = _diffkit("list", "--disable", "not-installed")
    assert done.returncode == 0
    assert "not-installed" in done.stderr
    assert "not-installed" not in done.stdout


def test_a_disabled_distribution_is_left_out():
    assert "diffkit.ddpm" not in _diffkit("list", "--disable", "diffkit").stdout


def test_an_unknown_kind():
    done = _diffkit("list", "--kind", "samplr")
    assert done.returncode == 2
    assert "did you mean 'sampler'" in done.stderr
