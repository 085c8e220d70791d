"""Spec files: plain data in, plain data out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffkit.config.files import parse_json, parse_toml, parse_yaml, read_data
from diffkit.errors import SpecError


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


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", b"a:\n  b: !!bool x", "this is no bool.*line 2"),
        ("a.yaml", b"a:\n  b: !!int 0x10", "this is no int.*line 2"),
        ("a.yaml", b"a:\n  b: !!float x", "this is no float.*line 2"),
        ("a.yaml", b"\na: !!timestamp 2001-01-01", "constructor for the tag.*line 2"),
        ("a.yaml", b"\na: !!binary aGk=", "constructor for the tag.*line 2"),
        ("a.yaml", b"\na: !!set {b, c}", "constructor for the tag.*line 2"),
        ("a.yaml", b"\na: " + b"1" * 5000, "this is no int.*line 2"),
        ("a.yaml", b"\na: " + b"[" * 500 + b"]" * 500, "100 levels deep.*line 2"),
        ("a.yaml", b"".join(b" " * i + b"a:\n" for i in range(200)), "levels deep.*line 10[12]"),
        ("a.yaml", b"a: 1\nb: 2\na: 3", "'a' is given twice.*line 3"),
        ("a.json", b'{\n"a": ' + b"[" * 500 + b"]" * 500 + b"}", "line 2: .* 100 levels deep"),
        ("a.json", b'{\n"a": ' + b"1" * 5000 + b"}", "line 2: a number of over"),
        ("a.toml", b"b = 1\na" + b".a" * 5000 + b" = 1", "line 2: a dotted key"),
        ("a.toml", b"b = 1\nx = {" + b"'a' . " * 100 + b"a = 1}", "line 2: a dotted key"),
        ("a.toml", b"[" + b"a." * 100 + b"a]", "line 1: a dotted key"),
        ("a.yaml", b"a: 1\nb: \xe9", "line 2 is not UTF-8"),
    ],
)
def test_what_goes_too_far_is_named_with_its_line(tmp_path, name, content, words) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=f"(?s){words}"):
        read_data(tmp_path / name)


def test_braces_dots_and_digits_in_texts_are_no_depth() -> None:
    text = "[{" * 300 + "1" * 3000
    assert parse_json(f'{{"a": "{text}\\"["}}') == {"a": f'{text}"['}
    toml = f'a = "{text}"\nb = \'{text}\'\nc = """{text}"""\n# {text}\nd = [[1], [2.5]]'
    assert parse_toml(toml)["d"] == [[1], [2.5]]
    dots = ".".join("a" * 60)
    assert list(parse_toml(f"{dots} = 1")) == ["a"]


@pytest.mark.parametrize(
    ("parse", "line", "most"),
    [
        (parse_json, lambda count: "{" + ",".join(f'"k{i}":0' for i in range(count)) + "}", 80_000),
        (parse_toml, lambda count: "".join(f"k{i}=0\n" for i in range(count)), 8_000),
        (parse_yaml, lambda count: "".join(f"k{i}: 0\n" for i in range(count)), 2_000),
        (parse_toml, lambda count: f"a = '{'x' * 100 * count}'", 8_000),
        (parse_toml, lambda count: f"{'x' * 10 * count} = 1", 40_000),
        (parse_json, lambda count: f'"{"x." * 10 * count}"', 40_000),
    ],
)
def test_reading_takes_time_in_proportion_to_the_text(
    parse: Callable[[str], object], line: Callable[[int], str], most: int
) -> None:
    def seconds(count: int) -> float:
        text, times = line(count), []
        for _ in range(2):
            start = time.process_time()
            parse(text)
            times.append(time.process_time() - start)
        return min(times)

    # Four times the keys are 16 times the comparisons, were each compared with every other.
    assert seconds(most) < 9.0 * seconds(most // 4) + 0.02


@pytest.mark.parametrize("ending", ["yaml", "toml", "json"])
def test_a_byte_order_mark_is_no_part_of_a_spec(tmp_path: Path, ending: str) -> None:
    text = {"yaml": "a: 1", "toml": "a = 1", "json": '{"a": 1}'}[ending]
    file = tmp_path / f"spec.{ending}"
    file.write_text(text, encoding="utf-8-sig")
    assert read_data(file) == {"a": 1}


def test_a_spec_is_read_from_regular_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name, words in (
        ("pipe", "no regular file"),
        ("zero", "no regular file"),
        ("loop", "symbolic links"),
        ("folder", "a folder"),
    ):
        with pytest.raises(SpecError, match=words):
            read_data(tmp_path / f"{name}.yaml")
