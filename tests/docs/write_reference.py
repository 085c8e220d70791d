"""What the documentation takes from the code: interfaces by kind, and the help of every verb.

`python tests/docs/write_reference.py` writes it into docs/kinds.md and docs/reference/cli.md;
tests/docs/test_docs_interfaces.py compares.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

from diffkit.plugins.kinds import KINDS

DOCS = Path(__file__).parents[2] / "docs"
KINDS_PAGE = DOCS / "kinds.md"
CLI_PAGE = DOCS / "reference" / "cli.md"
HELPERS = {
    "schedule": ("diffkit.core.schedule:DiscreteSchedule",),
    "process": ("diffkit.core.process:GaussianProcess",),
    "sampler": (
        "diffkit.core.sampler:StepSampler",
        "diffkit.core.gaussian_sampler:GaussianSampler",
        "diffkit.core.gaussian_sampler:GaussianStepSampler",
    ),
    "metric": ("diffkit.core.metric:SampleMetric", "diffkit.core.metric:ModelMetric"),
    "observer": ("diffkit.plugins.hookspecs:RunInfo",),
}
"""By kind: base classes that do a part of the work; and what an observer's hooks are given."""
WIDTH = 88
"""Of the help, which click would else fit to the terminal."""

_SPECIAL = ("__call__", "__len__")


def bases(kind: str) -> list[type]:
    """The base class of a kind, and its helpers."""
    found = []
    for target in (KINDS[kind].interface, *HELPERS.get(kind, ())):
        module, _, name = target.partition(":")
        found.append(getattr(importlib.import_module(module), name))
    return found


def members(base: type) -> dict[str, Any]:
    """The public methods, properties and class variables that a base class defines itself."""
    return {
        name: member
        for name, member in vars(base).items()
        if name in _SPECIAL or (not name.startswith("_") and name != "kind")
    }


def interface(kind: str) -> str:
    """A list of what each base class of a kind defines, one line each."""
    return "\n\n".join("\n".join(_lines_of(base)) for base in bases(kind) if members(base))


def signature_of(name: str, member: Any) -> str:
    """`name(argument: Type) -> Type`, as written; without `self`."""
    if isinstance(member, property):
        return f"{name} -> {_written(inspect.signature(_plain(member)).return_annotation)}"
    signature = inspect.signature(_plain(member))
    given = list(signature.parameters.values())
    if not isinstance(member, staticmethod):
        given = given[1:]  # self, or cls
    arguments = ", ".join(_argument(parameter) for parameter in given)
    return f"{name}({arguments}) -> {_written(signature.return_annotation)}"


def helps() -> dict[str, str]:
    """The help of `diffkit` (under the empty name) and of each verb; of its own verbs only."""
    from click.testing import CliRunner

    from diffkit.cli import main
    from diffkit.plugins.entries import CommandEntry

    def none() -> dict[str, CommandEntry]:
        return {}

    shown = {}
    with mock.patch.object(main, "_added", none):
        for verb in ("", *main.VERBS):
            arguments = [verb, "--help"] if verb else ["--help"]
            result = CliRunner().invoke(
                main.cli, arguments, prog_name="diffkit", terminal_width=WIDTH
            )
            assert result.exit_code == 0, result.output
            shown[verb] = result.output.rstrip()
    return shown


def blocks() -> Iterator[tuple[Path, str, str]]:
    """Every generated block: its page, its name and its text."""
    for kind in KINDS:
        yield KINDS_PAGE, f"interface {kind}", interface(kind)
    for verb, text in helps().items():
        yield CLI_PAGE, f"help {verb}".strip(), f"```text\n{text}\n```"


def written(page: Path, name: str) -> str:
    """The text between the markers of a block, as it is on the page."""
    _, _, after = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    text, ended, _ = after.partition(f"<!-- end of {name} -->")
    assert ended, f"{page.name} has no block '{name}'"
    return text.strip("\n")


def write() -> None:
    """Put every block in its place. Each page has the markers already."""
    for page, name, text in blocks():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        content = page.read_text(encoding="utf-8")
        before, _, rest = content.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{page.name} has no block '{name}'"
        page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def _lines_of(base: type) -> Iterator[str]:
    yield f"`{base.__module__}.{base.__qualname__}`:\n"
    annotations = vars(base).get("__annotations__", {})
    comments = _comments(base)
    for name, member in members(base).items():
        if isinstance(member, property | FunctionType | classmethod | staticmethod):
            notes = [note for note, holds in _notes(member).items() if holds]
            kind = f" ({', '.join(notes)})" if notes else ""
            line = f"`{signature_of(name, member)}`{kind}: {_first_paragraph(member)}"
        else:
            annotation = _written(annotations[name])
            line = f"`{name}: {annotation} = {_value(member)}`: {comments[name]}"
        yield f"- {line}".rstrip(": ")


def _notes(member: Any) -> dict[str, bool]:
    return {
        "property": isinstance(member, property),
        "class method": isinstance(member, classmethod),
        "abstract": getattr(member, "__isabstractmethod__", False),
    }


def _plain(member: Any) -> Any:
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)


def _written(annotation: str) -> str:
    """An annotation as it is in the source, where python keeps it with other quotes."""
    return annotation.replace("'", '"')


def _argument(parameter: inspect.Parameter) -> str:
    stars = "**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
    text = f"{stars}{parameter.name}: {_written(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return text
    return f"{text} = {_value(parameter.default)}"


def _value(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def _first_paragraph(member: Any) -> str:
    text = inspect.getdoc(member) or inspect.getdoc(_plain(member)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _comments(base: type) -> dict[str, str]:
    """The strings under class variables, which python does not keep."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[node.target.id] = " ".join(str(after.value.value).split())
    return found


if __name__ == "__main__":
    write()
