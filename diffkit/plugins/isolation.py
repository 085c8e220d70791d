"""Calling hooks so that a plugin that raises hurts nobody but itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
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
    """Register a plugin; a problem, in words, where its hooks are not ours. None if blocked too."""
    try:
        manager.register(plugin, name=name)
        for implementation in _unknown(manager, name):
            manager.unregister(name=name)
            return f"there is no hook '{implementation}'"
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        return str(error)
    return None


def call_each(
    manager: pluggy.PluginManager,
    hook: str,
    arguments: Callable[[str], dict[str, Any]],
    report: Callable[[str, BaseException], None],
) -> None:
    """Call a hook plugin by plugin, in pluggy's order; `arguments` and `report` get its name.

    A plugin that raises is unregistered and reported, and the others are called all the same.
    """
    caller = getattr(manager.hook, hook)
    for implementation in reversed(caller.get_hookimpls()):
        name = implementation.plugin_name
        others = [p for p in manager.get_plugins() if p is not implementation.plugin]
        try:
            manager.subset_hook_caller(hook, others)(**arguments(name))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            manager.unregister(name=name)
            _log.warning("plugin '%s' raised in %s and is disabled from here on", name, hook)
            report(name, error)


def _unknown(manager: pluggy.PluginManager, name: str) -> Iterable[str]:
    plugin = manager.get_plugin(name)
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            yield caller.name
