"""Configuration from `__init__` signatures, for every sort of class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import torch
from annotated_types import Ge
from torch import nn

from diffkit.config.signature import Unsaveable, reference_of, signature_of, validated
from diffkit.config.spec import ComponentSpec
from diffkit.core.component import arguments_of
from diffkit.core.data import DataShape
from diffkit.core.model import EpsilonModel
from diffkit.core.schedule import NoiseSchedule
from diffkit.core.weighting import Unweighted, Weighting
from diffkit.errors import ComponentError
from diffkit.plugins.host import Host, default_host


class _Plain(Weighting):
    def __init__(
        self,
        *,
        power: Annotated[float, Ge(0)] = 1.0,
        mode: Literal["a", "b"] = "a",
        sizes: tuple[int, ...] = (1, 2),
        inner: Weighting = Unweighted(),
        more: list[Weighting] | None = None,
    ) -> None:
        self.power = power

    def weight(self, log_snr):
        return log_snr


@dataclass(frozen=True, kw_only=True)
class _Data(Weighting):
    power: Annotated[float, Ge(0)] = 1.0

    def weight(self, log_snr):
        return log_snr


class _Module(EpsilonModel):
    def __init__(self, *, shape: DataShape, schedule: NoiseSchedule, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x, c_noise, condition):
        return x


class _Positional(Weighting):
    def __init__(self, power: float = 1.0) -> None: ...

    def weight(self, log_snr):
        return log_snr


class _Unannotated(Weighting):
    def __init__(self, *, power=1.0) -> None: ...

    def weight(self, log_snr):
        return log_snr


class _Odd(Weighting):
    def __init__(self, *, tensor: torch.Tensor) -> None: ...

    def weight(self, log_snr):
        return log_snr


def _check(component: type, config: Mapping[str, Any]) -> tuple[Any, list[str]]:
    return validated(signature_of(component, default_host()), config, "x")


@pytest.mark.parametrize("component", [_Plain, _Data])
def test_constraints_and_extra_keys(component) -> None:
    config, problems = _check(component, {"power": 2})
    assert not problems
    assert config.power == 2.0
    assert _check(component, {"power": -1})[1] == [
        "x.power = -1: input should be greater than or equal to 0"
    ]
    assert "there is no such key; the keys are power" in _check(component, {"pover": 1})[1][0]
    assert _check(component, {"power": float("nan")})[1]
    assert _check(component, {"power": "2"})[1]


def test_json_has_lists_where_python_has_tuples() -> None:
    config, problems = _check(_Plain, {"sizes": [3, 4]})
    assert not problems
    assert config.sizes == (3, 4)


def test_component_arguments_take_references() -> None:
    config, problems = _check(_Plain, {"inner": "none", "more": [{"id": "none"}, "none"]})
    assert not problems
    assert isinstance(config.inner, ComponentSpec)
    assert config.inner.kind == "weighting"
    assert [one.id for one in config.more] == ["none", "none"]
    assert _check(_Plain, {})[0].inner.id == "diffkit.none"


def test_what_the_pipeline_supplies_may_be_left_out() -> None:
    signature = signature_of(_Module, default_host())
    assert dict(signature.supplied) == {"shape": "data.shape", "schedule": "schedule"}
    assert not _check(_Module, {})[1]
    assert _check(_Module, {"shape": [0, 1]})[1]


@pytest.mark.parametrize("component", [_Positional, _Unannotated, _Odd])
def test_an_init_that_is_no_configuration_is_explained(component) -> None:
    with pytest.raises(ComponentError, match=r"keyword-only|schema"):
        signature_of(component, default_host())


def test_creation_records_the_arguments() -> None:
    sizes = [1, 2]
    assert arguments_of(_Plain(power=2.0))["power"] == 2.0
    assert arguments_of(_Data())["power"] == 1.0
    record = arguments_of(_Plain(sizes=sizes))  # type: ignore[arg-type]
    sizes.append(3)
    assert record["sizes"] == [1, 2]


def test_an_instance_that_cannot_be_named_or_written_says_why() -> None:
    with pytest.raises(Unsaveable, match="not registered"):
        reference_of(_Plain(), default_host())


def test_round_trip_of_every_bundled_component() -> None:
    host = Host()
    for entry in host.components():
        signature = signature_of(host.load(entry), host)
        schema = signature.model.model_json_schema()
        assert schema["additionalProperties"] is False
        if not any(f.is_required() for f in signature.model.model_fields.values()):
            config, problems = validated(signature, {}, entry.id)
            assert not problems
            assert config is not None
            again, _ = validated(signature, config.model_dump(mode="json"), entry.id)
            assert again == config
