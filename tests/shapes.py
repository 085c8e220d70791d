"""Shape annotations checked at every call, by the switch `DIFFKIT_SHAPES=1`.

Types are imported for type checkers alone, so that importing diffkit stays quick. Here modules are
loaded with them, and each function is wrapped in jaxtyping's check: `"b *data"` names one `b` over
all arguments and the result of a call.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import jaxtyped

PACKAGES = ("diffkit.core", "diffkit.functional", "diffkit.bundled")
_SHAPED = re.compile(r"\b(Float|Float64|Int64|Bool)\[")


class _Unfolded(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        guarded = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        types = [s for s in node.body if isinstance(s, ast.ImportFrom) and s.module == "jaxtyping"]
        return [*types, node] if guarded else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.decorator_list.append(ast.Name("_checked_shapes", ast.Load()))
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)  # And never from compiled files, which hold no checks.
        tree = _Unfolded().visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["_checked_shapes"] = _checked
        super().exec_module(module)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Annotations with a shape are held against each call; the others are the type checker's."""
    shaped = {n: hint for n, hint in function.__annotations__.items() if _SHAPED.search(hint)}
    if not shaped:
        return function
    function.__annotations__ = shaped
    return jaxtyped(typechecker=beartype)(function)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(tuple(f"{package}." for package in PACKAGES)):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def check_shapes() -> None:
    """Check every call of the packages' functions from here on."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffkit"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
