"""A distribution as a plugin of pluggy's."""

from __future__ import annotations

from diffkit.plugins.discovery import Declared
from diffkit.plugins.hookspecs import Register, hookimpl


class DistributionPlugin:
    """One distribution as one pluggy plugin: it announces what the metadata declare."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared

    @hookimpl
    def diffkit_register(self, register: Register) -> None:
        """Announce every declared component."""
        for entry in self.declared.components:
            register(entry.kind, entry.name, entry.target)
