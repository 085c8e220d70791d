"""The assembled components, and the one module that trains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from diffkit.assembly.components import Components
from diffkit.assembly.modules import loose_weights, make_writable, module_problems
from diffkit.assembly.network import for_training
from diffkit.config.spec import Precision
from diffkit.core.component import Component
from diffkit.core.denoiser import Denoiser, ModelDenoiser
from diffkit.core.gaussian_denoiser import GaussianDenoiser, Preconditioning
from diffkit.core.loss import Batch, LossContext, LossRecord
from diffkit.core.model import Condition, Network
from diffkit.core.noise import Noise, mix
from diffkit.core.process import ForwardProcess, GaussianProcess
from diffkit.core.times import DrawnTimes, TimesState
from diffkit.errors import ComponentError, SpecError


@dataclass(frozen=True, eq=False)
class BatchSlice:
    """Some rows of a batch, and what the times of the whole batch are drawn from.

    Tensors on the host: in a class of its own, as wrappers move those that they see to the device.
    """

    uniform: torch.Tensor
    rows: range
    learned: TimesState = field(default_factory=dict)
    seed: int = 0
    """Of further numbers for the whole batch."""

    def of_mine(self, whole: torch.Tensor, count: int) -> torch.Tensor:
        """What the first so many of these rows have of a tensor of the whole batch.

        Raises ComponentError where there are not so many.
        """
        if count > len(self.rows):
            raise ComponentError(
                f"loss: it draws for {count} samples, and its batch has {len(self.rows)}; draw "
                "for len(batch), and more than once for more numbers a sample (draw_uniform)"
            )
        return whole[self.rows.start : self.rows.start + count]


class System(nn.Module):
    """The root module: it holds every component that has parameters, and its forward is the loss.

    So one wrapper, one optimiser and one state dict serve them all.
    """

    def __init__(self, parts: Components, precision: Precision = "float32") -> None:
        super().__init__()
        self.parts = parts
        self.precision = precision
        self.model = parts.model
        others: dict[str, Component] = {}
        for name in ("encoder", "schedule", "process", "loss", "parameterization", "times"):
            component = getattr(parts, name)
            if isinstance(component, nn.Module):
                self.add_module(name, component)
            elif component is not None:
                others[name] = component
        problems = [p for n, m in self.named_children() for p in module_problems(m, n)]
        problems += [p for n, c in others.items() for p in loose_weights(c, n, self.parameters())]
        if problems:
            raise SpecError(problems)
        make_writable(self)
        self._placed = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a network without any, where `placed` put it."""
        held = (*self.parameters(), *self.buffers())
        return next((tensor.device for tensor in held), self._placed)

    def placed(self, device: str | torch.device) -> System:
        """Move the weights; returns itself."""
        self._placed = torch.device(device)
        return self.to(device)

    def forward(
        self,
        batch: Batch,
        batch_slice: BatchSlice,
        noise: Noise,
        step: int,
        average: Denoiser | None = None,
        steps: int = 0,
    ) -> LossRecord:
        """The loss of each sample, at times drawn for the whole batch that it is a share of."""

        def draw_times(count: int) -> DrawnTimes:
            drawn = self.parts.times.draw_learned(
                batch_slice.uniform, self.parts.schedule, batch_slice.learned
            )
            return DrawnTimes(*(batch_slice.of_mine(whole, count) for whole in drawn))

        calls = itertools.count()

        def draw_uniform(count: int) -> torch.Tensor:
            host = torch.Generator().manual_seed(mix(batch_slice.seed, next(calls)))
            whole = torch.rand(batch_slice.uniform.shape, generator=host, dtype=torch.float64)
            return batch_slice.of_mine(whole, count)

        network = for_training(self.parts.model, self.precision, batch.x_0.device)
        context = LossContext(
            denoiser=self.denoiser(condition=self.encoded(batch.condition), network=network),
            process=self.parts.process,
            noise=noise,
            draw_times=draw_times,
            step=step,
            average=average,
            steps=steps,
            draw_uniform=draw_uniform,
        )
        return self.parts.loss(batch, context)

    def encoded(self, prepared: Condition) -> Condition:
        """The conditions as the model takes them: encoded, or as they are where no encoder takes
        them.
        """
        encoder, passed = self.parts.encoder, self.parts.flow.passed
        if encoder is None:
            return prepared
        told = encoder({name: value for name, value in prepared.items() if name not in passed})
        return {**{name: prepared[name] for name in passed if name in prepared}, **told}

    def denoiser(
        self,
        process: ForwardProcess | None = None,
        condition: Condition | None = None,
        network: Network | None = None,
        table: Mapping[float, Preconditioning] | None = None,
    ) -> Denoiser:
        """The model as a denoiser of its own process, or of another Gaussian one.

        `network` runs the model in its place; `table` is how it is asked at the times of a
        trajectory, where they are known: see `GaussianDenoiser.table`.

        Raises:
            SpecError: the processes differ and are not both Gaussian.
            ComponentError: a condition that the model takes is not given.
        """
        parts, given = self.parts, condition or {}
        if missing := [name for name in parts.conditions if name not in given]:
            raise ComponentError(
                f"the model takes the conditions {', '.join(missing)}, which are not given; a "
                "dataset or an encoder gives them in training, condition in sampling"
            )
        taken = {name: given[name] for name in parts.conditions}
        # By identity: what stands for a network may have a length, which asks it.
        trained, model = parts.process, parts.model if network is None else network
        process = trained if process is None else process
        if isinstance(trained, GaussianProcess) and isinstance(process, GaussianProcess):
            return GaussianDenoiser(
                model,
                parts.parameterization,
                trained,
                process,
                condition=taken,
                data_range=parts.data_range,
                table=table,
                learned_variance=parts.learned_variance,
                grid=parts.model_steps,
                declared=parts.declared,
            )
        if process is not trained:
            raise SpecError(["another process can be sampled from only where both are Gaussian"])
        return ModelDenoiser(
            model, trained, condition=taken, data_range=parts.data_range, declared=parts.declared
        )
