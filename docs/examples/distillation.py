"""Progressive distillation: a student makes in one step what its teacher makes in two.

Salimans & Ho (2022), *Progressive distillation for fast sampling of diffusion models*, Algorithm
2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

import diffkit
from diffkit.core import Batch, Example, GaussianProcess, Loss, LossContext, LossRecord, Run

SMALL = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [1, 8, 8]},
}
"""A teacher to try it with."""
_NOT_OF_DATA = "it is smallest where the teacher leads, which need not be to the data"


class ProgressiveDistillation(Loss):
    """The x_0 from which one DDIM step of the student ends where two of the teacher's do.

    The weight is their SNR + 1, in which errors of the velocity are equal; start the student from
    the teacher's weights (`training.init`).

    Args:
        teacher: the run that is distilled.
        steps: of the student's trajectory, half of the teacher's.
    """

    process_class: ClassVar[type[GaussianProcess]] = GaussianProcess

    exempt: ClassVar = {
        "nothing_beats_the_exact_answer": _NOT_OF_DATA,
        "gradient_points_to_the_exact_answer": _NOT_OF_DATA,
    }

    def __init__(self, *, teacher: Run, steps: Annotated[int, Ge(1)]) -> None:
        self._teacher, self._steps = teacher, steps

    @classmethod
    def examples(cls):
        return [Example({"steps": 4}, code={"teacher": Run.of(diffkit.build(SMALL))})]

    def __call__(self, batch: Batch, context: LossContext) -> LossRecord:
        process, drawn = context.process, context.draw_times(len(batch))
        place = (drawn.t * self._steps).ceil()
        t, middle, s = ((place - part) / self._steps for part in (0.0, 0.5, 1.0))
        epsilon = process.draw(batch.x_0, context.noise, batch.given)
        x_t = process.diffuse(batch.x_0, t, epsilon)
        with torch.no_grad():
            teacher = self._teacher.denoiser(batch.condition, process=process, device=x_t.device)
            x_s = _ddim(teacher, _ddim(teacher, x_t, t, middle), middle, s)
            wanted = self._target(process, x_t, x_s, t, s)
        said = context.denoiser(x_t, t).x_0
        log_snr = process.log_snr(t).to(x_t)
        error = (said - wanted).square().flatten(1).mean(1)
        return LossRecord(drawn.weight.to(error) * (1 + log_snr.exp()) * error, drawn.t)

    def _target(self, process, x_t, x_s, t, s):
        """`(x_s - (sigma_s / sigma_t) x_t) / (alpha_s - (sigma_s / sigma_t) alpha_t)`."""
        at_t, at_s = (process.scales(process.log_snr(time)) for time in (t, s))
        ratio = at_s.sigma / at_t.sigma
        shape = (-1, *[1] * (x_t.ndim - 1))
        below = (at_s.alpha - ratio * at_t.alpha).to(x_t).reshape(shape)
        return (x_s - ratio.to(x_t).reshape(shape) * x_t) / below


def _ddim(denoiser, x_t, t, s):
    said = denoiser(x_t, t)
    return denoiser.process.diffuse(said.x_0, s, said.epsilon)
