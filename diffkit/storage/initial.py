"""Training that begins with the weights of another run."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from diffkit.core.weights import load_state, read_tensors, state_of
from diffkit.errors import CheckpointError
from diffkit.storage.checkpoint import MODEL, averages_in
from diffkit.storage.run_directory import latest_checkpoint, recorded_files
from diffkit.storage.weights import Weights

_log = logging.getLogger("diffkit")


def take_initial(weights: Weights, run: str) -> None:
    """Take the weights of a run's last checkpoint that are sampled with, as far as they fit.

    What fits has the same name and shape; the log says what does not, and why.

    Raises CheckpointError: nothing fits, or there is no such run; nothing is taken.
    """
    checkpoint = latest_checkpoint(Path(run))
    names = averages_in(checkpoint, recorded_files(checkpoint))
    path = checkpoint / f"{[*names, MODEL][0]}.safetensors"
    found, own = read_tensors(path), state_of(weights.system)
    taken = {name: found[name] for name in own if name in found and _fits(found[name], own[name])}
    if not taken:
        raise CheckpointError(
            f"training.init: {path} has no weight of a name and shape that this pipeline has; take "
            "the run of a pipeline that is like it, or leave init out"
        )
    if bad := [name for name, value in taken.items() if not bool(value.isfinite().all())]:
        raise CheckpointError(f"training.init: {path} is not finite in {bad[0]}; take another run")
    left = [f"{name} (not there)" for name in own if name not in found]
    left += [
        f"{name} ({list(found[name].shape)} there, {list(own[name].shape)} here)"
        for name in own
        if name in found and name not in taken
    ]
    left += [f"{name} (not here)" for name in found if name not in own]
    load_state(weights.system, {**own, **taken})
    weights.averages = {}
    _log.info("training.init: %d of %d weights are those of %s", len(taken), len(own), path)
    if left:
        _log.warning("training.init: %s leaves out %s", path, ", ".join(left))


def _fits(found: Tensor, own: Tensor) -> bool:
    alike = found.dtype == own.dtype or (found.is_floating_point() and own.is_floating_point())
    return found.shape == own.shape and alike
