"""Where the samples of a pipeline come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diffkit.assembly.build import Assembly
from diffkit.assembly.conditions import SampleConditions, rows_of
from diffkit.assembly.network import Networks
from diffkit.assembly.system import System
from diffkit.core.clipping import Clipping
from diffkit.core.denoiser import Denoiser
from diffkit.core.model import Network
from diffkit.plugins.host import Host
from diffkit.sampling.denoisers import BatchDenoiser, clipping_of
from diffkit.sampling.options import SamplingOptions
from diffkit.sampling.plan import plan_denoisers, plan_sampling
from diffkit.sampling.run import SamplingRun
from diffkit.storage.weights import Weights


@dataclass(frozen=True)
class SampleSource:
    """A pipeline's components, its weights of the moment, and the networks that run them.

    Choices are checked already, each by itself.
    """

    assembly: Assembly
    host: Host
    weights: Weights
    networks: Networks
    trains: bool
    """Whether its training goes on, whose modes of modules are left as they are."""

    def plan(self, num: int, choices: SamplingOptions) -> SamplingRun:
        """The trajectory to so many samples. Raises SpecError, ComponentError: see the pipeline."""
        system, network = self.network(choices)
        return plan_sampling(self.assembly, self.host, system, num, choices, network)

    def denoiser(self, choices: SamplingOptions) -> Denoiser:
        """For batches of any size, guided where a guidance is chosen.

        Raises SpecError, DataError.
        """
        system, network = self.network(choices)
        _, denoisers, prepared = plan_denoisers(
            self.assembly, self.host, system, choices, network, unguided="guidance" not in choices
        )
        rows = [{n: v.to(system.device) for n, v in told.items()} for told in prepared]

        def make(count: int) -> Denoiser:
            with torch.no_grad():
                own = SampleConditions(*(rows_of(told, count) for told in rows))
                return denoisers.make({}, own, {})

        lengths = (len(value) for told in rows for value in told.values())
        return BatchDenoiser(make, system.parts.shape, max(lengths, default=1))

    def network(self, choices: SamplingOptions) -> tuple[System, Network]:
        """What samples are drawn with: an average, where there is one, and its network."""
        system, spec = self.weights.sampled(choices.get("average")), self.assembly.spec
        if not self.trains:
            system.eval()  # A loop of one's own leaves it as it trains.
        network = self.networks.of(
            system.parts.model,
            choices.get("precision") or spec.precision,
            choices.get("compile") or spec.compile,
            self.weights.system.device,
        )
        return system, network

    def clipping(self, system: System) -> Clipping | None:
        """How predictions are clipped where nothing else is chosen."""
        return clipping_of(None, self.assembly.spec.clip, system, system.parts.process)
