"""Distributions written by hand: a metadata folder and modules beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from diffkit.plugins.host import Host

SPACING = "diffkit.spacing.v1"
HOOKS = "diffkit.hooks.v1"
USUAL = b"the usual METADATA"


def spacing_source(class_name: str) -> str:
    """A module with one usable spacing."""
    return (
        "from diffkit.core.spacing import Spacing\n\n"
        f"class {class_name}(Spacing):\n"
        "    def times(self, steps, schedule):\n"
        "        return (1.0, 0.0)\n"
    )


class Site:
    """A folder like site-packages. One sound distribution, `good 2.0`, is always there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self.add(
            "good",
            "2.0",
            {SPACING: {"fine": "good_plugin:Fine"}},
            good_plugin=spacing_source("Fine"),
        )

    def add(
        self,
        name: str,
        version: str,
        groups: Mapping[str, Mapping[str, str]],
        **modules: str,
    ) -> Path:
        """Install a distribution; returns its metadata folder."""
        lines: list[str] = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        return self.add_raw(name, version, "\n".join(lines).encode(), USUAL, **modules)

    def add_raw(
        self,
        name: str,
        version: str,
        entry_points: bytes,
        metadata: bytes | None = USUAL,
        **modules: str,
    ) -> Path:
        """The same from bytes; `metadata` None writes no METADATA."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata == USUAL:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        if metadata is not None:
            (info / "METADATA").write_bytes(metadata)
        (info / "entry_points.txt").write_bytes(entry_points)
        for module, source in modules.items():
            (self.folder / f"{module}.py").write_text(source, encoding="utf-8")
            self.modules.add(module)
        return info

    def host(self, disabled: Iterable[str] = (), plugin_files: Iterable[str | Path] = ()) -> Host:
        """A host for this folder, made without any import of what lies in it."""
        host = Host(path=[str(self.folder)], disabled=disabled, plugin_files=plugin_files)
        assert not self.imported()
        return host

    def imported(self) -> set[str]:
        """The modules of this folder that have been imported."""
        return self.modules & set(sys.modules)


def rest_works(host: Host) -> bool:
    """Whether the sound distribution is unharmed."""
    listed = "good.fine" in [entry.id for entry in host.components("spacing")]
    return listed and host.resolve("spacing", "good.fine").__name__ == "Fine"


def texts(host: Host) -> list[str]:
    """The host's problems, in words."""
    return [str(problem) for problem in host.problems]
