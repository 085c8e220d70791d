"""Whatever a plugin does when it is imported, it is told apart, and nothing else is harmed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkit.plugins.doctor import Diagnosis, Finding, diagnose
from diffkit.plugins.kinds import COMMANDS_GROUP

from .fake_distributions import HOOKS, SPACING, Site, spacing_source

# A child imports torch, which may take long on a busy machine; nothing waits for this.
LONG = 120.0
# Hooks modules import no torch, and a child without it needs a fraction of a second.
SHORT = 3.0

MODULES = {
    "missing": ("import not_there", "broken", "No module named 'not_there'"),
    "raises": ("raise OSError('no\\nlicence')", "broken", "OSError: no licence"),
    "leaves": ("raise SystemExit(0)", "broken", "SystemExit: 0"),
    "asks": ("input('key? ')", "broken", "EOFError"),
    "base": ("class Mine: ...", "broken", "not a subclass of diffkit.core.spacing.Spacing"),
    "empty": ("", "broken", "there is no 'Mine'"),
    "exits": ("import os; os._exit(0)", "crashed", "exit code 0"),
    "exits3": ("import os; os._exit(3)", "crashed", "exit code 3"),
    "faults": ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "aborts": ("import os; os.abort()", "crashed", "SIGABRT"),
    "prints": (
        "import os, sys\nprint('{\"error\": \"no\"}')\nos.write(1, b'\\xff\\x00' * 9)\n"
        "sys.stderr = None; sys.stdout.close(); os.chdir('/')\n" + spacing_source("Mine"),
        "ok",
        "",
    ),
    "threads": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n"
        + spacing_source("Mine"),
        "ok",
        "",
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Diagnosis, Site]]:
    """One site with everything that can be wrong with a component, diagnosed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DIFFKIT_DISABLE", raising=False)
        site = Site(tmp_path_factory.mktemp("doctor") / "site")
        patch.syspath_prepend(str(site.folder))
        for name, (source, _, _) in MODULES.items():
            module = f"doctored_{name}"
            entries = {SPACING: {"mine": f"{module}:Mine"}}
            site.add(f"acme-{name}", "1.5", entries, **{module: source})
        site.add("twin", "1", {SPACING: {"a": "good_plugin:Fine"}})
        site.add("diffkit-twin", "2", {SPACING: {"a": "good_plugin:Fine"}})
        site.add("off", "1", {SPACING: {"x": "off_x:X"}, HOOKS: {"h": "off_h"}}, off_x="1 / 0")
        site.add("future", "1", {"diffkit.spacing.v9": {"x": "future_x:X"}})
        site.add("odd", "1", {"diffkit.wheel.v1": {"x": "odd_x:X"}})
        yield diagnose(path=[str(site.folder)], disabled=("off", "nobody"), timeout=LONG), site


def _of(found: Diagnosis, distribution: str) -> Finding:
    (only,) = [f for f in found.findings if f.distribution == distribution]
    return only


@pytest.mark.parametrize("name", MODULES)
def test_each_outcome(shared: tuple[Diagnosis, Site], name: str) -> None:
    _, status, message = MODULES[name]
    finding = _of(shared[0], f"acme-{name}")
    assert (finding.status, finding.version, finding.kind) == (status, "1.5", "spacing")
    assert finding.id == f"acme-{name}.mine"
    assert message in finding.message
    assert bool(finding.advice) == bool(finding.message) == (status != "ok")
    assert finding.healthy == (status == "ok")


def test_the_others_are_ok_and_nothing_was_imported_here(
    shared: tuple[Diagnosis, Site],
) -> None:
    found, site = shared
    assert _of(found, "good").status == "ok"
    assert not site.imported()
    assert not found.healthy


def test_what_a_plugin_wrote_says_where_it_failed(shared: tuple[Diagnosis, Site]) -> None:
    assert "doctored_faults.py" in _of(shared[0], "acme-faults").output
    assert "doctored_missing.py" in _of(shared[0], "acme-missing").output
    assert _of(shared[0], "good").output == ""


def test_a_clash_names_both(shared: tuple[Diagnosis, Site]) -> None:
    for name in ("twin", "diffkit-twin"):
        finding = _of(shared[0], name)
        assert finding.status == "clash"
        assert "twin 1" in finding.message
        assert "diffkit-twin 2" in finding.message


def test_disabled_ones_are_listed_and_healthy(shared: tuple[Diagnosis, Site]) -> None:
    off = [f for f in shared[0].findings if f.distribution == "off"]
    assert [(f.kind, f.status, f.healthy) for f in off] == [
        ("spacing", "disabled", True),
        ("hooks", "disabled", True),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("future", "spacing", "interface version 9"),
        ("odd", "metadata", "no such kind"),
        ("nobody", "metadata", "it is not installed"),
    ],
)
def test_what_discovery_finds(shared: tuple[Diagnosis, Site], name, kind, message) -> None:
    finding = _of(shared[0], name)
    assert (finding.kind, finding.status) == (kind, "broken")
    assert message in finding.message
    assert finding.advice


def test_the_environment(shared: tuple[Diagnosis, Site]) -> None:
    import torch

    environment = shared[0].environment
    assert environment["torch"] == torch.__version__
    assert len(environment["devices"]) == torch.cuda.device_count()
    assert environment["python"] == sys.version.split()[0]
    assert environment["disabled"] == ["nobody", "off"]


def _hooks(site: Site, **modules: str) -> None:
    for name, source in modules.items():
        site.add(name, "1", {HOOKS: {"watch": f"{name}_hooks"}}, **{f"{name}_hooks": source})


def _diagnosed(site: Site, timeout: float = LONG, **options) -> dict[str, Finding]:
    found = diagnose(path=[str(site.folder)], timeout=timeout, **options)
    return {f.id if f.kind != "spacing" else f"spacing {f.id}": f for f in found.findings}


def test_hooks_modules(site: Site) -> None:
    hook = "import diffkit\n@diffkit.hookimpl\ndef {}: {}\n"
    announce = "register('spacing', 'late', '{}:{}')"
    _hooks(
        site,
        sound=hook.format("diffkit_step(step)", "pass"),
        faulty="import ctypes; ctypes.string_at(0)",
        unfit=hook.format("diffkit_stop(step)", "pass"),
        raising=hook.format("diffkit_register(register)", "1 / 0"),
        wrong=hook.format("diffkit_register(register)", announce.format("os", "sep")),
        kinds=hook.format("diffkit_register(register)", "register('wheel', 'a', 'b:c')"),
        making=hook.format("diffkit_register(register)", announce.format("good_plugin", "Fine")),
    )
    found = _diagnosed(site)
    assert found["sound.watch"].status == found["making.watch"].status == "ok"
    assert found["faulty.watch"].status == "crashed"
    for name, message in {
        "unfit": "there is no hook 'diffkit_stop'",
        "raising": "diffkit_register raised ZeroDivisionError",
        "wrong": "os:sep is str",
        "kinds": "there is no kind 'wheel'",
    }.items():
        assert found[f"{name}.watch"].status == "broken"
        assert message in found[f"{name}.watch"].message
    assert found["spacing good.fine"].status == "ok"


def test_a_component_announced_twice_over(site: Site) -> None:
    source = (
        "import diffkit\n\n@diffkit.hookimpl\ndef diffkit_register(register):\n"
        "    register('spacing', 'a', 'good_plugin:Fine')\n"
    )
    site.add(
        "both",
        "1",
        {SPACING: {"a": "both_a:A"}, HOOKS: {"watch": "both_hooks"}},
        both_a=spacing_source("A"),
        both_hooks=source,
    )
    found = diagnose(path=[str(site.folder)], timeout=LONG)
    clashes = [f for f in found.findings if f.status == "clash"]
    assert {f.target for f in clashes} == {"both_a:A", "good_plugin:Fine"}
    assert {f.id for f in clashes} == {"both.a"}


def _gone(pid: int) -> bool:
    """Whether a process has ended, waiting a moment for it; a zombie has."""
    for _ in range(50):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_hang_is_ended_with_all_that_it_started(site: Site, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    _hooks(
        site,
        quick="x = 1",
        slow=(
            "import pathlib, subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(999)'])\n"
            f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
            "def forever():\n    time.sleep(999)\n"
            "forever()"
        ),
    )
    found = _diagnosed(site, SHORT, disabled=("good",))
    assert found["quick.watch"].status == "ok"
    slow = found["slow.watch"]
    assert slow.status == "hung"
    assert f"{SHORT:g} seconds" in slow.message
    assert "--timeout" in slow.advice
    assert "in forever" in slow.output
    if Path("/proc").exists():
        assert _gone(int(note.read_text()))


def test_plugin_files(site: Site, tmp_path: Path) -> None:
    sources = {
        "sound.py": spacing_source("Mine"),
        "other.py": spacing_source("Mine"),
        "crashing.py": "import os; os._exit(0)",
        "empty.py": "",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
    files = [tmp_path / name for name in sources]
    found = diagnose(path=[str(site.folder)], timeout=LONG, plugin_files=files)
    by_file = {f.distribution: f for f in found.findings if f.kind == "file"}
    assert {name: f.status for name, f in by_file.items()} == {
        "sound.py": "ok",
        "other.py": "ok",
        "crashing.py": "crashed",
        "empty.py": "broken",
    }
    clashes = {f.distribution for f in found.findings if f.status == "clash"}
    assert clashes == {"sound.py", "other.py"}
    assert str(tmp_path / "crashing.py") in by_file["crashing.py"].advice


def test_a_missing_torch_is_a_finding(site: Site) -> None:
    (site.folder / "torch.py").write_text("raise ImportError('no torch here')")
    found = diagnose(path=[str(site.folder)], timeout=LONG)
    assert not found.healthy
    assert found.environment["torch"] is None
    assert "no torch here" in _of(found, "torch").message


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import diffkit.plugins.doctor, diffkit.plugins.probe_worker, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not {"torch", "pydantic", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("entry", "source", "advice"),
    [
        (
            "mine = advised:Mine",
            "class Mine: ...",
            "make it a subclass of diffkit.core.spacing.Spacing",
        ),
        (
            "mine = advised:Mine",
            "from diffkit.core.spacing import Spacing\nclass Mine(Spacing): ...",
            "define times in Mine",
        ),
        ("My.Name = advised:Mine", "", "rename the entry point 'My.Name'"),
        ("mine = advised", "", "mend the target of the entry point 'mine'"),
    ],
)
def test_advice_says_what_the_author_has_to_do(site: Site, entry, source, advice) -> None:
    site.add_raw("advised", "1", f"[{SPACING}]\n{entry}\n".encode(), advised=source)
    found = diagnose(path=[str(site.folder)], timeout=LONG)
    assert advice in _of(found, "advised").advice


def test_commands_and_what_is_left_over(site: Site) -> None:
    """A command that cannot be imported, one that is none, one of a verb's name, and a folder."""
    entries = {"paint": "acme_absent:command", "thing": "acme_cli:thing", "train": "acme_cli:c"}
    entries["sound"] = "acme_cli:sound"
    source = "import click\nthing = 3\n@click.command()\ndef sound(): ...\n"
    site.add("acme", "1", {COMMANDS_GROUP: entries}, acme_cli=source)
    (site.folder / "acme-0.9.dist-info").mkdir()
    done = diagnose(path=[str(site.folder)], timeout=LONG)
    found = {f.id: f for f in done.findings if f.kind == "command"}
    assert {name: f.status for name, f in found.items()} == {
        "acme.paint": "broken",
        "acme.sound": "ok",
        "acme.thing": "broken",
    }
    assert "No module named 'acme_absent'" in found["acme.paint"].message
    assert "name a click command" in found["acme.thing"].advice
    others = [f for f in done.findings if f.distribution == "acme" and f.kind == "metadata"]
    assert len(others) == 2
    told = " ".join(f"{f.message} {f.advice}" for f in others)
    assert "'train' is a verb" in told
    assert "rename the command 'train'" in told
    assert "left over" in told
    assert "delete that folder" in told
