"""Autoguidance: by a worse run, of whatever schedule, with conditions read alike."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.core import Run
from diffkit_guidance.auto import Auto

from .guidance_runs import SPEC

UNET = {"width": 8, "multipliers": [1], "blocks": 1, "groups": 4, "attention": []}


def made(seed, encoder=None, **changes):
    """A pipeline whose network is far from its zeros."""
    model = {"id": "unet", "config": UNET}
    spec = {**SPEC, "model": model, "encoder": encoder, "seed": seed, **changes}
    pipeline = diffkit.build(spec, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in pipeline.system.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return pipeline


def label(classes):
    return {"id": "label", "config": {"classes": classes, "width": 8}}


def lead(folder, scale=2.0):
    return {"id": "auto", "config": {"run": str(folder), "scale": scale}}


def sampled(pipeline, guidance, **choices):
    return pipeline.sample(2, steps=4, guidance=guidance, progress=False, **choices)


def sampled_as_built(pipeline):
    return pipeline.sample(2, steps=4, progress=False)


def test_scale_zero_is_the_worse_run_of_another_schedule_and_parameterization(tmp_path):
    good = made(0, schedule="linear")
    worse = made(1, parameterization="velocity")
    worse.save(tmp_path / "worse")
    found = sampled(good, lead(tmp_path / "worse", 0.0))
    expected = worse.sample(2, steps=4, schedule="linear", progress=False)
    # Both solve for x_0 in float32, in another order.
    assert torch.allclose(found, expected, rtol=0, atol=1e-3)
    assert not torch.allclose(found, sampled(good, None), atol=1e-2)


def test_a_run_that_was_written_again_is_read_again(tmp_path):
    good = made(0)
    made(1).save(tmp_path / "worse")
    before = sampled(good, lead(tmp_path / "worse"))
    assert torch.equal(sampled(good, lead(tmp_path / "worse")), before)
    made(2).save(tmp_path / "worse")
    assert not torch.allclose(sampled(good, lead(tmp_path / "worse")), before, atol=1e-3)


OWN = """
from diffkit.bundled.models.mlp import MLP
from diffkit.core import EpsilonModel

class Mine(EpsilonModel):
    def __init__(self) -> None:
        super().__init__()
        self.inner = MLP(shape=(1, 8, 8), width=8, depth=1)

    def forward(self, x, c_noise, condition):
        return self.inner(x, c_noise, condition)
"""


def test_a_run_of_components_from_files_is_read_by_the_host_of_the_guided_one(tmp_path):
    """Alone and within another guidance, whose runs are its parts'."""
    (tmp_path / "own.py").write_text(OWN)
    host = diffkit.Host(plugin_files=[tmp_path / "own.py"])
    diffkit.build({**SPEC, "model": "local.mine"}, host=host).save(tmp_path / "worse")
    good = diffkit.build(SPEC, host=host)
    alone = lead(tmp_path / "worse")
    within = {"id": "in-turn", "config": {"guidances": [alone]}}
    assert torch.equal(sampled(good, alone), sampled(good, within))


def test_a_spec_holds_the_directory(tmp_path):
    made(1).save(tmp_path / "worse")
    spec = {**SPEC, "guidance": lead(tmp_path / "worse")}
    pipeline = diffkit.build(spec)
    saved = diffkit.load(pipeline.save(tmp_path / "good"))
    assert saved.spec.guidance.config["run"] == str(tmp_path / "worse")
    given = diffkit.build({**SPEC, "guidance": Auto(run=Run(tmp_path / "worse"))})
    assert given.spec.guidance == saved.spec.guidance
    assert torch.equal(sampled_as_built(given), sampled_as_built(saved))


def test_conditions_are_read_alike(tmp_path):
    good = made(0, label(10))
    made(1, label(10)).save(tmp_path / "alike")
    three, four = (sampled(good, lead(tmp_path / "alike"), condition={"label": n}) for n in (3, 4))
    assert not torch.allclose(three, four, atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (label(10), label(12)),
        (label(10), label(8)),
        (
            {"id": "characters", "config": {"width": 8, "depth": 1, "length": 16}},
            {"id": "characters", "config": {"width": 8, "depth": 1, "length": 24}},
        ),
    ],
    ids=["more classes", "fewer classes", "another length"],
)
def test_conditions_that_would_be_read_otherwise_are_refused(tmp_path, ours, theirs):
    good = made(0, ours)
    made(1, theirs).save(tmp_path / "other")
    given = {"label": [3]} if ours["id"] == "label" else {"caption": ["a boot"]}
    with pytest.raises(diffkit.ComponentError, match="prepared otherwise"):
        sampled(good, lead(tmp_path / "other"), condition=given)


def test_a_run_that_wants_conditions_gets_them(tmp_path):
    made(1, label(10)).save(tmp_path / "other")
    with pytest.raises(diffkit.ComponentError, match="takes the conditions label; give them"):
        sampled(made(0), lead(tmp_path / "other"))
