"""Official plugins use nothing that yours could not: what is promised, and no more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISED = re.findall(
    r"`(diffkit[\w.]*)`",
    "".join(
        line.partition(":")[0] + "\n"
        for line in (ROOT / "docs" / "stability.md")
        .read_text()
        .partition("## What plugins may import")[2]
        .partition("## What is not")[0]
        .splitlines()
        if line.startswith("- ")
    ),
)
SOURCES = sorted((ROOT / "plugins").glob("*/src/**/*.py"))


def imported(file: Path) -> set[str]:
    """The modules of diffkit that a file imports, with the names where those may be modules."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "diffkit"}


def promised(name: str) -> bool:
    if name.count(".") <= 1 and not name.startswith("diffkit.cli"):
        # What diffkit itself exports, and its modules.
        return name.partition(".")[2] in ("", *__import__("diffkit").__all__) or name in PROMISED
    return any(name == module or name.startswith(f"{module}.") for module in PROMISED)


def test_the_list_is_read() -> None:
    assert {"diffkit.core", "diffkit.helpers", "diffkit.cli.options"} <= set(PROMISED)
    assert not promised("diffkit.assembly.system.System")
    assert not promised("diffkit.cli.main.cli")
    assert promised("diffkit.build")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_a_plugin_imports_what_is_promised(file: Path) -> None:
    assert not [name for name in sorted(imported(file)) if not promised(name)]
