"""Spec files: plain data in, plain data out."""

from __future__ import annotations

import math

import pytest

from diffkit.errors import SpecError
from diffkit.spec.files import parse_yaml, read_data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("3", 3),
        ("007", 7),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        (".inf", math.inf),
        ("[1, 2.0, x]", [1, 2.0, "x"]),
        ("0x10", "0x10"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: &x 1\nb: *x",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "1: 2",
        "a: [",
        "? [1]\n: 2",
    ],
)
def test_what_yaml_should_not_hold_is_refused(text) -> None:
    with pytest.raises((ValueError, ValueError)):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "schedule: {id: linear, config: {steps: 10, beta_last: 1e-2}}"),
        ("a.json", '{"schedule": {"id": "linear", "config": {"steps": 10, "beta_last": 0.01}}}'),
        ("a.toml", "[schedule]\nid = 'linear'\nconfig = {steps = 10, beta_last = 1e-2}"),
    ],
)
def test_the_three_formats_agree(tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text)
    expected = {"schedule": {"id": "linear", "config": {"steps": 10, "beta_last": 0.01}}}
    assert read_data(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "ends in"),
        ("a.yaml", b"- 1", "mapping"),
        ("a.yaml", b"\xff\xfe\x00", "parsed"),
        ("a.json", b'{"a": 1, "a": 2}', "twice"),
        ("a.json", b"[" * 100_000, "parsed"),
        ("a.yaml", b"[" * 20_000, "parsed"),
        ("a.toml", b"a = ", "parsed"),
        ("a.json", b" " * (1 << 21), "1 MiB"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path, name, content, words) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=words):
        read_data(tmp_path / name)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml"):
        read_data(tmp_path / "none.yaml")
