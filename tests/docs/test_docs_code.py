"""The code in the documentation runs, its specs build, and its commands exist."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

import diffkit
from diffkit.api import make
from diffkit.config.files import parse_yaml
from diffkit.plugins.host import default_host
from diffkit.plugins.kinds import COMMANDS_GROUP, HOOKS_GROUP, KINDS

ROOT = Path(__file__).parents[2]
PLUGINS = sorted((ROOT / "plugins").iterdir(), reverse=True)
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(plugin / "README.md" for plugin in PLUGINS),
]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
_FENCE = re.compile(
    r"(?P<marker><!-- not run: [^\n]+ -->\n+)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"(?:\S*/)?diffkit")


@dataclass(frozen=True)
class Block:
    """A fenced block; one with a title is the file of that name."""

    language: str
    title: str | None
    text: str
    line: int
    run: bool


def blocks_of(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            title=found["title"],
            text=found["text"],
            line=content.count("\n", 0, found.start("text")) + 1,
            run=found["marker"] is None,
        )
        for found in _FENCE.finditer(content)
    ]


def _pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(b.language in languages for b in blocks_of(page))]


def _specs_in(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "yaml" and block.run]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, on the path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    default_host.cache_clear()
    torch.set_num_threads(1)  # faster for what is so small; tests/conftest.py puts it back
    yield tmp_path
    default_host.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _install(blocks: list[Block], folder: Path) -> None:
    """Write the titled blocks, and the metadata of the package that they make."""
    for block in blocks:
        if block.title is None:
            continue
        (folder / block.title).write_text(block.text)
        if block.title == "pyproject.toml":
            _write_metadata(tomllib.loads(block.text)["project"], folder)
    importlib.invalidate_caches()


def _write_metadata(project: dict, folder: Path) -> None:
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("page", _pages_with("python"), ids=_name)
def test_python_blocks_run_in_order(page: Path, folder: Path) -> None:
    blocks = blocks_of(page)
    _install(blocks, folder)
    module = ModuleType("documented")
    sys.modules["documented"] = module
    try:
        run = [b for b in blocks if b.language == "python" and b.title is None and b.run]
        assert run
        for block in run:
            # Blank lines before it, so that a traceback shows the line of the page.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(page), "exec"), module.__dict__)
    finally:
        del sys.modules["documented"]


@pytest.mark.parametrize("page", [page for page in PAGES if _specs_in(page)], ids=_name)
def test_spec_blocks_build(page: Path, folder: Path) -> None:
    for block in _specs_in(page):
        spec = parse_yaml(block.text)
        assert "schedule" in spec, f"{page}:{block.line} is not a spec"
        diffkit.build(spec, device="cpu")


@pytest.mark.parametrize("example", EXAMPLES, ids=_name)
def test_examples_build_and_train(example: Path, folder: Path) -> None:
    """With what its comment says comes first, for a moment only."""
    spec = parse_yaml(example.read_text())
    try:
        make("dataset", spec["dataset"])
    except diffkit.DataError as error:
        pytest.skip(f"{error}: install the package that the example names")
    for line in example.read_text().splitlines():
        if line.startswith("# diffkit "):
            runner = pytest.importorskip("click.testing").CliRunner()
            cli = pytest.importorskip("diffkit.cli.main").cli
            words = [*shlex.split(line)[2:], "--steps", "1", "--batch-size", "2"]
            result = runner.invoke(cli, words)
            assert result.exit_code == 0, result.output
    pipeline = diffkit.build(spec, device="cpu")
    pipeline.train(steps=2, batch_size=2, progress=False)
    assert pipeline.sample(1, steps=2, progress=False).isfinite().all()


@pytest.mark.parametrize("page", _pages_with("toml"), ids=_name)
def test_entry_point_groups_exist(page: Path) -> None:
    known = {HOOKS_GROUP, COMMANDS_GROUP, *(kind.group for kind in KINDS.values())}
    for block in blocks_of(page):
        if block.language == "toml":
            data = tomllib.loads(block.text)
            groups = data.get("project", {}).get("entry-points", {})
            assert set(groups) <= known, f"{page}:{block.line}"


def _commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The arguments of each call of diffkit in the shell blocks, with its line."""
    for block in blocks_of(page):
        if block.language not in ("bash", "console"):
            continue
        # A line that goes on in the next one is one command.
        for offset, line in enumerate(block.text.replace("\\\n", " ").splitlines()):
            if block.language == "console" and not line.startswith("$ "):
                continue
            for part in line.removeprefix("$ ").split("&&"):
                words = shlex.split(part, comments=True)
                if words and _COMMAND.fullmatch(words[0]):
                    yield block.line + offset, words[1:]


@pytest.mark.parametrize("page", _pages_with("bash", "console"), ids=_name)
def test_commands_parse(page: Path) -> None:
    """Each verb and option exists, and each value has the right type; nothing is run."""
    click = pytest.importorskip("click")
    group = pytest.importorskip("diffkit.cli.main").cli
    for line, arguments in _commands(page):
        context = click.Context(group)
        try:
            name, verb, rest = group.resolve_command(context, arguments)
            assert verb is not None
            verb.make_context(name, rest, parent=context)
        except click.UsageError as error:
            pytest.fail(f"{_name(page)}:{line}: diffkit {shlex.join(arguments)}: {error}")


def test_readme_sets_up_with_the_two_commands() -> None:
    readme = PAGES[0].read_text()
    for command in (
        'python3.11 -m venv .venv && .venv/bin/pip install -c constraints.txt ".[demo]" '
        "&& .venv/bin/diffkit demo",
        "python3.11 -m venv .venv && .venv/bin/pip install -r requirements-dev.txt "
        "&& .venv/bin/python -m pytest -n 2",
    ):
        assert f"```bash\n{command}\n```" in readme


def test_what_is_installed_for_development_is_all_there_is() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    editable = {line.removeprefix("-e ") for line in lines if line.startswith("-e ")}
    assert editable == {".[test]", *(f"plugins/{plugin.name}[test]" for plugin in PLUGINS)}
    assert "-c constraints.txt" in lines


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#:]+)\)", PAGES[0].read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
