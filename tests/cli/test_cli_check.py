"""`diffkit check`."""

from __future__ import annotations

import json

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
    records = json.loads(done.output)
    assert {record["id"] for record in records} == {"local.flow"}
    assert {record["status"] for record in records} == {"passed", "skipped"}
    assert all(record["message"] for record in records if record["status"] == "skipped")


def test_a_configuration(invoke) -> None:
    done = invoke("check", "diffkit.linear", "--config", "{steps: 50}", "--seed", "3")
    assert done.exit_code == 0
    assert 'diffkit.linear{"steps": 50}' in done.output


def test_mistakes_are_explained(invoke) -> None:
    for arguments, words in (
        (("diffkit.lineer",), "no component is called 'diffkit.lineer'"),
        (("diffkit.*", "--config", "{a: 1}"), "--config goes with one component"),
        (("diffkit.linear", "--config", "7"), "--config: it is a mapping"),
        (("diffkit.linear", "--kind", "model"), "none of these components"),
        (("nowhere.py",), "nowhere.py"),
    ):
        done = invoke("check", *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.output
