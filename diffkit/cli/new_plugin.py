"""`diffkit new-plugin`: a package of components that works as it is, to be changed."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from string import Template

import click

from diffkit import __version__
from diffkit.cli.options import UserPath, command_line, debug_option
from diffkit.plugins.discovery import CORE
from diffkit.plugins.entries import namespace_of, normalized
from diffkit.plugins.kinds import KINDS, LOCAL

EXAMPLES = {
    "schedule": ("sigmoid", "Sigmoid"),
    "process": ("rectified-flow", "RectifiedFlow"),
    "model": ("residual-mlp", "ResidualMLP"),
    "loss": ("pseudo-huber", "PseudoHuber"),
    "sampler": ("ddim", "DDIM"),
    "parameterization": ("flow", "Flow"),
    "times": ("logit-normal", "LogitNormal"),
    "weighting": ("min-snr", "MinSNR"),
    "spacing": ("power", "Power"),
    "encoder": ("class-vector", "ClassVector"),
    "guidance": ("towards", "Towards"),
    "autoencoder": ("rotation", "Rotation"),
    "dataset": ("checkerboard", "Checkerboard"),
    "features": ("projection", "Projection"),
    "metric": ("moments", "Moments"),
    "optimizer": ("lion", "Lion"),
    "learning-rate": ("trapezoid", "Trapezoid"),
    "average": ("stochastic", "Stochastic"),
    "augmentation": ("brightness", "Brightness"),
    "observer": ("patience", "Patience"),
}
"""By kind: the name and the class of the component in the kind's template."""

FURTHER = {
    "process:masking": (
        ("process", "masking", "Masking"),
        ("loss", "masked-cross-entropy", "MaskedCrossEntropy"),
        ("model", "token-mlp", "TokenMLP"),
    ),
}
"""By further template, `kind:name`: the kind, the name and the class of each component in it."""

_USAGES = {
    "weighting": "of a loss: `loss: {{id: simple, config: {{weighting: {}}}}}`",
    "optimizer": "of training: `training: {{optimizer: {}}}`",
    "learning-rate": "of training: `training: {{learning_rate: {}}}`",
    "average": "of training: `training: {{averages: {{mine: {}}}}}`",
    "augmentation": "of training: `training: {{augmentations: [{}]}}`",
    "observer": "of training: `training: {{observers: [{}]}}`",
}
"""How a component is named in a spec where its kind is no field of one."""

OFFICIAL = ("samplers", "diffusers", "guidance", "inverse", "latent")
"""The namespaces of diffkit's own plugins, which are installed on their own."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FOLDER = "templates"
_LINE = 100


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    "templates",
    multiple=True,
    required=True,
    type=click.Choice([*KINDS, *FURTHER]),
    help="A kind of component to begin with; repeatable. process:masking is of tokens, with the "
    "loss and the network that go with it.",
)
@click.option(
    "--out",
    type=UserPath(),
    metavar="DIR",
    help="The package's folder; must not exist, or be empty.  [default: diffkit-NAME]",
)
@debug_option
def command(name: str, templates: tuple[str, ...], out: Path | None) -> None:
    """Write a package of components, NAME or diffkit-NAME, that works as it is.

    It has one small component of each kind asked for, a test that runs the conformance kit on
    them, and what it takes to install and publish it.
    """
    namespace = checked_namespace(name)
    _warn_of_installed(namespace)
    folder = Path(f"diffkit-{namespace}") if out is None else out
    _check_free(folder)
    chosen = [template for template in (*KINDS, *FURTHER) if template in templates]
    files = package(namespace, chosen)
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise click.UsageError(f"--out {folder}: cannot be written: {error.strerror}") from error
    for path in files:
        click.echo(f"wrote {folder / path}")
    click.echo("\nNext:")
    for line in _next(folder, namespace, chosen[0]):
        click.echo(f"  {line}")


def checked_namespace(name: str) -> str:
    """The namespace of a plugin called `name`, with or without `diffkit-`."""
    distribution = normalized(name)
    namespace = namespace_of(distribution)
    if namespace in (CORE, LOCAL):
        raise click.UsageError(f"NAME '{name}': '{namespace}' is diffkit's own; choose another")
    if not _NAME.fullmatch(namespace):
        raise click.UsageError(
            f"NAME '{name}': a name is made of letters a-z, digits and single '-', and begins with "
            "a letter: acme, or acme-samplers"
        )
    if namespace in OFFICIAL:
        raise click.UsageError(
            f"NAME '{name}': diffkit-{namespace} is an official plugin of diffkit; choose another"
        )
    return namespace


def _warn_of_installed(namespace: str) -> None:
    try:
        found = distribution(f"diffkit-{namespace}")
    except PackageNotFoundError:
        return
    click.echo(
        f"warning: diffkit-{namespace} {found.version} is installed already, and installing the "
        "new package takes its place; choose another NAME unless it is yours",
        err=True,
    )


def package(namespace: str, templates: Sequence[str]) -> dict[str, str]:
    """The files of a package with the components of each template: path to text."""
    values = _values(namespace, templates)
    module = f"src/{values['module']}"
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        f"{module}/__init__.py": "module.py.txt",
        "tests/test_contract.py": "test_contract.py.txt",
        "README.md": "README.md.txt",
        ".gitignore": "gitignore.txt",
        ".github/workflows/test.yml": "test.yml.txt",
    }
    files = {
        path: Template(_template(source)).substitute(values) for path, source in sources.items()
    }
    return {**files, f"{module}/py.typed": "", "LICENSE": _template("LICENSE.txt")}


def parts_of(template: str) -> tuple[tuple[str, str, str], ...]:
    """The kind, the name and the class of each component in a template."""
    return FURTHER[template] if template in FURTHER else ((template, *EXAMPLES[template]),)


def _values(namespace: str, templates: Sequence[str]) -> dict[str, str]:
    module = f"diffkit_{namespace.replace('-', '_')}"
    parts = [part for template in templates for part in parts_of(template)]
    entry_points: dict[str, list[str]] = defaultdict(list)
    for kind, name, class_name in parts:
        group = f'[project.entry-points."{KINDS[kind].group}"]'
        entry_points[group].append(f'{name} = "{module}:{class_name}"')
    groups = ["\n".join([group, *lines]) for group, lines in entry_points.items()]
    table = [f"| {kind} | `{namespace}.{name}` | `{cls}` |" for kind, name, cls in parts]
    imports, body = _composed(templates)
    return {
        "distribution": f"diffkit-{namespace}",
        "namespace": namespace,
        "module": module,
        "diffkit": __version__,
        "entry_points": "\n\n".join(groups),
        "table": "\n".join(table),
        "usage": _usage(namespace, templates[0]),
        "imports": imports,
        "body": body,
    }


def _usage(namespace: str, template: str) -> str:
    parts = [(kind, f"{namespace}.{name}") for kind, name, _ in parts_of(template)]
    kind, full_id = parts[0]
    if kind in _USAGES:
        return f"In a spec, {_USAGES[kind].format(full_id)}."
    return f"In a spec: {', '.join(f'`{kind}: {full_id}`' for kind, full_id in parts)}."


def _template(name: str) -> str:
    return resources.files("diffkit.cli").joinpath(_FOLDER, name).read_text(encoding="utf-8")


def _composed(templates: Sequence[str]) -> tuple[str, str]:
    """The imports of several templates as one sorted block, and the rest of them, one by one."""
    whole: set[str] = set()
    names: dict[str, set[str]] = defaultdict(set)
    bodies = []
    for template in templates:
        text = _template(f"{re.sub('[-:]', '_', template)}.py.txt")
        imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in imports:
            found = {alias.name for alias in node.names}
            if isinstance(node, ast.Import):
                whole |= found
            else:
                names[str(node.module)] |= found
        end = imports[-1].end_lineno
        bodies.append("\n".join(text.splitlines()[end:]).strip("\n"))
    # Formatters want one line more between imports and a class.
    gap = "\n" if bodies[0].startswith(("class ", "@")) else ""
    return _import_block(whole, names), gap + "\n\n\n".join(bodies)


def _import_block(whole: set[str], names: Mapping[str, set[str]]) -> str:
    """Sorted as isort does: the standard library first, and `import x` before `from x import`."""
    lines = [(module, 0, f"import {module}") for module in whole]
    lines += [(module, 1, _from_line(module, found)) for module, found in names.items()]
    groups: dict[bool, list[tuple[int, str, str]]] = {True: [], False: []}
    for module, form, line in lines:
        standard = module.partition(".")[0] in sys.stdlib_module_names
        groups[standard].append((form, module, line))
    blocks = ("\n".join(line for *_, line in sorted(groups[key])) for key in (True, False))
    return "\n\n".join(block for block in blocks if block)


def _from_line(module: str, names: set[str]) -> str:
    ordered = sorted(names, key=_as_isort)
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in ordered), ")"])


def _as_isort(name: str) -> tuple[int, str]:
    """Constants before classes before functions, whatever the case."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name.lower()


def _next(folder: Path, namespace: str, template: str) -> list[str]:
    """The commands to type next."""
    kind, name, _ = parts_of(template)[0]
    return [
        shlex.join(["python", "-m", "pip", "install", "-e", f"{folder}[test]"]),
        command_line("show", kind, f"{namespace}.{name}"),
        command_line("check", f"{namespace}.*"),
        shlex.join(["python", "-m", "pytest", str(folder)]),
    ]


def _check_free(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "is a folder with files" if folder.is_dir() else "exists and is no folder"
        raise click.UsageError(f"--out {folder} {what}; nothing is overwritten: choose another")
