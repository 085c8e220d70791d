"""What a schedule's author reads whose betas are no betas."""

from __future__ import annotations

import pytest
import torch

from diffkit.core.schedule import DiscreteSchedule
from diffkit.errors import ComponentError


@pytest.mark.parametrize(
    ("betas", "words"),
    [
        (torch.tensor([0.0, 0.1]), "beta_1 = 0 is outside .0, 1.; it has to be larger than 0"),
        (torch.tensor([0.1, -0.1]), "beta_2 = -0.1 .* larger than 0"),
        (torch.tensor([0.1, 1.5]), "beta_2 = 1.5 .* take more steps than 2, or smaller betas"),
        (torch.tensor([torch.nan]), "beta_1 = nan .* what makes it NaN"),
        ([0.1, 0.2], "betas must be a float64 tensor.* not of the type list"),
    ],
)
def test_betas_that_cannot_be(betas, words) -> None:
    class Mine(DiscreteSchedule):
        @property
        def betas(self):
            return betas

    with pytest.raises(ComponentError, match=words):
        Mine().log_snr(0.5)
