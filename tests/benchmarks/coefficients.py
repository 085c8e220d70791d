"""What the coefficients of 50 steps cost that were never asked for before: levels, preconditioning,
and the posterior of each step, against one time after another.

python tests/benchmarks/coefficients.py
"""

from __future__ import annotations

from itertools import pairwise

import torch
from harness import Record, in_turn, main

from diffkit.bundled.parameterizations.epsilon import Epsilon
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.gaussian_denoiser import GaussianDenoiser
from diffkit.functional import gaussian

STEPS = 50


def measure() -> list[Record]:
    torch.set_num_threads(1)
    schedule = Linear()
    process = VariancePreserving(schedule=schedule)
    denoiser = GaussianDenoiser(lambda x, c_noise, condition: x, Epsilon(), process)
    times = Trailing().times(STEPS, schedule)
    levels = process.levels(times)

    def steps() -> None:
        for t, s in pairwise(levels):
            gaussian.posterior(t.log_snr, s.log_snr, t.scales, s.scales)

    calls = {
        "levels, one pass": lambda: process.levels(times),
        "levels, one by one": lambda: [process.level(t) for t in times],
        "preconditioning, one pass": lambda: denoiser.preconditioning_table(levels),
        "preconditioning, one by one": lambda: [denoiser.preconditioning_table([t]) for t in times],
        "posterior of each step": steps,
    }
    record = Record(f"Coefficients of {STEPS} fresh steps", ("what", "time"))
    for name, timing in in_turn(calls, 20).items():
        record.add(name, timing, **{name: timing.median})
    return [record]


if __name__ == "__main__":
    main(measure)
