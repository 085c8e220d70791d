"""The laws of networks.

Networks start with outputs of zero, which hide everything behind them: no gradient passes, and
nothing has an effect. So all but the memory laws are measured on a network whose parameters have
moved a little, as after some training. They are measured in float64 and in eval mode: what is
left of a difference there is not rounding, and nothing random is left.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffkit.core.model import EpsilonModel
from diffkit.testing.check import Check, check
from diffkit.testing.checks import model_conditions
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import require, within
from diffkit.testing.networks import (
    ROUNDING,
    ROWS,
    Input,
    asked,
    at_neighbours,
    different,
    effect_of_tokens,
    facts_of,
    input_of,
    only_changes,
    output_of,
    same,
    shares_apart,
    trained,
)


@check
def facts_are_names_and_numbers(subject: ComponentUnderTest) -> None:
    """The facts hold distinct names of conditions, and a whole number of steps if any."""
    facts = facts_of(subject)
    names, steps = facts.get("conditions", ()), facts.get("steps")
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    require(
        listed and len(set(names)) == len(names),
        "the fact 'conditions'",
        measured=repr(names),
        expected="a tuple of distinct names",
        why="a string is taken for the names of its letters",
    )
    right = steps is None or (isinstance(steps, int) and steps >= 1)
    require(right, "the fact 'steps'", measured=repr(steps), expected="None, or at least 1")


@check
def output_has_the_shape_and_dtype_of_the_input(subject: ComponentUnderTest) -> None:
    """The output has the shape of the input, of tokens any, and its dtype, for any batch size."""
    network = trained(subject)
    for dtype, count in ((torch.float64, 3), (torch.float32, 1), (torch.float32, 3)):
        given = input_of(subject, count, dtype)
        output = asked(network.to(dtype), given)
        wanted = _wanted_shape(subject, network, given)
        require(
            output.shape == wanted and output.dtype == dtype,
            f"the output for {dtype} input of the shape {tuple(given.x.shape)}",
            measured=f"{output.dtype} of the shape {tuple(output.shape)}",
            expected=f"{dtype} of the shape {tuple(wanted)}",
        )


def _wanted_shape(subject: ComponentUnderTest, network: EpsilonModel, given: Input) -> torch.Size:
    """That of the input, with twice the channels where half of them place the variance; of tokens
    that of one sample, as often.
    """
    x = given.x
    if not x.is_floating_point():
        return torch.Size((len(x), *asked(network, given.rows([0])).shape[1:]))
    channels = x.shape[1] * (2 if facts_of(subject).get("learned_variance") else 1)
    return torch.Size((x.shape[0], channels, *x.shape[2:]))


@check
def output_is_finite(subject: ComponentUnderTest) -> None:
    """The output is finite for zeros and for a hundred times data, or for each token alone."""
    network = trained(subject).float()
    given = input_of(subject, ROWS, torch.float32)
    x, vocabulary = given.x, subject.vocabulary_of(subject.cls)
    tried = {f"of scale {scale:g}": scale * x for scale in (0.0, 1.0, 100.0)}
    if vocabulary is not None:
        tried = {f"of the token {k} alone": torch.full_like(x, k) for k in range(vocabulary)}
    for what, extreme in tried.items():
        output = asked(network, replace(given, x=extreme))
        require(
            bool(output.isfinite().all()),
            f"the output in float32 for inputs {what}",
            measured=f"{int((~output.isfinite()).sum())} of {output.numel()} not finite",
            expected="all finite",
            why="a process may explode the variance, and a poor network leads far out",
        )


@check
def gradients_reach_every_parameter(subject: ComponentUnderTest) -> None:
    """The gradient of every trainable parameter is finite and somewhere not zero."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    output = output_of(network(given.x, given.c_noise, given.condition))
    weight = torch.randn(output.shape, generator=subject.generator("weight"), dtype=torch.float64)
    torch.autograd.backward((weight * output).sum())
    trainable = {n: p.grad for n, p in network.named_parameters() if p.requires_grad}
    broken = [n for n, g in trainable.items() if g is not None and not bool(g.isfinite().all())]
    require(not broken, "gradients", measured=f"not finite: {_few(broken)}", expected="finite")
    unreached = [n for n, g in trainable.items() if g is None or not bool(g.any())]
    require(
        not unreached,
        "gradients of a random combination of the outputs",
        measured=f"none or zero: {_few(unreached)}",
        expected="a gradient that is not zero for each trainable parameter",
        why="a parameter without gradient never learns, and breaks training on several devices; "
        "if it only serves larger samples, check with Fixtures of such a shape",
    )


@check
def every_coordinate_of_the_input_counts(subject: ComponentUnderTest) -> None:
    """The output depends on every coordinate of the input: differentiably, or on its token."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    tokens = not given.x.is_floating_point()
    counts = (
        effect_of_tokens(subject, network, given) if tokens else _gradient(subject, network, given)
    )
    require(
        bool((counts > 0).all()),
        f"coordinates of the input with {'an effect' if tokens else 'a gradient'} in one of "
        f"{ROWS} samples",
        measured=f"{int((counts > 0).sum())} of {counts.numel()}",
        expected="all",
        why="noise cannot be predicted from what is not looked at, and guidance needs the gradient",
    )


def _gradient(subject: ComponentUnderTest, network: EpsilonModel, given: Input) -> Tensor:
    """By coordinate, the largest gradient of a random combination of the outputs."""
    x = given.x.requires_grad_()
    output = output_of(network(x, given.c_noise, given.condition))
    weight = torch.randn(output.shape, generator=subject.generator("weight"), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * output).sum(), x, allow_unused=True)
    return torch.zeros(x[0].numel()) if gradient is None else gradient.abs().flatten(1).amax(0)


@check
def rows_do_not_see_each_other(subject: ComponentUnderTest) -> None:
    """In eval mode the output for a sample does not depend on the batch it is in."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    whole = asked(network, given)
    for row in (0, ROWS - 1):
        alone = asked(network, given.rows([row]))
        same(f"sample {row} alone, and in a batch of {ROWS}", alone, whole[[row]])
    order = [*range(1, ROWS), 0]
    same("the batch in another order", asked(network, given.rows(order)), whole[order])


@check
def noise_level_has_an_effect(subject: ComponentUnderTest) -> None:
    """The output at the smallest noise level differs from that at the largest."""
    given = input_of(subject, 2)
    output = asked(trained(subject), replace(given.rows([0, 0]), c_noise=given.c_noise))
    different("one sample at the two ends", output[:1], output[1:])


@check
def noise_level_is_per_sample(subject: ComponentUnderTest) -> None:
    """The noise level of one sample has no effect on the others."""
    network = trained(subject)
    given = input_of(subject, ROWS)
    before = asked(network, given)
    for row in (0, ROWS - 1):
        levels = given.c_noise.clone()
        levels[row] = given.c_noise[ROWS - 1 - row]
        after = asked(network, replace(given, c_noise=levels))
        only_changes(f"the noise level of sample {row}", row, before, after)


@check
def neighbouring_noise_levels_are_told_apart(subject: ComponentUnderTest) -> None:
    """Neighbours among the noise levels 1..1000 give different outputs, in mixed precision too."""
    network = trained(subject)
    given = at_neighbours(subject)
    output = asked(network, given)
    _neighbours_differ("in float64", output, given.c_noise, ROUNDING)
    with torch.autocast("cpu", torch.bfloat16):
        output = asked(network.float(), given.float())
    _neighbours_differ("under autocast", output.double(), given.c_noise, 0.0)


@check
def runs_under_autocast(subject: ComponentUnderTest) -> None:
    """Under autocast to bfloat16 output and gradients are finite, and of the right shape."""
    network = trained(subject).float()
    given = input_of(subject, ROWS, torch.float32)
    wanted = _wanted_shape(subject, network, given)
    with torch.autocast("cpu", torch.bfloat16):
        output = output_of(network(given.x, given.c_noise, given.condition))
    torch.autograd.backward(output.float().square().mean())
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    finite = all(bool(g.isfinite().all()) for g in [output, *gradients])
    require(
        output.shape == wanted and finite,
        "output and gradients under autocast",
        measured=f"the shape {tuple(output.shape)}, {'all' if finite else 'not all'} finite",
        expected=f"the shape {tuple(wanted)}, all finite",
        why="networks are trained in mixed precision",
    )


@check
def memory_layout_does_not_matter(subject: ComponentUnderTest) -> None:
    """The layout of the input in memory has no effect: strided, transposed or channels-last."""
    network = trained(subject)
    given = input_of(subject, 2)
    plain = asked(network, given)
    layouts = {"strided": torch.stack([given.x, given.x], dim=-1)[..., 0]}
    if given.x.ndim > 2:
        layouts["transposed"] = given.x.mT.contiguous().mT
    if given.x.ndim == 4:
        layouts["channels-last"] = given.x.contiguous(memory_format=torch.channels_last)
    for layout, x in layouts.items():
        same(f"{layout} input", asked(network, replace(given, x=x)), plain)


@check
def calls_do_not_depend_on_earlier_calls(subject: ComponentUnderTest) -> None:
    """In eval mode equal inputs give equal outputs, whatever was asked in between."""
    network = trained(subject)
    here = input_of(subject, ROWS)
    there = replace(here, c_noise=here.c_noise.flip(0))
    first, between, again = (asked(network, given) for given in (here, there, here))
    within("the second answer to one question", again, first, 0.0, "nothing random is left")
    different("the answer to another question", between, first)


@check
def state_dict_holds_the_whole_network(subject: ComponentUnderTest) -> None:
    """A network of other weights gives equal outputs once it has loaded the state dict."""
    network = trained(subject)
    other = trained(replace(subject, seed=subject.seed + 1))
    other.load_state_dict(network.state_dict())
    given = input_of(subject, 2)
    within(
        "the output after loading",
        asked(other, given),
        asked(network, given),
        0.0,
        "a checkpoint is all that is left of a network; what is random in it must be a parameter "
        "or a persistent buffer",
    )


CHECKS: tuple[Check, ...] = (
    facts_are_names_and_numbers,
    output_has_the_shape_and_dtype_of_the_input,
    output_is_finite,
    gradients_reach_every_parameter,
    every_coordinate_of_the_input_counts,
    rows_do_not_see_each_other,
    noise_level_has_an_effect,
    noise_level_is_per_sample,
    neighbouring_noise_levels_are_told_apart,
    runs_under_autocast,
    memory_layout_does_not_matter,
    calls_do_not_depend_on_earlier_calls,
    state_dict_holds_the_whole_network,
    *model_conditions.CHECKS,
)


def _neighbours_differ(where: str, output: Tensor, levels: Tensor, least: float) -> None:
    apart = shares_apart(output[1:], output[:-1])
    alike = levels[1:][~(apart > least)]
    require(
        alike.numel() == 0,
        f"outputs at {len(levels)} noise levels {where}, each against the one below",
        measured=f"{alike.numel()} alike: at {', '.join(f'{a:g}' for a in alike[:8].tolist())}",
        expected="none alike",
        why="bfloat16 has 8 bits, and half of the numbers to 1000 are lost in it: the noise level "
        "must enter sines or a table in float32, and an index must be rounded, not cut off",
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
