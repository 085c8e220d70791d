"""The laws of forward processes; those of Gaussian ones are in two modules beside this."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffkit.config.signature import signature_of
from diffkit.core.noise import Noise, SampleNoise
from diffkit.core.process import ForwardProcess
from diffkit.testing.check import Check, check
from diffkit.testing.checks.any_process import ANY_CHECKS, trial_of
from diffkit.testing.checks.any_reverse import ANY_REVERSE_CHECKS
from diffkit.testing.checks.gaussian_forward import FORWARD_CHECKS
from diffkit.testing.checks.gaussian_reverse import REVERSE_CHECKS
from diffkit.testing.component_under_test import ComponentUnderTest
from diffkit.testing.laws import NotApplicable, require
from diffkit.testing.reference import UniformLogSNR


@check
def the_schedule_is_the_one_given(subject: ComponentUnderTest) -> None:
    """The process follows the schedule that it is given."""
    if "schedule" not in signature_of(subject.cls, subject.host).supplied.values():
        raise NotApplicable("the process asks for no schedule")
    for schedule in (UniformLogSNR(), UniformLogSNR(first=7.0, last=-9.0)):
        process: ForwardProcess = subject.make(schedule=schedule)
        require(
            process.schedule is schedule,
            "the process's schedule",
            measured=process.schedule,
            expected=f"{schedule}, which it was given",
        )


@check
def noise_comes_from_the_source(subject: ComponentUnderTest) -> None:
    """Draws and priors are made of the noise source alone, each sample's from its own index."""
    trial = trial_of(subject, subject.make())
    process, seed = trial.process, subject.seed_for("source")

    def draw(noise: Noise, rows: Sequence[int]) -> torch.Tensor:
        condition = {name: value[list(rows)] for name, value in trial.condition.items()}
        made = process.draw(
            trial.x_0[:1].repeat(len(rows), *[1] * (trial.x_0.ndim - 1)), noise, condition
        )
        if isinstance(made, torch.Tensor):
            return made
        # A record is diffuse's alone to read.
        like = trial.x_0[:1].repeat(len(rows), *[1] * (trial.x_0.ndim - 1))
        return process.diffuse(like, 0.7, made)

    def prior(noise: Noise, rows: Sequence[int]) -> torch.Tensor:
        told = {name: trial.condition[name][list(rows)] for name in process.prior_takes}
        return process.prior((len(rows), *subject.fixtures.shape), noise, told)

    for name, call in (("draw", draw), ("prior", prior)):

        def drawn(*indices: int, seed: int = seed) -> torch.Tensor:
            return call(SampleNoise(seed=seed, indices=indices), indices)  # noqa: B023

        first = drawn(0, 1, 2)
        require(first.shape[0] == 3, f"{name} of 3 samples", measured=len(first), expected="3 rows")
        same, other = drawn(0, 1, 2), drawn(0, 1, 2, seed=seed + 1)
        require(
            torch.equal(first, same),
            f"{name} twice from equal noise sources",
            measured="other numbers",
            expected="equal numbers",
            why="results must follow from the seed",
        )
        # A prior may be one point: all tokens masked; what is drawn may be a condition.
        require(
            name == "prior" or bool(process.takes) or not torch.equal(first, other),
            f"{name} from noise sources of two seeds",
            measured="equal numbers",
            expected="other numbers",
        )
        require(
            torch.equal(drawn(1)[0], first[1]),
            f"{name} of sample 1 alone and among three",
            measured="other numbers",
            expected="equal numbers",
            why="a sample must not depend on the batch it is drawn in",
        )


CHECKS: tuple[Check, ...] = (
    the_schedule_is_the_one_given,
    noise_comes_from_the_source,
    *ANY_CHECKS,
    *ANY_REVERSE_CHECKS,
    *FORWARD_CHECKS,
    *REVERSE_CHECKS,
)
