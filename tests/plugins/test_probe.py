"""A process of its own for one import: what it sees, and that it always ends."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from diffkit.plugins.probe import examine_alone

from .fake_distributions import Site

# Long enough for any machine; nothing waits for this.
LONG = 120.0


def _module(site: Site, source: str) -> None:
    (site.folder / "acme_hooks.py").write_text(source)


def _task(target: str) -> dict[str, str]:
    return {
        "task": "hooks",
        "name": "watch",
        "target": target,
        "distribution": "acme",
        "version": "1",
        "namespace": "acme",
    }


def test_a_process_left_behind_does_not_hold_up_the_report(site: Site) -> None:
    sleep = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; "
    _module(site, sleep + "time.sleep(8)'])\n")
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG).status == "ok"
    assert time.monotonic() - start < 7


def test_a_thread_left_behind_does_not_either(site: Site) -> None:
    _module(site, "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()")
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG).status == "ok"
    assert time.monotonic() - start < 60


def test_a_flood_of_output_is_cut(site: Site) -> None:
    _module(site, "import os\nwhile True: os.write(2, b'flood ' * 1000)")
    examined = examine_alone(_task("acme_hooks"), timeout=1.0)
    assert examined.status == "hung"
    assert 1000 < len(examined.output) <= 4096


def test_the_process_has_the_same_path_and_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFKIT_DISABLE", "one")
    source = "import os, sys\nraise ValueError(os.environ['DIFFKIT_DISABLE'], sys.argv, sys.path)"
    _module(site, source)
    examined = examine_alone(_task("acme_hooks"), timeout=LONG, disabled=("two",))
    # Messages are one line, with single spaces.
    expected = " ".join(str(("one,two", ["diffkit"], sys.path)).split())
    assert expected in examined.message


def test_it_can_be_stopped(site: Site) -> None:
    _module(site, "import time; time.sleep(999)")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG, stop=stop).status == "hung"
    assert time.monotonic() - start < 20
