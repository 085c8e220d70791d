"""The residual network over flat samples, and how networks are told the noise level."""

from __future__ import annotations

import math

import pytest
import torch

from diffkit.bundled.models.embedding import sinusoidal
from diffkit.bundled.models.mlp import MLP


def randomised(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def samples(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4), (1, 5, 5)])
def test_output_has_the_shape_of_the_input(shape):
    network = randomised(MLP(shape=shape, width=8, depth=2))
    x = samples(3, *shape)
    assert network(x, torch.tensor([1.0, 2.0, 1000.0]), {}).shape == x.shape


def test_the_output_starts_at_zero():
    output = MLP(shape=(2,), width=8)(samples(3, 2), torch.ones(3), {})
    assert torch.equal(output, torch.zeros(3, 2))


def test_the_gradient_reaches_every_parameter():
    network = randomised(MLP(shape=(3,), width=8, depth=3))
    network(samples(5, 3), torch.linspace(1, 1000, 5), {}).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_samples_do_not_see_each_other_in_evaluation():
    network = randomised(MLP(shape=(3,), width=8, depth=2)).eval()
    x, c_noise = samples(5, 3), torch.linspace(1, 1000, 5)
    together = network(x, c_noise, {})
    for row in range(5):
        alone = network(x[row : row + 1], c_noise[row : row + 1], {})
        # float32 kernels may sum in another order.
        assert torch.allclose(together[row], alone[0], rtol=1e-5, atol=1e-6)


def test_the_noise_level_matters():
    network = randomised(MLP(shape=(2,), width=8, depth=1))
    low, high = (network(samples(1, 2), torch.tensor([c]), {}) for c in (1.0, 900.0))
    assert (low - high).abs().max() > 1e-3


def test_it_can_learn():
    network = randomised(MLP(shape=(2,), width=16, depth=2))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, c_noise = samples(64, 2), torch.linspace(1, 1000, 64)
    goal = torch.sin(3 * x) * (c_noise / 1000)[:, None]
    losses = []
    for _ in range(100):
        loss = (network(x, c_noise, {}) - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # Far above what a sound network reaches (0.01), far below the goal's own 0.15.
    assert losses[-1] < 0.05


def test_sinusoids_are_those_of_the_paper():
    embedded = sinusoidal(torch.tensor([0.0, 7.0]), 8)
    assert embedded[0].tolist() == [0.0] * 4 + [1.0] * 4
    frequencies = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4]
    expected = [math.sin(7 * f) for f in frequencies] + [math.cos(7 * f) for f in frequencies]
    # float32 angles up to 7.
    assert embedded[1].tolist() == pytest.approx(expected, abs=2e-6)
    assert sinusoidal(torch.tensor([3.0]), 2).shape == (1, 2)


def test_every_index_has_its_own_embedding():
    embedded = sinusoidal(torch.arange(1, 1001, dtype=torch.float32), 32)
    assert torch.pdist(embedded).min() > 0.1
