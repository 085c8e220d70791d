"""Other people's metadata never break a build, and are told."""

from __future__ import annotations

import importlib.metadata
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diffkit.plugins.discovery import discover
from diffkit.plugins.kinds import COMMANDS_GROUP, VERBS
from diffkit.plugins.metadata import LARGEST, unreadable_left_out

from .fake_distributions import SPACING, Site

DECLARED = f"[{SPACING}]\nmine = acme_plugin:Mine\n".encode()


def _entry_points(content: bytes) -> Callable[[Path], object]:
    return lambda info: (info / "entry_points.txt").write_bytes(content)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(info: Path) -> None:
        (info / "entry_points.txt").unlink()
        make(info / "entry_points.txt")

    return change


BROKEN: dict[str, Callable[[Path], object]] = {
    "no value": _entry_points(f"[{SPACING}]\nx\n".encode()),
    "not UTF-8": _entry_points(b"[\xff\xfe\n"),
    "open": _entry_points(f"[{SPACING}\nx = m:C\n".encode()),
    "huge": _entry_points(f"[{SPACING}]\n".encode() + b"x = m:C\n" * (LARGEST // 8)),
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "a loop": _instead(lambda path: path.symlink_to(path.name)),
    "a device": _instead(lambda path: path.symlink_to("/dev/zero")),
}


def _site(folder: Path, kind: str) -> Site:
    site = Site(folder)
    BROKEN[kind](site.add_raw("acme", "1.5", DECLARED))
    return site


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_told_and_nobody_stumbles_over_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _site(tmp_path / "site", kind)
    (problem,) = site.host().problems
    assert problem.origin.distribution == "acme"
    assert "entry_points.txt" in problem.message
    monkeypatch.syspath_prepend(str(site.folder))
    before = importlib.metadata.distributions
    with unreadable_left_out():
        # As torch and pydantic ask.
        assert "good_plugin:Fine" in {
            e.value for e in importlib.metadata.entry_points(group=SPACING)
        }
    assert importlib.metadata.distributions is before


_PIECES = (
    *(f"[{SPACING}]\n", "[diffkit.hooks.v1]\n", "[diffkit.command.v1]\n", "[console_scripts]\n"),
    *(
        "mine = acme:Mine\n",
        "x\n",
        "= y\n",
        "a = b = c\n",
        "\x00",
        "\ufeff",
        "[",
        "]",
        "\n\n",
        "#",
        ";",
    ),
    *(
        "Name: acme\n",
        "Version: 1\n",
        "Name: \n",
        "Version: 1\x1b[0m\n",
        "\n text\n",
        "é",
        "\u202e",
    ),
)


def test_sixty_pairs_of_odd_files_harm_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path / "site")
    info = site.add_raw("acme", "1.5", DECLARED)
    monkeypatch.syspath_prepend(str(site.folder))
    draw = random.Random(0)
    for _ in range(60):
        for name in ("entry_points.txt", "METADATA"):
            content = "".join(draw.choices(_PIECES, k=draw.randrange(12))).encode()
            if draw.random() < 0.2:
                content += draw.randbytes(9)
            (info / name).write_bytes(content)
        host = site.host()
        assert "good.fine" in {entry.id for entry in host.components()}
        assert all(str(problem) for problem in host.problems)
        with unreadable_left_out():
            assert importlib.metadata.entry_points(group=SPACING)


def test_nameless_folders_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path / "site")
    for name in (".dist-info", "-1.dist-info"):
        (site.folder / name).mkdir()
        (site.folder / name / "entry_points.txt").write_bytes(DECLARED)
    monkeypatch.syspath_prepend(str(site.folder))
    with unreadable_left_out():
        assert list(importlib.metadata.entry_points(group=SPACING))


def test_the_host_sees_what_others_are_spared(tmp_path: Path) -> None:
    site = _site(tmp_path / "site", "no value")
    with unreadable_left_out():
        assert len(site.host().problems) == 1


BUILD = """
import diffkit
host = diffkit.Host()
pipeline = diffkit.build({"schedule": "diffkit.cosine", "process": "diffkit.variance-preserving",
    "model": {"id": "diffkit.mlp", "config": {"width": 8, "depth": 1}}, "loss": "diffkit.simple",
    "sampler": "diffkit.ddpm", "data": {"shape": [2]}}, host=host)
print(tuple(pipeline.sample(1, steps=1, progress=False).shape), len(host.problems))
"""
VERB = "from diffkit.cli.main import main; main()"


def test_a_build_and_the_verbs_work_with_everything_broken(tmp_path: Path) -> None:
    """In processes of their own, where torch and pydantic are imported and look around."""
    site = Site(tmp_path / "site")
    for position, kind in enumerate(BROKEN):
        BROKEN[kind](site.add_raw(f"acme{position}", "1.5", DECLARED))
    environment = {**os.environ, "PYTHONPATH": str(site.folder), "OMP_NUM_THREADS": "1"}
    environment["DIFFKIT_DISABLE"] = ""
    for code, words in (
        ([BUILD], f"(1, 2) {len(BROKEN)}"),
        ([VERB, "list", "--kind", "sampler"], "diffkit.ddpm"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", *code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert words in done.stdout


def test_a_folder_left_over_hides_no_plugin(tmp_path: Path) -> None:
    """As an upgrade leaves it that was interrupted."""
    left, right = tmp_path / "left", tmp_path / "right"
    (left / "acme-0.9.dist-info").mkdir(parents=True)
    site = Site(right)
    site.add_raw("acme", "1.0", DECLARED)
    (right / "acme-0.8.dist-info").mkdir()
    (found,) = (d for d in discover([str(left), str(right)]) if d.origin.distribution == "acme")
    assert [entry.id for entry in found.components] == ["acme.mine"]
    assert found.origin.version == "1.0"
    assert len(found.problems) == 2
    assert all(
        "left over" in p.message and "delete that folder" in p.advice for p in found.problems
    )


def test_a_folder_that_is_left_over_alone_is_told_where_it_is_a_plugins(tmp_path: Path) -> None:
    (tmp_path / "diffkit_acme-0.9.dist-info").mkdir()
    (tmp_path / "numpy-0.9.dist-info").mkdir()
    (found,) = discover([str(tmp_path)])
    assert "left over" in found.problems[0].message


def test_of_two_in_one_folder_the_one_that_declares_something_counts(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.add_raw("acme", "1.0", DECLARED)
    (site.add_raw("acme", "0.9", b"") / "entry_points.txt").unlink()
    (site.add_raw("acme", "2.0", b"") / "entry_points.txt").unlink()
    (found,) = (d for d in discover([str(site.folder)]) if d.origin.distribution == "acme")
    assert found.origin.version == "1.0"


def test_a_path_that_is_searched_twice_has_nothing_left_over(site: Site) -> None:
    assert all(d.problems == () for d in discover([str(site.folder)] * 2))


def test_nobody_else_is_diffkit(tmp_path: Path) -> None:
    import diffkit

    site = Site(tmp_path / "site")
    site.add_raw("diffkit", "99", DECLARED)
    site.add_raw("diffkit", diffkit.__version__, f"[{SPACING}]\ntrailing = m:C\n".encode())
    (found,) = (d for d in discover([str(site.folder)]) if d.origin.namespace == "diffkit")
    assert [entry.id for entry in found.components] == ["diffkit.trailing"]


def test_a_version_that_would_control_the_terminal_is_refused(site: Site) -> None:
    metadata = b"Metadata-Version: 2.1\nName: acme\nVersion: 1\x1b]0;x\x07\n"
    site.add_raw("acme", "1", DECLARED, metadata)
    (problem,) = site.host().problems
    assert "\x1b" not in str(problem)


def test_no_command_takes_the_place_of_a_verb(site: Site) -> None:
    site.add("acme", "1", {COMMANDS_GROUP: {"train": "acme_cli:command", "paint": "acme_cli:c"}})
    host = site.host()
    assert list(host.commands) == ["paint"]
    (problem,) = host.problems
    assert "'train' is a verb" in problem.message
    assert "rename the command 'train'" in problem.advice


def test_every_verb_is_reserved() -> None:
    from diffkit.cli.main import cli

    modules = Path(sys.modules[cli.__module__].__file__ or "").parent.glob("*.py")
    text = {
        path.stem.replace("_", "-") for path in modules if "@click.command(" in path.read_text()
    }
    assert text == set(VERBS)
