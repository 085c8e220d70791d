"""`diffkit check`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from diffkit.cli import safely

SAMPLER = '''
from diffkit.core.process import GaussianProcess
from diffkit.core.sampler import State, StepSampler


class Flow(StepSampler):
    """DDIM without noise."""

    process_class = GaussianProcess

    @property
    def order(self):
        return {order}

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        return State(denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon), s, prediction)
'''


def test_a_right_component(invoke) -> None:
    done = invoke("check", "diffkit.trailing")
    assert done.exit_code == 0
    assert "spacing diffkit.trailing\n" in done.output
    assert ", 0 failed, " in done.output


def test_a_file_with_a_mistake(invoke, tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SAMPLER.format(order=2))
    done = invoke("check", str(file))
    assert done.exit_code == 1
    assert "FAILED On a schedule even in log-SNR" in done.output
    assert "expected: 2 within 0.2" in done.output
    assert ", 1 failed, " in done.output


def test_json(invoke, tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SAMPLER.format(order=1))
    done = invoke("check", str(file), "--json")
    assert done.exit_code == 0
    records = json.loads(done.stdout)
    assert {record["id"] for record in records} == {"local.flow"}
    assert {record["status"] for record in records} == {"passed", "skipped"}
    assert all(record["message"] for record in records if record["status"] == "skipped")


def test_a_configuration(invoke) -> None:
    done = invoke("check", "diffkit.linear", "--config", "{steps: 50}", "--seed", "3")
    assert done.exit_code == 0
    assert 'diffkit.linear{"steps": 50}' in done.output


def test_mistakes_are_explained(invoke) -> None:
    for arguments, words in (
        (("diffkit.lineer",), "no component is called 'diffkit.lineer'; did you mean"),
        (("diffkit.linear", "--kind", "shedule"), "did you mean 'schedule'?"),
        (("diffkit.linear", "--disable", "diffkit"), "is disabled"),
        (("diffkit.*", "--config", "{a: 1}"), "--config goes with one component"),
        (("diffkit.linear", "--config", "7"), "--config: it is a mapping"),
        (("diffkit.linear", "--kind", "model"), "none of these components"),
        (("nowhere.py",), "nowhere.py"),
    ):
        done = invoke("check", *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output


MISSPELLED = SAMPLER.replace("def step(", "def stp(").replace("{order}", "1")
PRINTS = 'print("hello from a plugin")\n' + SAMPLER.format(order=1)
RAISES = SAMPLER.replace("prediction = denoiser(x_t, t)", 'raise KeyError("oh")')
TENSOR = SAMPLER.replace("return State(", "return (").replace(", s, prediction)", ", s)[0]")


def test_an_abstract_class_of_a_file_is_named(invoke, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(MISSPELLED + SAMPLER.format(order=1).replace("Flow", "Two"))
    done = invoke("check", tmp_path / "mine.py")
    assert done.exit_code == 2
    assert "the sampler Flow is abstract; it does not define step" in done.output


def test_a_base_class_of_a_file_is_no_component(invoke, tmp_path) -> None:
    base = "from diffkit.core.sampler import Sampler\n\nclass Base(Sampler):\n    pass\n"
    mine = SAMPLER.format(order=1).replace("(StepSampler)", "(StepSampler, Base)")
    (tmp_path / "mine.py").write_text(base + mine)
    assert invoke("check", tmp_path / "mine.py").exit_code == 0


def test_what_a_plugin_prints_is_not_in_the_json(invoke, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(PRINTS)
    done = invoke("check", tmp_path / "mine.py", "--json")
    assert json.loads(done.stdout)
    assert "hello from a plugin" in done.stderr


def test_equal_failures_are_told_once_and_with_their_place(invoke, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(RAISES.format(order=1))
    done = invoke("check", tmp_path / "mine.py")
    assert done.exit_code == 1
    assert done.output.count("KeyError: 'oh'") == 1
    assert f"it raised an exception in {tmp_path / 'mine.py'}:16, step" in done.output
    assert "more checks fail in the same way" in done.output
    assert "Traceback" not in done.output
    assert "Traceback" in invoke("check", tmp_path / "mine.py", "--debug").output


def test_a_step_has_to_return_a_state(invoke, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(TENSOR.format(order=1))
    done = invoke("check", tmp_path / "mine.py")
    assert "step must return a State" in done.output
    assert "TypeError" not in done.output


def _distribution(folder, monkeypatch, source: str) -> None:
    info = folder / "diffkit_deadly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diffkit-deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[diffkit.sampler.v1]\nflow = deadly_plugin:Flow\n")
    (folder / "deadly_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize(
    ("source", "words"),
    [("import os\nos._exit(0)\n", "exit code 0"), ("while True: pass\n", "within 3 seconds")],
)
def test_an_import_that_never_returns(invoke, tmp_path, monkeypatch, source, words) -> None:
    monkeypatch.setattr(safely, "SECONDS", 3.0)
    _distribution(tmp_path, monkeypatch, source)
    for what in ("deadly.flow", tmp_path / "deadly_plugin.py"):
        done = invoke("check", what)
        assert done.exit_code == 2
        assert words in done.output
        assert "diffkit doctor" in done.output


def test_a_plugin_is_tried_first_and_then_checked(invoke, tmp_path, monkeypatch) -> None:
    _distribution(tmp_path, monkeypatch, SAMPLER.format(order=1))
    done = invoke("check", "deadly.flow")
    assert done.exit_code == 0, done.output
    assert "importing diffkit-deadly 1.0 ..." in done.stderr
    sys.modules.pop("deadly_plugin", None)


def test_a_short_name_is_enough(invoke) -> None:
    done = invoke("check", "trailing")
    assert done.exit_code == 0
    assert "spacing diffkit.trailing" in done.output


def test_a_disabled_name_that_is_not_installed_is_reported(invoke) -> None:
    done = invoke("check", "diffkit.trailing", "--disable", "nothere")
    assert "problem: nothere: it is to be disabled, but it is not installed" in done.stderr


def test_what_could_not_be_checked_is_said_with_its_reason(invoke, tmp_path) -> None:
    # It takes a condition, and does not say of which shape.
    example = Path(__file__).parents[2] / "docs" / "examples" / "coupled_flow.py"
    file = tmp_path / "coupled_flow.py"
    file.write_text(example.read_text().replace("def examples(", "def no_examples("))
    result = invoke("check", file, "--kind", "process")
    assert result.exit_code == 0, result.output
    why = "not checked: the process takes start; give `Example(conditions={...})`"
    assert re.search(rf"^  -      \d+ laws were {re.escape(why)}$", result.stdout, re.MULTILINE)
    outcomes = json.loads(invoke("check", file, "--kind", "process", "--json").stdout)
    found = [outcome for outcome in outcomes if outcome["message"] == why]
    assert len(found) > 5
    assert {outcome["status"] for outcome in found} == {"skipped"}
