"""Run: a trained run as an argument of a component."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from diffkit.core.denoiser import Denoiser
from diffkit.core.encoder import Encoder
from diffkit.core.model import Condition, EpsilonModel, Output
from diffkit.core.process import ForwardProcess
from diffkit.errors import ComponentError


class Run:
    """A trained run as an argument of a component: a teacher, or a worse version to lead away from.

        class Distilled(Loss):
            def __init__(self, *, teacher: Run) -> None: ...
            def __call__(self, batch, context):
                told = self._teacher.denoiser(batch.condition)

    A spec names its directory: `{"id": "acme.distilled", "config": {"teacher": "runs/teacher"}}`.
    It is read when it is first asked, by the host of the pipeline that it is in, and its weights
    are those that its samples are drawn with. They are frozen, nobody trains, saves or copies them,
    and they go to where they are used.

    Args:
        directory: of the run.
        host: where its components are found; default what is installed.
    """

    named_by_directory: ClassVar[bool] = True
    """A component whose argument is one may be given its directory, in Python as in a file."""

    def __init__(self, directory: str | Path, *, host: Any = None) -> None:
        self.directory: str | None = str(directory)
        self._host = host
        self._pipeline: Any = None

    @classmethod
    def of(cls, pipeline: Any) -> Run:
        """The run that a pipeline in memory is, which no file can name; it is frozen.

        For a component's `examples`, and for trying things out.
        """
        run = cls("")
        run.directory, run._pipeline = None, _frozen(pipeline)
        return run

    def __repr__(self) -> str:
        return f"Run({self.directory!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run) or self.directory is None:
            return self is other
        return other.directory == self.directory

    def __hash__(self) -> int:
        return hash((Run, self.directory or id(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        return self

    @property
    def pipeline(self) -> Any:
        """The whole `Pipeline`. Raises CheckpointError, SpecError: it cannot be loaded."""
        if self._pipeline is None:
            # By the public name, as a plugin would: the core imports nothing that is above it.
            load = importlib.import_module("diffkit").load
            where = Path(str(self.directory)).expanduser()
            self._pipeline = _frozen(load(where, host=self._host, device="cpu"))
        return self._pipeline

    @property
    def model(self) -> EpsilonModel:
        """Its network, of the weights that its samples are drawn with: the base of another one.

        It is where it was last used; call it by `network`.
        """
        found: EpsilonModel = (self.pipeline.average or self.pipeline.system).model
        return found

    def network(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        """What `model` gives, on the device of `x` and in its precision.

        It is computed in the network's own, whatever the precision of who asks.
        """
        if x.device != self.pipeline.device:
            self.pipeline.to(x.device)
        model = self.model
        own = next((w.dtype for w in model.parameters() if w.is_floating_point()), x.dtype)
        if own == x.dtype or not x.is_floating_point():
            return cast("Tensor | Output", model(x, c_noise, condition))
        told = {name: _cast(value, own) for name, value in condition.items()}
        said = model(_cast(x, own), c_noise, told)
        if isinstance(said, Output):
            extras = {name: _cast(value, x.dtype) for name, value in said.extras.items()}
            return Output(_cast(said.output, x.dtype), extras)
        return _cast(said, x.dtype)

    def denoiser(
        self,
        condition: Condition | None = None,
        *,
        process: ForwardProcess | None = None,
        device: torch.device | str | None = None,
    ) -> Denoiser:
        """Its network as a denoiser of samples with these conditions.

        Args:
            condition: prepared, as a loss finds them in its batch; a row a sample.
            process: instead of its own; equal log-SNR is what counts.
            device: where samples are; default where the conditions are, else where it is.

        Raises:
            CheckpointError, SpecError: the run cannot be loaded.
            ComponentError: a condition that its model takes is not given.
        """
        condition, pipeline = condition or {}, self.pipeline
        _check_prepared(condition, pipeline.parts.encoder)
        where = next((value.device for value in condition.values()), device)
        if where is not None and torch.device(where) != pipeline.device:
            pipeline.to(where)
        system = pipeline.average or pipeline.system
        with torch.no_grad():
            encoded = system.encoded(condition) if pipeline.parts.taken else {}
        found: Denoiser = system.denoiser(process, encoded, network=self.network)
        return found


def _check_prepared(condition: Condition, encoder: Encoder | None) -> None:
    """Raise ComponentError where these are not what an encoder prepared."""
    raw = [name for name, value in condition.items() if not isinstance(value, Tensor)]
    groups = () if encoder is None else encoder.groups()
    missing = [name for group in groups for name in group.prepared if name not in condition]
    if raw or missing:
        raise ComponentError(
            f"run.denoiser: the conditions {', '.join(raw or missing)} are "
            f"{'no tensors' if raw else 'not given'}; give prepared ones, as a loss finds them in "
            "batch.condition, or ask run.pipeline.denoiser(condition=...), which prepares raw ones"
        )


def _frozen(pipeline: Any) -> Any:
    for system in (pipeline.system, pipeline.average):
        if system is not None:
            system.requires_grad_(False).eval()
    return pipeline


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
