"""Optimizer: how gradients become updates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from diffkit.core.component import Component


class Optimizer(Component):
    """Makes the optimiser of a training.

    The `lr` of each group, as made, is a multiple of the learning rate: before update n the trainer
    sets it to `multiple * rate(n)`. It is 1.0 unless groups differ; where all are below 0.05, it is
    refused, as rates that somebody meant.

    An update whose loss or gradient is not finite changes nothing. Fused optimisers of torch decide
    that on the device, by their `found_inf`; with any other the host reads the gradient's norm
    before each update, and leaves the update out.
    """

    kind: ClassVar[str] = "optimizer"

    @abstractmethod
    def make(self, named_parameters: Sequence[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """An optimiser of all of these, each once; they are those that train, with their names.

        Its state is numbers, texts, None and tensors, in mappings, lists and tuples: so checkpoints
        hold it.
        """
