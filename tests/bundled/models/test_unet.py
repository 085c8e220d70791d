"""The U-Net."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffkit.bundled.models.unet import UNet
from diffkit.bundled.models.unet_blocks import AttentionBlock
from diffkit.errors import ComponentError

SMALL = {"width": 8, "groups": 4, "blocks": 1, "dropout": 0.0}


def randomised(network, seed=0):
    """Give every parameter a size, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def images(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_defaults_are_the_cifar_10_model_of_the_paper():
    with torch.device("meta"):
        network = UNet(shape=(3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == 35_746_307


@pytest.mark.parametrize(
    ("side", "attention", "expected"),
    [
        (32, None, [16, 4, 16, 16]),
        (28, None, [14, 3, 14, 14]),
        (8, None, [8, 1, 8, 8]),
        (32, (8,), [8, 4, 8, 8]),
        (32, (), [4]),
    ],
)
def test_where_attention_is(side, attention, expected):
    # One block a level on the way down, one in the middle, two on the way up.
    network = UNet(shape=(1, side, side), multipliers=(1, 1, 1, 1), attention=attention, **SMALL)
    heights = []
    for module in network.modules():
        if isinstance(module, AttentionBlock):
            module.register_forward_hook(lambda _, inputs, __: heights.append(inputs[0].shape[2]))
    network(images(1, 1, side, side), torch.tensor([10.0]), {})
    assert heights == expected


def test_weights_are_channels_last():
    network = UNet(shape=(3, 8, 8), multipliers=(1, 2), **SMALL)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@pytest.mark.parametrize(
    ("shape", "multipliers"),
    [
        ((1, 28, 28), (1, 2, 2)),
        ((1, 28, 28), (1, 1, 1, 1)),
        ((3, 7, 7), (1, 2, 2)),
        ((3, 8, 8), (1, 1, 1, 1)),
        ((2, 5, 9), (1, 2)),
        ((1, 1, 1), (1,)),
    ],
)
def test_output_has_the_shape_of_the_input(shape, multipliers):
    network = randomised(UNet(shape=shape, multipliers=multipliers, **SMALL))
    x = images(2, *shape)
    output = network(x, torch.tensor([1.0, 1000.0]), {})
    assert output.shape == x.shape
    assert output.isfinite().all()


def test_the_output_starts_at_zero():
    network = UNet(shape=(1, 8, 8), multipliers=(1, 2), **SMALL)
    output = network(images(2, 1, 8, 8), torch.tensor([3.0, 500.0]), {})
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("attention", [None, (), (8, 4)])
def test_the_gradient_reaches_every_parameter(attention):
    network = UNet(shape=(2, 8, 8), multipliers=(1, 2), attention=attention, **SMALL)
    randomised(network)
    output = network(images(3, 2, 8, 8), torch.tensor([1.0, 400.0, 1000.0]), {})
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias of the keys adds the same to every score of a query: softmax forgets it.
        gradient = parameter.grad
        if name.endswith("query_key_value.bias"):
            query, _, value = gradient.chunk(3)
            gradient = torch.cat([query, value])
        assert gradient.abs().max() > 0, name


def test_samples_do_not_see_each_other_in_evaluation():
    network = UNet(shape=(1, 8, 8), multipliers=(1, 2), **(SMALL | {"dropout": 0.5}))
    randomised(network).eval()
    x, c_noise = images(5, 1, 8, 8), torch.tensor([1.0, 10.0, 100.0, 500.0, 1000.0])
    with torch.no_grad():
        together = network(x, c_noise, {})
        for row in range(5):
            alone = network(x[row : row + 1], c_noise[row : row + 1], {})
            # float32 kernels may sum in another order.
            assert torch.allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)


def test_dropout_is_on_in_training_only():
    network = UNet(shape=(1, 8, 8), multipliers=(1,), **(SMALL | {"dropout": 0.5}))
    randomised(network)
    x, c_noise = images(1, 1, 8, 8), torch.tensor([10.0])
    with torch.no_grad():
        assert not torch.equal(network(x, c_noise, {}), network(x, c_noise, {}))
        network.eval()
        assert torch.equal(network(x, c_noise, {}), network(x, c_noise, {}))


def test_the_noise_level_matters():
    network = randomised(UNet(shape=(1, 8, 8), multipliers=(1, 2), **SMALL))
    x = images(1, 1, 8, 8)
    low, high = (network(x, torch.tensor([c]), {}) for c in (1.0, 900.0))
    assert (low - high).abs().max() > 1e-3


def test_the_input_is_not_written():
    network = randomised(UNet(shape=(1, 8, 8), multipliers=(1, 2), **SMALL))
    x = images(1, 1, 8, 8)
    kept = x.clone()
    network(x, torch.tensor([10.0]), {})
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shape": (8,)}, r"data's shape is \(8,\)"),
        ({"shape": (3, 4, 8)}, "at least 8 pixels a side, not 4x8; give at most 3 multipliers"),
        ({"shape": (3, 32, 32), "attention": (16, 10)}, r"attention at 10: .*\[32, 16, 8, 4\]"),
        ({"shape": (3, 32, 32), "width": 33, "groups": 33}, "width must be even, not 33"),
        ({"shape": (3, 32, 32), "width": 48}, "groups = 32 does not divide 48 channels"),
        ({"shape": (3, 32, 32), "heads": 3}, "heads = 3 does not divide 128 channels"),
    ],
)
def test_incompatibilities_are_named(config, message):
    with pytest.raises(ComponentError, match=message):
        UNet(**config)


def test_all_incompatibilities_are_named_at_once_and_before_anything_is_allocated():
    class Config:
        shape, multipliers, blocks, dropout = (3, 32, 32), (1, 2), 1, 0.0
        width, groups, heads, attention = 48, 32, 5, (3,)

    problems = list(UNet.requires(Config, {}))
    # One of attention, and groups and heads at each of two widths.
    assert len(problems) == 1 + 3
    Config.shape = None
    assert not list(UNet.requires(Config, {}))
