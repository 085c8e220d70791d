"""A process of its own for one import: what it sees, and that it always ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial

import pytest

from diffkit.plugins import probe
from diffkit.plugins.fork_server import ForkServer

from .fake_distributions import Site

# Long enough for any machine; nothing waits for this.
LONG = 120.0


@pytest.fixture
def one_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFKIT_DISABLE", "one")


@pytest.fixture(params=["started", "forked"])
def examine_alone(request, site: Site):
    """As a process that python is started for, and as one that a server forks."""
    if request.param == "started":
        yield probe.examine_alone
        return
    if sys.platform != "linux":
        pytest.skip("processes that imported torch are forked on Linux alone")
    server = ForkServer(probe.environment(("two",)))
    assert server.ready()
    yield partial(probe.examine_alone, server=server)
    server.close()


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


def test_a_process_left_behind_does_not_hold_up_the_report(site: Site, examine_alone) -> None:
    sleep = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; "
    _module(site, sleep + "time.sleep(8)'])\n")
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG).status == "ok"
    assert time.monotonic() - start < 7


def test_a_thread_left_behind_does_not_either(site: Site, examine_alone) -> None:
    _module(site, "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()")
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG).status == "ok"
    assert time.monotonic() - start < 60


def test_a_flood_of_output_is_cut(site: Site, examine_alone) -> None:
    _module(site, "import os\nwhile True: os.write(2, b'flood ' * 1000)")
    examined = examine_alone(_task("acme_hooks"), timeout=1.0)
    assert examined.status == "hung"
    assert 1000 < len(examined.output) <= 4096


def test_the_process_has_the_same_path_and_environment(
    site: Site, one_is_disabled, examine_alone
) -> None:
    source = "import os, sys\nraise ValueError(os.environ['DIFFKIT_DISABLE'], sys.argv, sys.path)"
    _module(site, source)
    examined = examine_alone(_task("acme_hooks"), timeout=LONG, disabled=("two",))
    # Messages are one line, with single spaces.
    expected = " ".join(str(("one,two", ["diffkit"], sys.path)).split())
    assert expected in examined.message


def test_it_can_be_stopped(site: Site, examine_alone) -> None:
    _module(site, "import time; time.sleep(999)")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    assert examine_alone(_task("acme_hooks"), timeout=LONG, stop=stop).status == "hung"
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "with SIGSEGV"),
        ("import os\nos._exit(7)", "with exit code 7"),
    ],
)
def test_how_it_ended_is_told(site: Site, examine_alone, source, words) -> None:
    _module(site, source)
    examined = examine_alone(_task("acme_hooks"), timeout=LONG)
    assert (examined.status, examined.message.endswith(words)) == ("crashed", True)


@pytest.fixture
def server(site: Site):
    if sys.platform != "linux":
        pytest.skip("processes that imported torch are forked on Linux alone")
    server = ForkServer(probe.environment(()))
    assert server.ready()
    yield server
    server.close()


def test_forked_ones_have_imported_torch_and_nothing_of_each_other(site: Site, server) -> None:
    (site.folder / "acme_other.py").write_text("import colorsys")
    probe.examine_alone(_task("acme_other"), timeout=LONG, server=server)
    _module(site, "import sys\nraise ValueError('torch' in sys.modules, 'colorsys' in sys.modules)")
    said = probe.examine_alone(_task("acme_hooks"), timeout=LONG, server=server)
    assert "(True, False)" in said.message


def test_without_its_server_a_process_is_started(site: Site, server) -> None:
    _module(site, "import sys\nraise ValueError('torch' in sys.modules)")
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    said = probe.examine_alone(_task("acme_hooks"), timeout=LONG, server=server)
    assert (said.status, "ValueError: False" in said.message) == ("broken", True)
