"""Calling hooks so that a plugin hurts nobody but itself, whatever it does; Ctrl-C ends a run."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pluggy

from diffkit.plugins import hookspecs, surroundings

_log = logging.getLogger("diffkit")


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows diffkit's hooks."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> str | None:
    """Register a plugin; a problem, in words, where that fails or its hooks are not ours."""
    for other_name, other in manager.list_name_plugin():
        if other is not None and (other is plugin or other_name == name):
            return f"it is registered twice, as '{other_name}' before"
    try:
        manager.register(plugin, name=name)
        problem = _unfit(manager, plugin)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - pluggy reads its attributes
        problem = cause_of(error)
    if problem is not None and manager.get_plugin(name) is plugin:
        manager.unregister(name=name)
    return problem


def call_each(
    manager: pluggy.PluginManager,
    hook: str,
    arguments: Callable[[str], dict[str, Any]],
    report: Callable[[str, BaseException], None],
) -> None:
    """Call a hook plugin by plugin, in pluggy's order; `arguments` and `report` get its name.

    A plugin that raises is unregistered and reported, and the others are called all the same. Only
    a KeyboardInterrupt goes through: it is Ctrl-C, or stands for it. What a plugin changes of the
    process (`surroundings`) is put back.
    """
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        name = implementation.plugin_name
        if manager.get_plugin(name) is not implementation.plugin:
            continue  # It raised a moment ago, in another implementation of this hook.
        changed: list[str] = []
        try:
            with surroundings.kept() as changed:
                offered = arguments(name)
                result = implementation.function(*[offered[a] for a in implementation.argnames])
                _refuse_unstarted(result)
        except KeyboardInterrupt as error:
            error.add_note(f"the hook {hook} of plugin '{name}' raised it, or it came meanwhile")
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
            manager.unregister(name=name)
            cause = cause_of(error)
            _log.warning("plugin '%s' is disabled from here on: %s raised %s", name, hook, cause)
            _log.debug("where plugin '%s' raised", name, exc_info=error)
            report(name, error)
        if changed:
            what = ", ".join(changed)
            _log.warning("plugin '%s' changed %s in %s; it is put back", name, what, hook)


def cause_of(error: BaseException) -> str:
    """An error in one line: its type, and its text where it has one that can be had."""
    try:
        text = " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is somebody else's `__str__`
        text = "(its text cannot be had)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _refuse_unstarted(result: object) -> None:
    """Raise TypeError where what a hook returned shows that none of it has run."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    elif not inspect.isasyncgen(result):
        return
    raise TypeError(
        f"it returned a {type(result).__name__}, so that none of it ran; hooks are plain functions"
    )


def _unfit(manager: pluggy.PluginManager, plugin: object) -> str | None:
    """Why the hooks of a registered plugin cannot be called, if so."""
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            if not caller.has_spec() and not implementation.optionalhook:
                return f"there is no hook '{caller.name}'; {_hint(manager, caller.name)}"
            if implementation.wrapper or implementation.hookwrapper:
                return f"its {caller.name} is a wrapper; each plugin is called on its own"
            if kind := _never_runs(implementation.function):
                return f"its {caller.name} is {kind}, which is never run; make it a plain function"
    return _unmarked(manager, plugin)


def _never_runs(function: Callable[..., object]) -> str | None:
    """The kind of a function whose call does not run it, in words; None for others."""
    if inspect.iscoroutinefunction(function):
        return "a coroutine function (async def)"
    if inspect.isasyncgenfunction(function):
        return "an asynchronous generator function"
    if inspect.isgeneratorfunction(function):
        return "a generator function (it has a yield)"
    return None


def _unmarked(manager: pluggy.PluginManager, plugin: object) -> str | None:
    """Why something that is called like a hook is not called, if there is such a thing."""
    for name in _hooks(manager):
        found = inspect.getattr_static(plugin, name, None)
        if found is None or found is getattr(hookspecs, name, None):
            continue
        if manager.parse_hookimpl_opts(plugin, name) is None:
            return f"its {name} is not marked as a hook, or is no function; add @diffkit.hookimpl"
    return None


def _hooks(manager: pluggy.PluginManager) -> list[str]:
    return sorted(hook for hook, caller in vars(manager.hook).items() if caller.has_spec())


def _hint(manager: pluggy.PluginManager, name: str) -> str:
    known = _hooks(manager)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the hooks are {', '.join(known)}"
