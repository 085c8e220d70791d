"""`from diffkit.core import ...` gives every interface, lazily."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import diffkit.core
from diffkit.plugins.kinds import KINDS


def test_each_name_is_what_its_module_has() -> None:
    for name, module in diffkit.core._HOMES.items():
        home = importlib.import_module(f"diffkit.core.{module}")
        assert getattr(diffkit.core, name) is getattr(home, name)
    assert set(diffkit.core.__all__) == diffkit.core._HOMES.keys()
    assert set(diffkit.core.__all__) <= set(dir(diffkit.core))


def test_every_interface_and_every_base_class_is_there() -> None:
    for kind in KINDS.values():
        assert kind.interface.partition(":")[2] in diffkit.core.__all__
    for module in pkgutil.iter_modules(diffkit.core.__path__):
        found = importlib.import_module(f"diffkit.core.{module.name}")
        for name, value in inspect.getmembers(found, inspect.isclass):
            if value.__module__ == found.__name__ and inspect.isabstract(value):
                assert name in diffkit.core.__all__, name


def test_it_costs_nothing_until_it_is_used() -> None:
    code = "import sys, diffkit.core; assert 'torch' not in sys.modules; diffkit.core.Sampler"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
