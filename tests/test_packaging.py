"""The six packages, the scripts of .ci, GitHub's workflows and CONTRIBUTING.md say the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .fresh_environment import ROOT

SOURCES = {
    ROOT: ROOT / "diffkit",
    **{path.parents[2]: path.parent for path in ROOT.glob("plugins/*/src/*/py.typed")},
}
RUN = (ROOT / ".ci/run").read_text()
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
HOOKS = ROOT / ".pre-commit-config.yaml"
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pydantic_core": "pydantic",  # Which pins it.
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

each_package = pytest.mark.parametrize("package", SOURCES, ids=lambda path: path.name)


def project(package: Path) -> dict[str, Any]:
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


def version(package: Path) -> str | None:
    found = re.search(
        r'^__version__ = "(.*)"$', (SOURCES[package] / "__init__.py").read_text(), re.M
    )
    return found and found[1]


def requirements(package: Path) -> Iterator[Requirement]:
    """With those of every extra."""
    found = project(package)
    for lines in (found["dependencies"], *found.get("optional-dependencies", {}).values()):
        yield from map(Requirement, lines)


def imported(package: Path) -> set[str]:
    modules = set()
    for path in SOURCES[package].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {SOURCES[package].name}


def test_every_package_is_seen_and_typed() -> None:
    assert set(SOURCES) == {ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))}
    assert (ROOT / "diffkit/py.typed").exists()


@each_package
def test_one_version(package: Path) -> None:
    said = {project(package).get("version"), version(package)} - {None}
    assert said == {version(ROOT)}


@each_package
def test_what_is_imported_is_declared(package: Path) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(package)}
    assert {canonicalize_name(DISTRIBUTIONS.get(n, n)) for n in imported(package)} <= declared


def test_a_lower_bound_is_the_same_in_every_package() -> None:
    bounds: dict[str, set[str]] = {}
    for requirement in (found for package in SOURCES for found in requirements(package)):
        lowest = {str(one) for one in requirement.specifier if one.operator in (">=", "==")}
        if not requirement.name.startswith(("diffkit", "types-")):
            bounds.setdefault(requirement.name, set()).add(min(lowest, default="none"))
    assert {
        name: found for name, found in bounds.items() if len(found) > 1 or "none" in found
    } == {}


@each_package
def test_the_pythons_are_those_of_the_workflow(package: Path) -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    tested = jobs["tests"]["strategy"]["matrix"]["python"]
    named = [c.rpartition(" ")[2] for c in project(package)["classifiers"] if ":: 3." in c]
    assert named == tested
    assert project(package)["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize(
    "path", [CONTRIBUTING, HOOKS, *ROOT.glob(".github/workflows/*.yml")], ids=lambda path: path.name
)
def test_a_script_is_there_with_the_step_that_is_named(path: Path) -> None:
    text = path.read_text()
    of_matrix = re.search(r"step: \[(.*)\]", text)
    text = text.replace("${{ matrix.step }}", of_matrix[1].replace(",", "") if of_matrix else "")
    named = [line.split() for line in re.findall(r"\.ci/\w+[ \w]*", text)]
    assert named
    for script, *arguments in named:
        assert (ROOT / script).stat().st_mode & 0o100, script
        if script == ".ci/run":
            assert set(arguments) <= set(re.findall(r"^(\w+)\(\)", RUN, re.M))


def test_contributing_names_every_check() -> None:
    checks = re.findall(r"^  (\.venv/bin/(?!pip).*?)(?: --quiet)?$", RUN, re.M)
    for hook in yaml.safe_load(HOOKS.read_text())["repos"][0]["hooks"]:
        if not re.match(r"\.venv/bin/(check|end)-", hook["entry"]):
            checks.append(hook["entry"].partition(" --")[0])
    text = CONTRIBUTING.read_text()
    assert [check for check in checks if check not in text] == []
