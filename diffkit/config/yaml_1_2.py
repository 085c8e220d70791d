"""YAML as people expect it: the scalars of version 1.2, nothing that refers, nothing twice."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml
from yaml import YAMLError

__all__ = ["YAMLError", "load"]


_MOST = 50_000
"""Keys and values; as many take about two seconds."""


def load(text: str, *, deepest: int) -> Any:
    """The value that the text is, at most so many levels deep. Raises YAMLError, with the line."""
    loader = _Loader(text, deepest)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `1e-4` is a number, `no` and `12:30` are strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way
    yaml_constructors: ClassVar[dict[str | None, Any]] = {  # Nothing but data.
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "float", "str", "seq", "map")
    }

    def __init__(self, text: str, deepest: int) -> None:
        super().__init__(text)
        self._deepest, self._depth, self._values = deepest, 0, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise _refused("aliases are not allowed", mark)
        if self._depth > self._deepest:
            raise _refused(f"it goes more than {self._deepest} levels deep", mark)
        self._values += 1
        if self._values > _MOST:
            raise _refused(f"there are more than {_MOST} values; write so many as JSON", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            tag = node.tag.rpartition(":")[2]
            raise _refused(f"this is no {tag}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"keys are strings, not {key!r}", key_node.start_mark)
            if key in seen:
                raise _refused(f"the key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refused(message: str, mark: yaml.Mark | None) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, mark)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)  # Of too many digits, a ValueError.


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
