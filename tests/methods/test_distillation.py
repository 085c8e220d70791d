"""docs/examples/distillation.py"""

from __future__ import annotations

import pytest

import diffkit

from .common import QUICK, Ring, host_of, report

pytestmark = pytest.mark.slow

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "parameterization": "velocity",
    "model": {"id": "mlp", "config": {"width": 64, "depth": 3}},
    "loss": "simple",
    "sampler": "samplers.ddim",
    "data": {"shape": [2]},
}


def test_a_students_four_steps_are_nearer_to_eight_than_the_teachers_four(tmp_path):
    teacher = diffkit.build(SPEC)
    teacher.train(Ring(), steps=800, **QUICK)
    teacher.save(tmp_path / "teacher")
    loss = {
        "id": "local.progressive_distillation",
        "config": {"teacher": str(tmp_path / "teacher"), "steps": 4},
    }
    student = diffkit.build({**SPEC, "loss": loss}, host=host_of("distillation"))
    student.train(Ring(), steps=400, init=str(tmp_path / "teacher"), **QUICK)
    wanted = teacher.sample(1000, steps=8)
    apart = [
        float((pipeline.sample(1000, steps=4) - wanted).norm(dim=1).mean())
        for pipeline in (teacher, student)
    ]
    report(
        "progressive distillation",
        f"mean distance to the teacher's 8 steps {apart[1]:.3f} of 4 distilled ones, "
        f"{apart[0]:.3f} of its own 4",
    )
    assert apart[1] < 0.5 * apart[0]
