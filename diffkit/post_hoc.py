"""Power-function averages of any length, made after training. Karras et al. (2024), EDM2."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from diffkit.api import load
from diffkit.arguments import number, path
from diffkit.core.weights import state_of
from diffkit.errors import SpecError
from diffkit.functional.power_average import gamma_of_length, post_hoc_weights
from diffkit.helpers.files import read_json
from diffkit.pipeline import Pipeline
from diffkit.plugins.host import Host
from diffkit.storage import run_directory
from diffkit.storage.checkpoint import fitting

POST_HOC = "post_hoc"
"""What the average that was made is called."""
_LONGEST = 12**-0.5


def post_hoc(
    directory: str | os.PathLike[str],
    length: float,
    *,
    name: str = "power",
    host: Host | None = None,
    device: str | torch.device | None = None,
) -> Pipeline:
    """A pipeline that samples with the average of another length, as if it had been kept.

    It is the combination of the averages in a run's checkpoints whose profile is nearest to the
    wanted one: appendix C.3, algorithm 3. The more checkpoints were kept (`training.keep`), and the
    more lengths, the nearer. Its weights are those of the last checkpoint.

    Args:
        directory: of the run.
        length: the relative width of the average, between 0 and 0.28.
        name: of the run's power-function averages, in `training.averages`.
        host: where components are found; default what is installed.
        device: where the weights go; default as for `diffkit.load`.

    Raises:
        SpecError: the length is none, or the run has no such averages.
        CheckpointError: a file is missing, or does not fit.
    """
    length = number(length, "length", "between 0 and 0.28", lambda value: 0 < value < 0.28)
    directory = path(directory, "directory")
    pipeline = load(directory, host=host, device=device)
    found = [
        (step, gamma, checkpoint, track)
        for checkpoint in run_directory.checkpoints(directory)
        for step in (run_directory.step_of(checkpoint),)
        if step > 0
        for track, gamma in _tracks(checkpoint, name).items()
    ]
    if len(found) < 2:
        raise SpecError(
            [
                f"name: the checkpoints of {directory} have {len(found)} averages of "
                f"training.averages.{name} with lengths, and two at least are needed; train with "
                f"averages: {{{name}: power}}, or name another one"
            ]
        )
    target = gamma_of_length(length)
    steps, gammas = [each[0] for each in found], [each[1] for each in found]
    shares = post_hoc_weights(steps, gammas, max(steps), target)
    return _with_average(pipeline, found, shares)


def _tracks(checkpoint: Path, name: str) -> dict[str, float]:
    """The files of a checkpoint's power-function averages, with the exponents of their profiles."""
    averages = read_json(checkpoint / run_directory.SPEC).get("training", {}).get("averages", {})
    config = averages.get(name, {}).get("config", {}) if isinstance(averages, dict) else {}
    files = run_directory.recorded_files(checkpoint)
    named = {f"{name}-{length:.12g}": length for length in config.get("lengths", ())}
    return {
        track: gamma_of_length(length)
        for track, length in named.items()
        if track in files and 0.0 < length < _LONGEST
    }


def _with_average(
    pipeline: Pipeline, found: list[tuple[int, float, Path, str]], shares: list[float]
) -> Pipeline:
    state = state_of(pipeline.system)
    total = {
        key: torch.zeros_like(value, dtype=torch.float64)
        for key, value in state.items()
        if value.is_floating_point()
    }
    for (_, _, checkpoint, track), share in zip(found, shares, strict=True):
        read = fitting(checkpoint, track, state, "refuse")
        for key, value in total.items():
            value.add_(read[key].to(value.device, torch.float64), alpha=share)
    made = {
        key: total[key].to(value.dtype) if key in total else value for key, value in state.items()
    }
    pipeline.take_average(POST_HOC, made)
    return pipeline
