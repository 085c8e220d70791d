from __future__ import annotations

import logging
from typing import Any

import pluggy
import pytest

from diffkit.errors import ComponentError
from diffkit.plugins.hookspecs import hookimpl
from diffkit.plugins.isolation import call_each, cause_of, new_manager, register

from .fake_distributions import HOOKS, SPACING, Site, rest_works, spacing_source, texts

IMPORTS = "from diffkit.plugins.hookspecs import hookimpl\n"
REGISTER = IMPORTS + "@hookimpl\ndef diffkit_register(register):\n    "


class Listener:
    """Notes the steps it hears; raises `error` at step 1."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.heard: list[int] = []

    @hookimpl
    def diffkit_step(self, step: int) -> None:
        self.heard.append(step)
        if self.error is not None and step == 1:
            raise self.error


def call(manager: pluggy.PluginManager, step: int) -> list[tuple[str, BaseException]]:
    reports: list[tuple[str, BaseException]] = []
    arguments: dict[str, Any] = {"run": None, "step": step, "metrics": {}}
    call_each(manager, "diffkit_step", lambda _: arguments, lambda *report: reports.append(report))
    return reports


@pytest.mark.parametrize("error", [ValueError("no card"), SystemExit(3)])
def test_a_plugin_that_raises_is_out_and_the_others_are_called(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    manager = new_manager()
    listeners = {"first": Listener(), "broken": Listener(error), "last": Listener()}
    for name, listener in listeners.items():
        assert register(manager, listener, name) is None
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        reports = [report for step in (0, 1, 2) for report in call(manager, step)]
    assert reports == [("broken", error)]
    heard = {name: listener.heard for name, listener in listeners.items()}
    assert heard == {"first": [0, 1, 2], "broken": [0, 1], "last": [0, 1, 2]}
    (record,) = caplog.records
    assert "'broken'" in record.getMessage()
    assert cause_of(error) in record.getMessage()


def test_a_keyboard_interrupt_passes() -> None:
    manager = new_manager()
    register(manager, Listener(KeyboardInterrupt()), "a")
    with pytest.raises(KeyboardInterrupt):
        call(manager, 1)


def test_each_plugin_gets_its_own_arguments() -> None:
    manager = new_manager()
    one, two = Listener(), Listener()
    register(manager, one, "1")
    register(manager, two, "2")
    call_each(manager, "diffkit_step", lambda name: {"step": int(name)}, lambda *_: None)
    assert (one.heard, two.heard) == ([1], [2])


def test_a_hook_under_another_name_is_blamed_on_its_own_plugin() -> None:
    class Renamed:
        @hookimpl(specname="diffkit_step")
        def one(self) -> None:
            raise ValueError("one")

        @hookimpl(specname="diffkit_step")
        def two(self) -> None:
            raise ValueError("two")

    manager = new_manager()
    sound = Listener()
    register(manager, Renamed(), "renamed")
    register(manager, sound, "sound")
    assert [name for name, _ in call(manager, 0)] == ["renamed"]
    assert sound.heard == [0]


def test_pluggy_order_is_kept() -> None:
    order: list[str] = []

    class Normal:
        @hookimpl
        def diffkit_step(self) -> None:
            order.append("normal")

    class Early:
        @hookimpl(tryfirst=True)
        def diffkit_step(self) -> None:
            order.append("early")

    class Late:
        @hookimpl(trylast=True)
        def diffkit_step(self) -> None:
            order.append("late")

    manager = new_manager()
    for number, plugin in enumerate([Early(), Late(), Normal()]):
        register(manager, plugin, str(number))
    call(manager, 0)
    assert order == ["early", "normal", "late"]


def test_plugins_need_not_be_hashable() -> None:
    class Unhashable(Listener):
        __hash__ = None  # type: ignore[assignment]

    manager = new_manager()
    listener = Unhashable()
    assert register(manager, listener, "a") is None
    assert register(manager, Listener(), "b") is None
    assert call(manager, 0) == []
    assert listener.heard == [0]


def test_plugins_that_cannot_be_registered_leave_no_trace() -> None:
    class Unknown:
        @hookimpl
        def diffkit_stepp(self) -> None: ...

    class Argument:
        @hookimpl
        def diffkit_step(self, stepp: int) -> None: ...

    class Wrapper:
        @hookimpl(hookwrapper=True)
        def diffkit_step(self) -> Any:
            yield

    class Explosive:
        def __dir__(self) -> list[str]:
            raise SystemExit(3)

    manager = new_manager()
    problems = [
        register(manager, plugin, "x") for plugin in (Unknown(), Argument(), Wrapper(), Explosive())
    ]
    for problem, cause in zip(
        problems, ["no hook 'diffkit_stepp'", "stepp", "wrapper", "SystemExit: 3"], strict=True
    ):
        assert problem is not None
        assert cause in problem
        assert "\n" not in problem
    assert manager.list_name_plugin() == []


def test_a_second_registration_does_not_remove_the_first() -> None:
    manager = new_manager()
    first = Listener()
    assert register(manager, first, "a") is None
    for plugin, name in ((Listener(), "a"), (first, "b")):
        assert register(manager, plugin, name) == "it is registered twice, as 'a' before"
    call(manager, 0)
    assert first.heard == [0]


def test_an_optional_hook_may_be_unknown() -> None:
    class Future:
        @hookimpl(optionalhook=True)
        def diffkit_not_yet(self) -> None: ...

    assert register(new_manager(), Future(), "a") is None


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ValueError('no card')", "importing acme_hooks raised ValueError: no card"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (IMPORTS + "@hookimpl\ndef diffkit_stepp(): ...", "there is no hook 'diffkit_stepp'"),
        (IMPORTS + "@hookimpl\ndef diffkit_step(stepp): ...", "stepp"),
        (REGISTER + "raise ValueError('no card')", "diffkit_register raised ValueError: no card"),
        (REGISTER + "raise SystemExit", "diffkit_register raised SystemExit"),
        (REGISTER + "register('spicing', 'x', 'm:C')", "no kind 'spicing'; did you mean 'spacing'"),
        (REGISTER + "register('spacing', 'a.b', 'm:C')", "'a.b' must be made of"),
        (REGISTER + "register('spacing', 'x', 'm')", "must be 'module:class'"),
        (REGISTER + "register('spacing', 'x', 3)", "diffkit_register raised TypeError"),
    ],
)
def test_a_broken_hook_module_is_a_problem(site: Site, source: str, cause: str) -> None:
    site.add("diffkit-acme", "1.5", {HOOKS: {"watch": "acme_hooks"}}, acme_hooks=source)
    site.add("well", "3", {HOOKS: {"watch": "well_hooks"}}, well_hooks=REGISTER + "pass")
    host = site.host()
    assert texts(host) == []
    assert [name for name, _ in host.load_hooks()] == ["well:watch"]
    assert host.load_hooks() is host.load_hooks()
    (problem,) = texts(host)
    assert problem.startswith("diffkit-acme 1.5: ")
    assert cause in problem
    assert rest_works(host)


def test_a_component_made_at_run_time_resolves(site: Site) -> None:
    source = spacing_source("Made") + REGISTER
    source += "register('spacing', 'made', Made); register('spacing', 'far', 'acme_plugin:Far')"
    site.add(
        "acme",
        "1.5",
        {HOOKS: {"watch": "acme_hooks"}},
        acme_hooks=source,
        acme_plugin=spacing_source("Far"),
    )
    host = site.host()
    with pytest.raises(ComponentError, match=r"no spacing is called 'acme\.made'"):
        host.resolve("spacing", "acme.made")
    modules = dict(host.load_hooks())
    assert list(modules) == ["acme:watch"]
    assert "acme_plugin" not in site.imported()
    made = host.resolve("spacing", "acme.made")
    assert made.__module__ == "acme_hooks"
    assert host.resolve("spacing", "far").__module__ == "acme_plugin"
    entry = host.entry_of(made)
    assert entry is not None
    assert str(entry) == "spacing 'acme.made' of acme 1.5"
    assert texts(host) == []
    assert rest_works(host)


@pytest.mark.parametrize("clashing_before", [False, True])
def test_a_clash_that_arises_at_run_time_is_told_once(site: Site, clashing_before: bool) -> None:
    declared = {SPACING: {"mine": "acme_plugin:Mine"}}
    site.add("acme", "1.5", declared, acme_plugin=spacing_source("Mine"))
    source = spacing_source("Mine") + REGISTER + "register('spacing', 'mine', Mine)"
    groups = {HOOKS: {"watch": "late_hooks"}, **(declared if clashing_before else {})}
    site.add("diffkit-acme", "7", groups, late_hooks=source)
    host = site.host()
    assert len(host.problems) == clashing_before
    host.load_hooks()
    (problem,) = texts(host)
    assert "'acme.mine' is declared by acme 1.5 and diffkit-acme 7; uninstall all" in problem
    with pytest.raises(ComponentError, match=r"declared by acme 1\.5 and diffkit-acme 7"):
        host.resolve("spacing", "acme.mine")
    assert rest_works(host)


def test_hook_modules_of_one_namespace_do_not_displace_each_other(site: Site) -> None:
    for name, module in (("acme", "one_hooks"), ("diffkit-acme", "two_hooks")):
        site.add(name, "1.5", {HOOKS: {"watch": module}}, **{module: REGISTER + "pass"})
    host = site.host()
    assert [name for name, _ in host.load_hooks()] == ["acme:watch", "diffkit-acme:watch"]
    assert texts(host) == []


def test_hook_modules_of_a_disabled_distribution_are_not_imported(site: Site) -> None:
    site.add("acme", "1.5", {HOOKS: {"watch": "acme_hooks"}}, acme_hooks="raise ValueError")
    host = site.host(disabled=["acme"])
    assert host.hooks == ()
    assert host.load_hooks() == ()
    assert texts(host) == []
    assert "acme_hooks" not in site.imported()


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        (
            "import diffkit\n@diffkit.hookimpl\ndef diffkit_stp(): ...\n",
            "there is no hook 'diffkit_stp'; did you mean 'diffkit_step'?",
        ),
    ],
)
def test_hook_modules_left_out_are_logged(site: Site, caplog, source: str, cause: str) -> None:
    site.add("acme", "1.5", {HOOKS: {"watch": "acme_watch"}}, acme_watch=source)
    site.host().load_hooks()
    (record,) = [r for r in caplog.records if r.name == "diffkit"]
    assert record.levelname == "WARNING"
    for words in ("acme 1.5", "acme_watch", cause, "diffkit doctor"):
        assert words in record.getMessage()
