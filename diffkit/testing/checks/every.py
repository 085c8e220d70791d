"""The laws of components of every kind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffkit.assembly.read_choice import read_choice
from diffkit.config.signature import reference_of, signature_of, validated
from diffkit.config.spec import ComponentSpec
from diffkit.testing.check import NEVER_EXEMPT, Check, check
from diffkit.testing.checks import checks_of
from diffkit.testing.checks.options import every_option_does_something
from diffkit.testing.component_under_test import CannotBeMade, ComponentUnderTest
from diffkit.testing.laws import LawBroken, NotApplicable, require, within
from diffkit.testing.runs import in_memory
from diffkit.testing.usages import use

_SECONDS = 120
_TENSOR_KINDS = ("process", "model", "loss", "sampler")
"""The kinds that compute in the dtype of their inputs; the rest are float64, or their own."""


@check
def it_can_be_made(subject: ComponentUnderTest) -> None:
    """The component can be imported, and made with this configuration."""
    try:
        subject.make()
    except CannotBeMade as error:
        raise LawBroken(
            "making it",
            measured=error,
            expected="an instance",
            why="nothing else can be checked; give another configuration where this one is wrong",
        ) from error


@check
def exemptions_name_laws_and_say_why(subject: ComponentUnderTest) -> None:
    """Each law that it says it cannot keep is one of its kind's, and has a reason."""
    names = {measured.name for group in ("every", subject.kind) for measured in checks_of(group)}
    names -= set(NEVER_EXEMPT)
    for name, reason in subject.cls.exempt.items():
        require(
            name in names,
            "a law that it declares that it is exempt from",
            measured=name,
            expected=f"one of {', '.join(sorted(names))}",
            why="a name that is no law's exempts from nothing",
        )
        require(
            isinstance(reason, str) and bool(reason.strip()),
            f"the reason for the exemption from {name}",
            measured=repr(reason),
            expected="a sentence",
            why="whoever uses the component reads it",
        )


@check
def config_survives_json(subject: ComponentUnderTest) -> None:
    """A configuration, written as JSON and read again, is the same, and an instance records it."""
    signature = signature_of(subject.cls, subject.host)
    config, problems = validated(signature, subject.config, subject.entry.id)
    require(not problems, "the configuration", measured="; ".join(problems), expected="valid")
    assert config is not None
    written = json.loads(json.dumps(config.model_dump(mode="json")))
    unsaid = {name for name in signature.supplied if written[name] is None}
    again, problems = validated(
        signature, {k: v for k, v in written.items() if k not in unsaid}, subject.entry.id
    )
    require(
        again == config,
        "the configuration, read again from JSON",
        measured="; ".join(problems) or again,
        expected=config,
    )
    recorded = _reference(subject, subject.make())
    given = ComponentSpec(id=subject.entry.id, config=dict(subject.config))
    # Read again, each has the arguments of components within it, which neither need say.
    found, wanted = (_in_full(subject, reference) for reference in (recorded, given))
    # What the pipeline supplies again is left out of what is recorded.
    require(
        found == {name: value for name, value in wanted.items() if name in found},
        "what an instance says it was made with",
        measured=found,
        expected=wanted,
        why="saved specs are made of it",
    )


@check
def unknown_keys_are_refused(subject: ComponentUnderTest) -> None:
    """A key that `__init__` does not have is refused, and named."""
    signature = signature_of(subject.cls, subject.host)
    wrong = {**subject.config, "no_such_argument": 1}
    config, problems = validated(signature, wrong, subject.entry.id)
    require(
        config is None and any("no_such_argument" in problem for problem in problems),
        "a configuration with the key 'no_such_argument'",
        measured="accepted" if config is not None else "; ".join(problems),
        expected="refused by that name",
        why="a misspelt option must not be ignored silently",
    )


@check
def the_spec_makes_it_again(subject: ComponentUnderTest) -> None:
    """What is made from an instance's own spec gives equal results."""
    first = subject.make()
    spec = _reference(subject, first)
    spec = ComponentSpec.model_validate_json(spec.model_dump_json())
    again = subject.make(spec.config)
    _same(
        use(subject, again).outputs,
        use(subject, first).outputs,
        "the same spec, made again",
    )


@check
def nothing_is_kept_between_calls(subject: ComponentUnderTest) -> None:
    """Used a second time, a component gives what it gave the first time."""
    component = subject.make()
    first = use(subject, component).outputs
    _same(use(subject, component).outputs, first, "the second use")


@check
def inputs_are_not_written_to(subject: ComponentUnderTest) -> None:
    """No tensor that a component is given is changed."""
    changed = use(subject, subject.make()).changed()
    require(
        not changed,
        "the inputs after use",
        measured=f"changed: {', '.join(changed)}",
        expected="all unchanged",
        why="they belong to the caller",
    )


@check
def the_global_generators_are_left_alone(subject: ComponentUnderTest) -> None:
    """Nothing is drawn from the global generators of torch, numpy and Python."""
    component = subject.make()
    before = _generator_states()
    use(subject, component)
    drawn = [name for name, state in _generator_states().items() if state != before[name]]
    require(
        not drawn,
        "global generators that moved",
        measured=", ".join(drawn),
        expected="none",
        why="results would depend on what ran before; draw from the noise source",
    )
    first = use(subject, subject.make()).outputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        second = use(subject, component).outputs
    _same(second, first, "under another global seed")


@check
def the_dtype_is_kept(subject: ComponentUnderTest) -> None:
    """Inputs in float32 give float32, inputs in float64 give float64."""
    if subject.kind not in _TENSOR_KINDS:
        raise NotApplicable("its dtype does not follow from its inputs")
    for dtype in (torch.float32, torch.float64):
        outputs = use(subject, subject.make(), dtype).outputs
        # Tokens are whole numbers, whatever networks compute in.
        numbers = {n: v.dtype for n, v in outputs.items() if v.dtype != torch.int64}
        other = {name: found for name, found in numbers.items() if found != dtype}
        require(
            not other, f"outputs for inputs of {dtype}", measured=other, expected=f"all {dtype}"
        )


@check
def listing_imports_nothing(subject: ComponentUnderTest) -> None:
    """Listing the component imports neither its module nor torch nor pydantic."""
    target = subject.entry.target
    if not isinstance(target, str):
        raise NotApplicable("it is not declared by a distribution")
    module = target.partition(":")[0]
    asked = (module, "torch", "pydantic")
    code = (
        "import sys\n"
        "from diffkit.plugins.host import Host\n"
        f"found = [e.id for e in Host().components({subject.kind!r})]\n"
        f"print({subject.entry.id!r} in found, [m for m in {asked!r} if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    require(
        ran.stdout.strip() == "True []",
        "whether listing finds it, and what of it is imported then",
        measured=ran.stdout.strip() or ran.stderr[-300:],
        expected="True []",
        why="`diffkit list` must be quick, and survive plugins that are broken",
    )


def _in_full(subject: ComponentUnderTest, reference: ComponentSpec) -> Mapping[str, Any]:
    """The configuration with every argument written out."""
    choice = read_choice(subject.kind, reference, subject.host, {}).choice
    described = None if choice is None else choice.described
    return reference.config if described is None else described.config


def _reference(subject: ComponentUnderTest, component: Any) -> ComponentSpec:
    supplied = signature_of(subject.cls, subject.host).supplied
    # What was given is the component's own, whoever would supply it otherwise.
    elsewhere = {name for name in supplied if subject.config.get(name) is None}
    # A run in memory has no directory that a spec could name.
    elsewhere |= in_memory(subject.fixtures.code).keys()
    return reference_of(component, subject.host, leave_out=elsewhere)


def _generator_states() -> dict[str, bytes]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr([np.asarray(x).tolist() for x in np.random.get_state(legacy=True)]).encode(),
        "random": repr(random.getstate()).encode(),
    }


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], when: str) -> None:
    require(
        found.keys() == wanted.keys(),
        f"what it gives, {when}",
        measured=sorted(found),
        expected=sorted(wanted),
    )
    for name, value in found.items():
        within(f"{name}, {when}", value, wanted[name], 0.0, "nothing was different")


CHECKS: tuple[Check, ...] = (
    it_can_be_made,
    exemptions_name_laws_and_say_why,
    config_survives_json,
    unknown_keys_are_refused,
    the_spec_makes_it_again,
    nothing_is_kept_between_calls,
    inputs_are_not_written_to,
    the_global_generators_are_left_alone,
    the_dtype_is_kept,
    every_option_does_something,
    listing_imports_nothing,
)
