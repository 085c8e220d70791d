"""Anybody's network as a model."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn

import diffkit
from diffkit.core import Output
from diffkit.errors import ComponentError, SpecError

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 4,
    "data": {"shape": [2], "range": [-1.0, 1.0]},
}


class Net(nn.Module):
    """An ordinary module: `net(x, c_noise, label=None)`."""

    def __init__(self, width=8):
        super().__init__()
        self.inside, self.outside = nn.Linear(3, width), nn.Linear(width, 2)
        self.table = nn.Embedding(4, width)

    def forward(self, x, c_noise, label=None):
        hidden = self.inside(torch.cat([x, c_noise[:, None] / 1000], dim=1))
        if label is not None:
            hidden = hidden + self.table(label)
        return self.outside(hidden.tanh())


def in_sequence():
    net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))
    return diffkit.wrap(
        net, call=lambda net, x, c_noise, _: net(torch.cat([x, c_noise[:, None] / 1000], dim=1))
    )


def conditional():
    return diffkit.wrap(Net(), conditions=["label"])


def with_a_record():
    """A network that returns a record, as those of diffusers do."""

    class Record(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, sample, timestep):
            return {"sample": self.net(sample, timestep)}

    return diffkit.wrap(
        Record(), call=lambda net, x, c_noise, _: net(x, timestep=c_noise)["sample"]
    )


def transformer():
    body = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
    net = nn.ModuleDict({"in": nn.Linear(1, 8), "body": body, "out": nn.Linear(8, 1)})

    def call(net, x, c_noise, _):
        tokens = net["in"](torch.cat([x, c_noise[:, None] / 1000], dim=1)[..., None])
        return net["out"](net["body"](tokens, tokens[:, :2]))[..., 0]

    return diffkit.wrap(net, call=call)


def transformer_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = nn.ModuleDict(
        {"in": nn.Linear(2, 8), "body": nn.TransformerEncoder(layer, 1), "out": nn.Linear(8, 1)}
    )

    def call(net, x, c_noise, _):
        level = (c_noise[:, None] / 1000).expand_as(x)
        return net["out"](net["body"](net["in"](torch.stack([x, level], dim=2))))[..., 0]

    return diffkit.wrap(net, call=call)


def diffusers_unet():
    net = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return diffkit.wrap(net, call=lambda net, x, c_noise, _: net(x, c_noise).sample)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: diffkit.wrap(Net()), (2,)),
        (in_sequence, (2,)),
        (conditional, (2,)),
        (with_a_record, (2,)),
        (transformer, (2,)),
        (transformer_encoder, (2,)),
        (diffusers_unet, (1, 8, 8)),
    ],
)
def test_it_trains_samples_and_is_loaded_with_the_network_again(make, shape, tmp_path) -> None:
    pipeline = diffkit.build({**SPEC, "model": make(), "data": {"shape": shape}})
    before = {name: value.clone() for name, value in pipeline.system.state_dict().items()}
    data = Points(labelled=bool(pipeline.parts.conditions), shape=shape)
    options = {"batch_size": 8, "warmup_steps": 0, "log_every": 5, "checkpoint_every": 100}
    pipeline.train(data, steps=5, out=tmp_path / "run", progress=False, **options)
    after = pipeline.system.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) >= len(before) - 4  # biases that cannot matter, as of keys
    choice = {"condition": {"label": 3}} if pipeline.parts.conditions else {}
    again = diffkit.load(tmp_path / "run", model=make())
    assert torch.equal(pipeline.sample(3, **choice), again.sample(3, **choice))


class Points(diffkit.core.Dataset):
    """Points on a circle; as pictures, each pixel a coordinate of its own."""

    def __init__(self, *, labelled: bool, shape=(2,)):
        self._labelled, self._shape = labelled, shape

    @property
    def shape(self):
        return self._shape

    def __len__(self):
        return 64

    def batch(self, indices):
        rows = torch.tensor(list(indices))
        place = torch.arange(math.prod(self._shape)) * torch.pi / 2
        x = (rows[:, None] * 0.1 + place).sin().reshape(-1, *self._shape)
        return diffkit.core.Batch(x, {"label": rows % 4} if self._labelled else {})


def test_without_the_network_loading_says_what_to_give(tmp_path) -> None:
    diffkit.build({**SPEC, "model": diffkit.wrap(Net())}).save(tmp_path)
    with pytest.raises(
        SpecError, match=r"made in code.*network.*diffkit.load\(run, model=\.\.\.\)"
    ):
        diffkit.load(tmp_path)


def test_another_description_than_the_runs_is_refused(tmp_path) -> None:
    diffkit.build({**SPEC, "model": conditional()}).save(tmp_path)
    with pytest.raises(SpecError, match=r"model: the one in .*label.*and what is given"):
        diffkit.load(tmp_path, model=diffkit.wrap(Net()))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    diffkit.build({**SPEC, "model": diffkit.wrap(Net())}).save(tmp_path)
    with pytest.raises(diffkit.CheckpointError, match=r"model\.network\.inside"):
        diffkit.load(tmp_path, model=diffkit.wrap(Net(width=16)))


def test_no_file_can_name_code(tmp_path) -> None:
    """A spec cannot make the component do anything: it has no network, and no call."""
    for config in ({}, {"network": "os.system"}, {"call": "os.system"}):
        with pytest.raises(SpecError, match=r"made in code|there is no such key"):
            diffkit.build({**SPEC, "model": {"id": "wrapped", "config": config}})


# -- what is wrong is told at the first call -------------------------------------------------------


def test_a_network_that_ignores_its_noise_level_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    pipeline = diffkit.build(
        {**SPEC, "model": diffkit.wrap(net, call=lambda net, x, c_noise, _: net(x))}
    )
    before = net[0].weight.clone()
    with pytest.raises(ComponentError, match=r"Sequential does not look at its noise level"):
        pipeline.train(Points(labelled=False), steps=2, batch_size=4, progress=False)
    assert torch.equal(net[0].weight, before)


def test_looking_at_the_shape_of_a_noise_level_is_not_looking_at_it() -> None:
    net = nn.Linear(2, 2)
    model = diffkit.wrap(net, call=lambda net, x, c_noise, _: net(x) * c_noise.shape[0])
    with pytest.raises(ComponentError, match="does not look at its noise level"):
        model(torch.zeros(3, 2), torch.ones(3), {})


@pytest.mark.parametrize(
    "call",
    [
        # A table of whole numbers has no gradient, and a layer that is zero at first no output.
        lambda net, x, c_noise, _: net(x) + net.bias * torch.zeros(1000)[c_noise.long()][:, None],
        lambda net, x, c_noise, _: net(x) * torch.stack([c_noise])[0][:, None],
        lambda net, x, c_noise, _: torch.where(c_noise[:, None] > 5.0, net(x), x),
    ],
)
def test_however_a_network_looks_at_its_noise_level(call) -> None:
    model = diffkit.wrap(nn.Linear(2, 2), call=call)
    assert model(torch.zeros(3, 2), torch.ones(3), {}).shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, x, c, _: net(x)[:, :1] * c[:, None], r"shape \[4, 2\] it gives \[4, 1\]"),
        (lambda net, x, c, _: net(x).sum() * c.mean(), r"it gives \[\]"),
        (lambda net, x, c, _: (net(x) * c[:, None]).long(), r"gives int64"),
        (lambda net, x, c, _: (net(x) * c[:, None],), r"it gives tuple"),
        (lambda net, x, c, _: Output((net(x) * c[:, None])[:1]), r"it gives \[1, 2\]"),
    ],
)
def test_an_output_of_another_shape_or_dtype_is_refused(call, words) -> None:
    pipeline = diffkit.build({**SPEC, "model": diffkit.wrap(nn.Linear(2, 2), call=call)})
    with pytest.raises(ComponentError, match=words):
        pipeline.train(Points(labelled=False), steps=2, batch_size=4, progress=False)
    with pytest.raises(ComponentError, match=words):
        pipeline.sample(4)


@pytest.mark.parametrize(
    ("net", "given", "words"),
    [
        (
            nn.Sequential(nn.Linear(2, 2)),
            {},
            r"Sequential cannot .* network\(x, c_noise\): .* call",
        ),
        (Net(), {"times": ["r"]}, r"network\(x, c_noise, r=\.\.\.\): got an unexpected .* 'r'"),
        (Net(), {"conditions": "label"}, r"conditions = 'label': .* in a list, \['label'\]"),
    ],
)
def test_what_cannot_be_called_is_refused_before_it_is(net, given, words) -> None:
    with pytest.raises(ComponentError, match=words):
        diffkit.wrap(net, **given)


def test_nothing_is_no_output() -> None:
    model = diffkit.wrap(nn.Linear(2, 2), call=lambda net, x, c_noise, condition: None)
    with pytest.raises(ComponentError, match="it gives NoneType, and should give"):
        diffkit.build({**SPEC, "model": model}).sample(4)


def test_a_bare_network_in_a_spec_is_told_of_wrap() -> None:
    with pytest.raises(SpecError, match=r"model is a Net, .* diffkit.wrap\(network\)"):
        diffkit.build({**SPEC, "model": Net()})


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ComponentError, match="not a function"):
        diffkit.wrap(lambda x, c_noise: x)


def test_looking_costs_the_first_call_alone() -> None:
    model = diffkit.wrap(Net())
    seen = []
    model._call = lambda *_: seen.append(torch.overrides._get_current_function_mode()) or _[1]
    model._looked_at = True
    model(torch.zeros(1, 2), torch.ones(1), {})
    assert seen == [None]


def test_the_command_line_says_so_too(tmp_path) -> None:
    diffkit.build({**SPEC, "model": diffkit.wrap(Net())}).save(tmp_path)
    command = [
        sys.executable,
        "-m",
        "diffkit",
        "sample",
        str(tmp_path),
        "--out",
        str(tmp_path / "x.npz"),
    ]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert "made in code" in found.stderr
