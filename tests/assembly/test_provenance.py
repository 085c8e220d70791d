"""A saved spec says every component in full, those within others too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.cosine import Cosine
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.schedules.zero_terminal import ZeroTerminal
from diffkit.bundled.weightings.min_snr import MinSNR
from diffkit.errors import SpecError

SPEC: dict[str, Any] = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "parameterization": "velocity",
    "data": {"shape": [2]},
}
OTHERS = """
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.weighting import Weighting
from diffkit.core.sampler import Sampler


class Linear(NoiseSchedule):
    t_min = 0.1
    def log_snr(self, t): raise NotImplementedError
    def time_at(self, log_snr): raise NotImplementedError


class MinSnr(Weighting):
    error = "epsilon"
    def weight(self, log_snr): raise NotImplementedError


class Ddpm(Sampler):
    def trajectory(self, denoiser, x, times, noise, inputs): raise NotImplementedError
"""
NESTED = """
import torch
from diffkit.core.weighting import Weighting


class Nest(Weighting):
    error = "epsilon"
    def __init__(self, *, inner: Weighting | None = None, all: tuple[Weighting, ...] = (),
                 named: dict[str, Weighting] = {}) -> None:
        pass
    def weight(self, log_snr): return torch.ones_like(log_snr)
"""


def _is_full(data: Any) -> bool:
    """Whether every `{id, config}` in it has an id with a namespace."""
    if isinstance(data, dict):
        said = "config" not in data or "." in data["id"]
        return said and all(map(_is_full, data.values()))
    return all(map(_is_full, data)) if isinstance(data, list) else True


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": {"id": "zero-terminal", "config": {"schedule": "linear"}}},
        {"schedule": ZeroTerminal(schedule=Linear())},
        {"loss": {"id": "simple", "config": {"weighting": "min-snr"}}},
        {"loss": Simple(weighting=MinSNR())},
    ],
)
def test_a_saved_spec_loads_once_others_have_the_same_names(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    built = diffkit.build({**SPEC, **change})
    built.save(tmp_path / "run")
    others = tmp_path / "others.py"
    others.write_text(OTHERS)
    loaded = diffkit.load(tmp_path / "run", host=diffkit.Host(plugin_files=[others]))
    assert loaded.spec == built.spec
    assert _is_full(built.spec.model_dump(mode="json"))
    t = torch.linspace(0.1, 1.0, 5, dtype=torch.float64)
    assert torch.equal(loaded.parts.schedule.log_snr(t), built.parts.schedule.log_snr(t))


def test_every_default_of_a_nested_component_is_written(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(NESTED)
    nest = {"id": "nest", "config": {"inner": "nest", "all": ["p2", "none"], "named": {"a": "p2"}}}
    loss = {"id": "simple", "config": {"weighting": nest}}
    built = diffkit.build({**SPEC, "loss": loss}, host=diffkit.Host(plugin_files=[plugin]))
    p2 = {"id": "diffkit.p2", "config": {"gamma": 1.0, "k": 1.0}}
    unweighted = {"id": "diffkit.none", "config": {}}
    empty = {"inner": None, "all": [], "named": {}}
    assert built.spec.loss.config["weighting"] == {
        "id": "local.nest",
        "config": {
            "inner": {"id": "local.nest", "config": empty},
            "all": [p2, unweighted],
            "named": {"a": p2},
        },
    }


def test_components_nest_as_deep_as_can_be_saved_and_no_deeper(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(NESTED)
    host = diffkit.Host(plugin_files=[plugin])

    def nested(depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {"id": "local.nest"}
        for _ in range(depth - 1):
            found = {"id": "local.nest", "config": {"inner": found}}
        return {**SPEC, "loss": {"id": "simple", "config": {"weighting": found}}}

    built = diffkit.build(nested(30), host=host)
    built.save(tmp_path / "run")
    assert diffkit.load(tmp_path / "run", host=host).spec == built.spec
    for depth in (40, 60, 2000):
        with pytest.raises(SpecError, match=r"within one another|levels deep"):
            diffkit.build(nested(depth), host=host)


def test_a_process_may_hold_the_pipelines_schedule_alone() -> None:
    schedule = ZeroTerminal(schedule=Linear())
    process = VariancePreserving(schedule=ZeroTerminal(schedule=Linear()))
    assert diffkit.build({**SPEC, "schedule": schedule, "process": process}).spec
    for other in (
        VariancePreserving(schedule=Cosine()),
        {"id": "variance-preserving", "config": {"schedule": "cosine"}},
    ):
        with pytest.raises(SpecError, match="holds a schedule of its own"):
            diffkit.build({**SPEC, "schedule": schedule, "process": other})


BROKEN = """
from diffkit.core.times import TrainingTimes


class C(TrainingTimes):
    {body}
    def draw(self, uniform, schedule): raise NotImplementedError
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def __init__(self) -> None: raise RuntimeError('boom')", "created.*boom"),
        ("@classmethod\n    def facts(cls, config): raise KeyError('x')", "facts.*KeyError"),
        ("@classmethod\n    def requires(cls, config, facts): 1 / 0", "requires raised Zero"),
    ],
)
def test_what_a_component_raises_while_it_is_asked_is_an_error_of_ours(
    tmp_path: Path, body: str, words: str
) -> None:
    (tmp_path / "c.py").write_text(BROKEN.replace("{body}", body))
    host = diffkit.Host(plugin_files=[tmp_path / "c.py"])
    with pytest.raises(SpecError, match=f"times: .*{words}") as caught:
        diffkit.build({**SPEC, "times": "local.c"}, host=host)
    assert caught.value.__cause__ is not None
