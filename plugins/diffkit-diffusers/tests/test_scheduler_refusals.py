"""What a scheduler of diffusers cannot sample exactly is refused by name."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.bundled.schedules.linear import Linear
from diffkit.bundled.spacings.trailing import Trailing
from diffkit.core.noise import SampleNoise
from diffkit.core.schedule import NoiseSchedule
from diffkit.errors import ComponentError, SpecError
from diffkit.testing import ExactGaussian
from diffkit.testing.reference import UniformLogSNR

from diffkit_diffusers.sampler import DiffusersScheduler
from diffkit_diffusers.schedulers import TRAITS

from .small_pipelines import ours

REFUSED = {
    "NoSuchScheduler": {"scheduler": "NoSuchScheduler"},
    "scheduling_ddim.DDIMScheduler": {"scheduler": "scheduling_ddim.DDIMScheduler"},
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
    "options.lambda_min_clipped = -5.1": {"options": {"lambda_min_clipped": -5.1}},
    "options.flow_shift = 3.0": {"options": {"flow_shift": 3.0}},
    # Before 0.35 diffusers has no such option.
    "options.time_shift_type": {"options": {"time_shift_type": "linear"}},
    "options.variance_type = 'fixed_small'": {"options": {"variance_type": "fixed_small"}},
    "options.variance_type = None": {
        "scheduler": "DDPMScheduler",
        "options": {"variance_type": None},
    },
    "options.solver_order = 0": {"options": {"solver_order": 0}},
    "options.solver_order = 4": {"options": {"solver_order": 4}},
    "options.solver_order = True": {"options": {"solver_order": True}},
    "options.solver_type = 'logrho'": {"options": {"solver_type": "logrho"}},
    "options.algorithm_type = 'deis'": {"options": {"algorithm_type": "deis"}},
    "options.solver_type does nothing": {"options": {"solver_type": "heun", "solver_order": 1}},
    "options.sample_max_value does nothing": {"options": {"sample_max_value": 2.0}},
    "options.clip_sample does nothing": {
        "scheduler": "DDIMScheduler",
        "options": {"clip_sample": True, "thresholding": True},
    },
    "options.clip_sample_range does nothing": {
        "scheduler": "DDIMScheduler",
        "options": {"clip_sample": False, "clip_sample_range": 2.0},
    },
    "options.clip_sample_range does nothing where": {
        "scheduler": "HeunDiscreteScheduler",
        "options": {"clip_sample_range": 2.0},
    },
    "options.clip_sample_range = -1.0": {
        "scheduler": "DDIMScheduler",
        "options": {"clip_sample_range": -1.0},
    },
    "'disable_corrector': 0": {
        "scheduler": "UniPCMultistepScheduler",
        "options": {"disable_corrector": 0},
    },
    "'dynamic_thresholding_ratio': 2.0": {
        "options": {"thresholding": True, "dynamic_thresholding_ratio": 2.0}
    },
    "'sample_max_value': 0.0": {"options": {"thresholding": True, "sample_max_value": 0.0}},
}


@pytest.mark.parametrize(("named", "config"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_supported_is_refused_by_name(named, config):
    with pytest.raises(SpecError) as refusal:
        ours(sampler={"id": "diffusers.scheduler", "config": config})
    assert named in str(refusal.value)
    with pytest.raises(ComponentError):
        DiffusersScheduler(**config)


def trajectory(name, times, schedule=None, **config):
    process = VariancePreserving(schedule=schedule or Linear())
    noise = SampleNoise(seed=0, indices=range(2))
    exact = ExactGaussian(process, covariance=0.25)
    sampler = DiffusersScheduler(scheduler=name, **config)
    return list(sampler.trajectory(exact, torch.ones(2, 1), times, noise, {}))


class ZeroTerminal(NoiseSchedule):
    """Forty steps, whose last leaves no signal."""

    steps, t_min = 40, 1 / 40

    def log_snr(self, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        signal = (1 - t).square() * torch.where(t > 0, 1 - 1e-4, 1.0)
        return signal.log() - (1 - signal).log()

    def time_at(self, log_snr):
        return 1 - (torch.sigmoid(log_snr) / (1 - 1e-4)).sqrt()


WITHOUT_SIGNAL = [("DDIMScheduler", "sample"), ("DDPMScheduler", "sample")]


@pytest.mark.parametrize(
    ("name", "feed"), [(name, feed) for name, traits in TRAITS.items() for feed in traits.feeds]
)
def test_where_no_signal_is_left(name, feed):
    config = {"scheduler": name, "feed": feed}
    fields = {"schedule": ZeroTerminal(), "parameterization": "velocity"}
    times = Trailing().times(40, ZeroTerminal())
    if (name, feed) not in WITHOUT_SIGNAL:
        with pytest.raises(ComponentError, match=rf"{name} .* zero terminal SNR; .*dpmpp-2m"):
            trajectory(name, times, ZeroTerminal(), feed=feed)
        with pytest.raises(SpecError, match=r"zero terminal SNR; .*'samplers\.dpmpp-2m'"):
            ours(**fields, sampler={"id": "diffusers.scheduler", "config": config})
        return
    ours(**fields, sampler={"id": "diffusers.scheduler", "config": config})
    states = trajectory(name, times, ZeroTerminal(), feed=feed)
    assert all(bool(torch.isfinite(state.x).all()) for state in states)
    if name == "DDIMScheduler":
        by_hand, process = torch.ones(2, 1), VariancePreserving(schedule=ZeroTerminal())
        exact = ExactGaussian(process, covariance=0.25)
        for t, s in pairwise(times):
            ends = process.log_snr(t), process.log_snr(s)
            (_, noisy), (alpha, sigma) = (process.scales(end) for end in ends)
            grown = torch.expm1(0.5 * (ends[0] - ends[1]))
            by_hand = sigma / noisy * by_hand - alpha * grown * exact(by_hand, t).x_0
        # Song et al. (2021), eq. 12, in float64; float32 there.
        assert torch.allclose(states[-1].x.double(), by_hand.double(), rtol=0, atol=1e-5)


def test_times_that_a_scheduler_cannot_visit():
    with pytest.raises(ComponentError, match=r"0\.5005 is not on the schedule's grid of 1000"):
        trajectory("DDIMScheduler", (1.0, 0.5005, 0.0))
    for name in ("DDIMScheduler", "UniPCMultistepScheduler"):
        with pytest.raises(ComponentError, match=f"{name} chooses its own times"):
            trajectory(name, (1.0, 0.3, 0.0))
    with pytest.raises(ComponentError, match="DDIMScheduler always steps"):
        trajectory("DDIMScheduler", Trailing().times(300, Linear()))
    with pytest.raises(ComponentError, match="DDPMScheduler adds noise in its last step"):
        trajectory("DDPMScheduler", Trailing().times(50, Linear()))
    assert len(trajectory("DPMSolverMultistepScheduler", (1.0, 0.3, 0.0))) == 2


def test_continuous_schedules_are_refused():
    with pytest.raises(ComponentError, match="UniformLogSNR is continuous"):
        trajectory("DDIMScheduler", (1.0, 0.5, 0.0), UniformLogSNR())
    with pytest.raises(SpecError, match="this one is continuous"):
        ours(schedule=UniformLogSNR(), sampler={"id": "diffusers.scheduler"})
