"""`--set` reaches the components that a training is made of."""

from __future__ import annotations

import pytest

from diffkit.cli.settings import with_settings
from diffkit.errors import SpecError

RAW = {"training": {"learning_rate": 1e-3, "ema_decay": 0.99}}
EMA = {"id": "diffkit.ema", "config": {"decay": 0.99}}


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (["learning_rate=5e-4"], "learning_rate", 5e-4),
        (
            ["learning_rate.rate=5e-4"],
            "learning_rate",
            {"id": "diffkit.constant", "config": {"rate": 5e-4}},
        ),
        (
            ["optimizer.weight_decay=0.1"],
            "optimizer",
            {"id": "diffkit.adamw", "config": {"weight_decay": 0.1}},
        ),
        (["averages.ema.decay=0.5"], "averages", {"ema": {**EMA, "config": {"decay": 0.5}}}),
        (
            ["averages.power=power", "averages.power.lengths=[0.1]"],
            "averages",
            {"ema": EMA, "power": {"id": "power", "config": {"lengths": [0.1]}}},
        ),
        (["averages={}"], "averages", {}),
        (["augmentations=[flip]"], "augmentations", ["flip"]),
        (["observers.0=jsonl"], "observers", ["jsonl"]),
        (
            ["observers=[jsonl, {id: acme.stops}]", "observers.1.below=0.5"],
            "observers",
            ["jsonl", {"id": "acme.stops", "config": {"below": 0.5}}],
        ),
    ],
)
def test_each_is_changed_where_it_is(settings, field, value) -> None:
    changed = with_settings(RAW, [f"training.{setting}" for setting in settings])
    assert changed["training"][field] == value
    assert RAW["training"] == {"learning_rate": 1e-3, "ema_decay": 0.99}


@pytest.mark.parametrize(
    "setting", ["steps.x=1", "averages.none.decay=1", "optimiser=adam", "observers.1.x=2"]
)
def test_what_there_is_not_is_said(setting) -> None:
    with pytest.raises(SpecError, match=f"--set training.{setting}"):
        with_settings(RAW, [f"training.{setting}"])
