"""What a scheduler of diffusers cannot walk exactly is refused by name."""

from __future__ import annotations

import pytest
import torch
from diffkit.bundled.processes.gaussian import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.errors import ComponentError, SpecError
from diffkit.testing import ExactGaussian
from diffkit.testing.reference import UniformLogSNR

from diffkit_diffusers.sampler import DiffusersScheduler
from small_pipelines import ours

REFUSED = {
    "no such": {"scheduler": "NoSuchScheduler"},
    "dotted": {"scheduler": "scheduling_ddim.DDIMScheduler"},
    "os.system": {"scheduler": "os.system"},
    "scheduling_utils": {"scheduler": "scheduling_utils"},
    "SchedulerMixin": {"scheduler": "SchedulerMixin"},
    "FlowMatchEulerDiscreteScheduler": {"scheduler": "FlowMatchEulerDiscreteScheduler"},
    "KDPM2DiscreteScheduler": {"scheduler": "KDPM2DiscreteScheduler"},
    "LCMScheduler": {"scheduler": "LCMScheduler"},
    "options.beta_start": {"options": {"beta_start": 0.1}},
    "options.prediction_type": {"options": {"prediction_type": "sample"}},
    "options.timestep_spacing": {"options": {"timestep_spacing": "trailing"}},
    "options.use_karras_sigmas = True": {"options": {"use_karras_sigmas": True}},
    "options.final_sigmas_type = 'sigma_min'": {"options": {"final_sigmas_type": "sigma_min"}},
    "options.rescale_betas_zero_snr = True": {"options": {"rescale_betas_zero_snr": True}},
    "options.variance_type = 'learned'": {"options": {"variance_type": "learned"}},
    "options.odd": {"options": {"odd": 1}},
    "options.self": {"options": {"self": 1}},
    "options.skip_prk_steps = False": {
        "scheduler": "PNDMScheduler",
        "options": {"skip_prk_steps": False},
    },
    "options.lower_order_final = False": {"options": {"lower_order_final": False}},
    "options.solver_type = 'bh1'": {
        "scheduler": "UniPCMultistepScheduler",
        "options": {"solver_type": "bh1"},
    },
    "options.algorithm_type = 'sde-dpmsolver++'": {
        "scheduler": "DPMSolverSinglestepScheduler",
        "options": {"algorithm_type": "sde-dpmsolver++"},
    },
    "algorithm_type": {"options": {"algorithm_type": "dpmsolver"}},
    "feed = 'sample'": {"scheduler": "PNDMScheduler", "feed": "sample"},
}


@pytest.mark.parametrize(("named", "config"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_supported_is_refused_by_name(named, config):
    with pytest.raises(SpecError) as refusal:
        ours(sampler={"id": "diffusers.scheduler", "config": config})
    assert named in str(refusal.value) or config.get("scheduler", "-") in str(refusal.value)
    with pytest.raises(ComponentError):
        DiffusersScheduler(**config)


def walk(name, times, schedule=None):
    process = VariancePreserving(schedule=schedule or Linear())
    noise = SampleNoise(seed=0, indices=range(2))
    exact = ExactGaussian(process, covariance=0.25)
    return list(DiffusersScheduler(scheduler=name).walk(exact, torch.ones(2, 1), times, noise, {}))


def test_times_that_a_scheduler_cannot_visit():
    with pytest.raises(ComponentError, match=r"0\.5005 is not on the schedule's grid of 1000"):
        walk("DDIMScheduler", (1.0, 0.5005, 0.0))
    for name in ("DDIMScheduler", "UniPCMultistepScheduler"):
        with pytest.raises(ComponentError, match=f"{name} chooses its own times"):
            walk(name, (1.0, 0.3, 0.0))
    with pytest.raises(ComponentError, match="DDIMScheduler always steps"):
        walk("DDIMScheduler", Trailing().times(300, Linear()))
    with pytest.raises(ComponentError, match="DDPMScheduler adds noise in its last step"):
        walk("DDPMScheduler", Trailing().times(50, Linear()))
    assert len(walk("DPMSolverMultistepScheduler", (1.0, 0.3, 0.0))) == 2


def test_continuous_schedules_are_refused():
    with pytest.raises(ComponentError, match="UniformLogSNR is continuous"):
        walk("DDIMScheduler", (1.0, 0.5, 0.0), UniformLogSNR())
    with pytest.raises(SpecError, match="this one is continuous"):
        ours(schedule=UniformLogSNR(), sampler={"id": "diffusers.scheduler"})
