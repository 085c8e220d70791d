"""Every bundled component passes the kit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from diffkit.plugins.host import default_host
from diffkit.testing import Fixtures, components_under_test, parametrize_with_checks, run_checks

# Files are written by the tests of these datasets, which hold them to the same checks.
NEED_FILES = {"diffkit.idx", "diffkit.image-folder", "diffkit.npz"}
# Encoders of others: the tests of a package with some hold them to the same checks.
HOLD_OTHERS = {"diffkit.several", "diffkit.renamed"}
BUNDLED = sorted(
    {e.id for e in default_host().components() if e.origin.distribution == "diffkit"}
    - NEED_FILES
    - HOLD_OTHERS
)
SMALL = {
    "diffkit.unet": [
        {"width": 32, "multipliers": [1, 2], "blocks": 1, "groups": 8},
        {
            "width": 32,
            "multipliers": [1, 2],
            "blocks": 1,
            "groups": 8,
            "learned_variance": True,
        },
        {
            "width": 32,
            "multipliers": [1, 2],
            "blocks": 1,
            "groups": 8,
            "vector": 6,
            "tokens": 5,
        },
    ],
    "diffkit.mlp": [
        {"width": 32, "depth": 2},
        {"width": 32, "depth": 2, "learned_variance": True},
    ],
    "diffkit.elbo": [
        {},
        {"levels": None},
        {"variance": "fixed_large"},
        {"variance": "learned_range"},
    ],
    "diffkit.classifier": [{"steps": 5}],
    "diffkit.ddpm": [{}, {"variance": "fixed_large"}],
    "diffkit.linear": [{}, {"steps": 50}, {"steps": 4000, "rescale": False}],
    "diffkit.cosine": [{}, {"steps": 10}],
}


def _mask(count: int) -> torch.Tensor:
    """One token to all of them, so that rows differ."""
    return torch.arange(3) < 1 + torch.arange(count)[:, None] % 3


def _drawn(*shape: int) -> Callable[[int], torch.Tensor]:
    def draw(count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    return draw


CONDITIONS = {"vector": _drawn(6), "tokens": _drawn(3, 5), "mask": _mask}
FIXTURES = {"diffkit.unet": Fixtures(conditions=CONDITIONS)}


@parametrize_with_checks(BUNDLED, configurations=SMALL, fixtures=FIXTURES)
def test_contract(component, check) -> None:
    check(component)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_flake_under_other_seeds(seed) -> None:
    found = components_under_test(BUNDLED, configurations=SMALL, fixtures=FIXTURES)
    assert not [o.message for o in run_checks(found, seed=seed) if o.status == "failed"]


def test_nothing_is_left_out() -> None:
    pytest.importorskip("sklearn")
    assert len(BUNDLED) + len(NEED_FILES) + len(HOLD_OTHERS) == len(
        {e.id for e in default_host().components() if e.origin.distribution == "diffkit"}
    )
