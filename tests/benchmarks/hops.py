"""How far one has to read: the files, functions and frames of one update, and of one DDIM step.

$ python tests/benchmarks/hops.py

An update is from the end of one step of the optimiser to the end of the next; a sampling step from
one state of the trajectory to the next. Counted is what is called in diffkit and its plugins, the
network too; frames are how many of those functions are within one another at most.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

import diffkit

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "unet", "config": {"width": 8, "multipliers": [1, 2], "groups": 4}},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
}


class Calls:
    """Counts, between `begin` and `end`, what is called in diffkit."""

    def __init__(self) -> None:
        self.functions: set[CodeType] = set()
        self.frames = 0

    def begin(self) -> None:
        sys.setprofile(self._seen)

    def end(self) -> None:
        sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not _ours(frame.f_code):
            return
        self.functions.add(frame.f_code)
        depth, here = 0, frame
        while here is not None:
            depth += _ours(here.f_code)
            here = here.f_back
        self.frames = max(self.frames, depth)

    def __str__(self) -> str:
        files = {code.co_filename for code in self.functions}
        return f"{len(files)} files, {len(self.functions)} functions, {self.frames} frames"


def _ours(code: CodeType) -> bool:
    return any(part.startswith("diffkit") for part in Path(code.co_filename).parts[-5:-1])


def one_update(spec: dict[str, Any]) -> Calls:
    calls, made = Calls(), []

    def after(*_: object) -> None:
        made.append(None)
        if len(made) == 3:
            calls.begin()
        elif len(made) == 4:
            calls.end()

    handle = register_optimizer_step_post_hook(after)
    diffkit.build(spec, device="cpu").train(steps=5, batch_size=4, progress=False)
    handle.remove()
    return calls


def one_step(spec: dict[str, Any]) -> Calls:
    calls, pipeline = Calls(), diffkit.build(spec, device="cpu")
    states = pipeline.trajectory(2, steps=5, sampler="samplers.ddim")
    next(states)
    next(states)
    calls.begin()
    next(states)
    calls.end()
    return calls


def main() -> None:
    print(f"one update:    {one_update(SPEC)}")
    print(f"one DDIM step: {one_step(SPEC)}")


if __name__ == "__main__":
    main()
