"""Any network as a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, final

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffkit.core.component import Config
from diffkit.core.data import InCode
from diffkit.core.example import Example
from diffkit.core.model import Condition, EpsilonModel, Output
from diffkit.core.random_state import seeded
from diffkit.errors import ComponentError

Call = Callable[[Any, Tensor, Tensor, Condition], Tensor | Output]
"""`(network, x, c_noise, condition) -> output`."""


@final
class Wrapped(EpsilonModel):
    """A network of anybody's, as `diffkit.wrap` makes it.

    Args:
        network: the module; its parameters are trained and saved.
        call: how it is called, `(network, x, c_noise, condition) -> output`. None:
            `network(x, c_noise)`, with conditions by keyword.
        conditions: the names of the conditions that it takes.
        given: the names of tensors that may come with a question.
        times: the names of second times.
        extras: the names of what it gives beside its output.
        null: by the name of a condition, the number that fills what stands for none.
        steps: T, where it can be asked at multiples of 1/T only.
        learned_variance: whether it gives twice the channels; see `EpsilonModel`.

    Raises:
        ComponentError: the network is no module, or does not take what it would be called with;
            when it is first called, it does not look at its noise level.
    """

    def __init__(
        self,
        *,
        network: Annotated[nn.Module, InCode()],
        call: Annotated[Call | None, InCode()] = None,
        conditions: tuple[str, ...] = (),
        given: tuple[str, ...] = (),
        times: tuple[str, ...] = (),
        extras: tuple[str, ...] = (),
        null: dict[str, float] | None = None,
        steps: Annotated[int, Ge(1)] | None = None,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ComponentError(
                f"wrap: it wraps a torch.nn.Module, not a {type(network).__name__}; a function of "
                "a module is given as call"
            )
        self.network = network
        if call is None:
            _check_signature(network, (*conditions, *given, *times))
        self._call = _by_keyword if call is None else call
        self._looked_at = False

    exempt: ClassVar[Mapping[str, str]] = {
        "every_option_does_something": "its arguments describe the network, which is given beside",
    }

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """A small network."""
        return [
            Example(
                code={"network": _small_network(), "call": _flat},
            )
        ]

    @classmethod
    def facts(cls, config: Config) -> Mapping[str, Any]:
        """As it was given."""
        return {
            "conditions": tuple(config.conditions),
            "given": tuple(config.given),
            "times": tuple(config.times),
            "extras": tuple(config.extras),
            "null": dict(config.null or {}),
            "steps": config.steps,
            "learned_variance": config.learned_variance,
        }

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
        """What the network gives for `x` at noise level `c_noise`."""
        if self._looked_at or torch.compiler.is_compiling():
            return self._call(self.network, x, c_noise, condition)
        with _Uses(c_noise) as uses:
            output = self._call(self.network, x, c_noise, condition)
        if not isinstance(output, Tensor | Output):
            return output  # Its caller says what it should be.
        if not uses.found:
            raise ComponentError(
                f"wrap: {type(self.network).__name__} does not look at its noise level, c_noise, "
                "and cannot know how much noise there is; say how it is told with call, as "
                "diffkit.wrap(net, call=lambda net, x, c_noise, condition: net(x, c_noise))"
            )
        self._looked_at = True
        return output


def wrap(
    network: nn.Module,
    *,
    call: Call | None = None,
    conditions: Sequence[str] = (),
    given: Sequence[str] = (),
    times: Sequence[str] = (),
    extras: Sequence[str] = (),
    null: Mapping[str, float] | None = None,
    steps: int | None = None,
    learned_variance: bool = False,
) -> EpsilonModel:
    """Any network as the model of a pipeline: plain torch, timm, diffusers, somebody's repository.

        model = diffkit.wrap(net)                             # net(x, c_noise)
        model = diffkit.wrap(net, conditions=["label"])       # net(x, c_noise, label=...)
        model = diffkit.wrap(net, call=lambda net, x, c_noise, condition: net(x, c_noise).sample)
        pipeline = diffkit.build({..., "model": model})
        diffkit.load("run", model=diffkit.wrap(make_net()))

    `x` is `[b, *data]`, `c_noise` `[b]`, float32, and the output like `x`; each condition has a row
    a sample. A run holds the weights and the names, not the code: `diffkit.load` is given the
    network again.

    Args:
        network: the module; its parameters are trained and saved.
        call: how it is called, where that is otherwise.
        conditions: the names of the conditions that it takes.
        given: the names of tensors that may come with a question; see `EpsilonModel`.
        times: the names of second times.
        extras: the names of what it gives beside its output, in an `Output`.
        null: by the name of a condition, the number that fills what stands for none.
        steps: T, where it can be asked at multiples of 1/T only.
        learned_variance: whether it gives twice the channels.

    Raises:
        ComponentError: the network is no module, or does not take what it would be called with;
            when it is first called, it does not look at its noise level.
    """
    return Wrapped(
        network=network,
        call=call,
        conditions=_names(conditions, "conditions"),
        given=_names(given, "given"),
        times=_names(times, "times"),
        extras=_names(extras, "extras"),
        null=None if null is None else dict(null),
        steps=steps,
        learned_variance=learned_variance,
    )


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ComponentError(f"wrap: {what} = {names!r}: names are given in a list, [{names!r}]")
    return tuple(names)


def _check_signature(network: nn.Module, names: Sequence[str]) -> None:
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):
        return  # Compiled code may have none; the first call tells.
    try:
        signature.bind(None, None, **dict.fromkeys(names))
    except TypeError as error:
        asked = ", ".join(["x", "c_noise", *(f"{name}=..." for name in names)])
        raise ComponentError(
            f"wrap: {type(network).__name__} cannot be called as network({asked}): {error}; say "
            "how it is called with call, as diffkit.wrap(net, call=lambda net, x, c_noise, "
            "condition: net(x, c_noise))"
        ) from error


def _small_network() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Linear(80, 32), nn.SiLU(), nn.Linear(32, 64))


def _flat(network: Any, x: Tensor, c_noise: Tensor, _: Condition) -> Tensor:
    angles = c_noise.to(x.dtype)[:, None] / 10.0 ** (torch.arange(8) / 2)
    told = torch.cat([x.flatten(1), angles.sin(), angles.cos()], dim=1)
    output: Tensor = network(told)
    return output.reshape(x.shape)


def _by_keyword(network: Any, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor | Output:
    output: Tensor | Output = network(x, c_noise, **condition)
    return output


class _Uses(TorchFunctionMode):
    """Notes whether any function of torch's is given a tensor, whatever it computes of it.

    Unlike a gradient or a second call, that tells of integer tables and of layers that are zero at
    first, too.
    """

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self._tensor = tensor
        self.found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = (*args, *(kwargs or {}).values())
        flat = [item for v in values for item in (v if isinstance(v, list | tuple) else (v,))]
        # What only asks for a property, such as a shape, looks at nothing.
        looks = getattr(func, "__name__", "") != "__get__"
        self.found |= looks and any(item is self._tensor for item in flat)
        return func(*args, **(kwargs or {}))
