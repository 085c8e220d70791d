"""A metric of the model itself, measured on data."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from diffkit.assembly.prepared_data import prepared
from diffkit.assembly.range_check import RangeChecked
from diffkit.assembly.system import System
from diffkit.core.clipping import Clipping
from diffkit.core.dataset import Dataset
from diffkit.core.denoiser import Denoiser
from diffkit.core.metric import Measured, ModelMetric
from diffkit.core.model import Condition, Network, Output
from diffkit.core.process import GaussianProcess


def asked_while(go_on: Callable[[], None], network: Network) -> Network:
    """The network, with a function that is called before each question and may raise."""

    def asked(x: Tensor, c_noise: Tensor, condition: Condition, /) -> Tensor | Output:
        go_on()
        return network(x, c_noise, condition)

    return asked


def measured_by_model(
    metric: ModelMetric,
    data: Dataset,
    system: System,
    network: Network,
    clipping: Clipping | None,
    seed: int,
) -> Measured:
    """The values of a metric that asks a denoiser about data, which are as the network sees them.

    Args:
        metric: what is measured.
        data: in latents where there is an autoencoder.
        system: whose conditions, process and parameterization are meant.
        network: runs its model.
        clipping: of the predictions, as in sampling.
        seed: of what the metric draws.
    """

    def denoiser(condition: Condition) -> Denoiser:
        found = system.denoiser(condition=system.encoded(condition), network=network)
        return found if clipping is None else clipping.of(found)

    read = RangeChecked(
        dataset=prepared(data, system.parts),
        data_range=system.parts.data_range,
        numbers=isinstance(system.parts.process, GaussianProcess),
    )
    return metric.measure_model(denoiser, read, seed, system.device)
