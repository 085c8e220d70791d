"""The bias of each method against the exact posterior of correlated Gaussian data.

$ python benchmarks/against_posterior.py

Where a trajectory is affine in its noise its moments are exact; those of DPS are of 4,000 samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import inverse_problems as problems
from diffkit.core.sampler import Sampler
from diffkit_inverse.dps import DPSInpaint, DPSSuperResolution
from diffkit_inverse.repaint import RePaint
from diffkit_inverse.replacement import Replacement

STEPS = (25, 50, 100, 200)
COUNT = 4_000

Measure = Callable[[Sampler, int], tuple[float, float]]


def by_probing(sampler: Sampler, steps: int) -> tuple[float, float]:
    """Exactly, of what was painted."""
    found = problems.exact_moments(sampler, problems.denoiser(), steps, problems.PAINTING)
    return problems.of_unknown(found).apart(problems.painted())


def by_samples(sampler: Sampler, steps: int) -> tuple[float, float]:
    """Of samples of what was painted."""
    ends = problems.drawn(sampler, problems.denoiser(), steps, problems.PAINTING, COUNT)
    return problems.of_unknown(problems.sample_moments(ends)).apart(problems.painted())


def of_enlarged(sampler: Sampler, steps: int) -> tuple[float, float]:
    """Of samples of what was enlarged."""
    inputs = {"measurement": problems.SMALL}
    ends = problems.drawn(sampler, problems.denoiser(), steps, inputs, COUNT)
    return problems.sample_moments(ends).apart(problems.enlarged())


def chance() -> tuple[float, float]:
    """What as many independent draws from the exact posterior show."""
    exact = problems.painted()
    factor = torch.linalg.cholesky(exact.covariance)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(COUNT, 2, dtype=torch.float64, generator=generator)
    return problems.sample_moments(exact.mean + z @ factor.T).apart(exact)


def main() -> None:
    """Print the table."""
    rows: list[tuple[str, Measure, Sampler]] = [
        ("replacement", by_probing, Replacement()),
        *(
            (f"RePaint, jumps of {jump}, {again} times", by_probing, _repaint(jump, again))
            for jump, again in ((1, 5), (1, 20), (10, 5), (10, 20))
        ),
        *(
            (f"DPS, inpainting, zeta {zeta:g}", by_samples, DPSInpaint(zeta=zeta))
            for zeta in (0.1, 0.3, 1.0)
        ),
        *(
            (f"DPS, means of four, zeta {zeta:g}", of_enlarged, _super_resolution(zeta))
            for zeta in (0.1, 0.3, 1.0)
        ),
    ]
    head = " | ".join(f"{steps} steps" for steps in STEPS)
    print(f"| Error of the mean / of the covariance | {head} |")
    print("| --- |" + " ---: |" * len(STEPS))
    for name, measure, sampler in rows:
        cells = ("{:.3f} / {:.3f}".format(*measure(sampler, steps)) for steps in STEPS)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\n4,000 draws from the exact posterior: {:.3f} / {:.3f}.".format(*chance()))


def _repaint(jump: int, again: int) -> Sampler:
    return RePaint(jump_length=jump, resamplings=again)


def _super_resolution(zeta: float) -> Sampler:
    return DPSSuperResolution(factor=2, zeta=zeta)


if __name__ == "__main__":
    main()
