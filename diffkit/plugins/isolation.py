"""Calling hooks so that a plugin that raises hurts nobody but itself."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from typing import Any

import pluggy

from diffkit.plugins import hookspecs

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
    except (Exception, SystemExit) as error:  # noqa: BLE001 - pluggy reads its attributes
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

    A plugin that raises is unregistered and reported, and the others are called all the same.
    """
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        name = implementation.plugin_name
        if manager.get_plugin(name) is not implementation.plugin:
            continue  # It raised a moment ago, in another implementation of this hook.
        offered = arguments(name)
        try:
            implementation.function(*[offered[argument] for argument in implementation.argnames])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            manager.unregister(name=name)
            cause = cause_of(error)
            _log.warning("plugin '%s' is disabled from here on: %s raised %s", name, hook, cause)
            _log.debug("where plugin '%s' raised", name, exc_info=error)
            report(name, error)


def cause_of(error: BaseException) -> str:
    """An error in one line: its type, and its text where it has one."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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
    return None


def _hint(manager: pluggy.PluginManager, name: str) -> str:
    known = sorted(hook for hook, caller in vars(manager.hook).items() if caller.has_spec())
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the hooks are {', '.join(known)}"
