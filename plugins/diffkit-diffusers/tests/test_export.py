"""An exported run is loaded by diffusers, and gives what diffkit gives."""

from __future__ import annotations

import json

import diffkit
import pytest
import torch
from diffkit.bundled.datasets.digits import Digits
from diffkit.bundled.schedules.linear import Linear
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.noise import Noise
from diffkit.core.sampler import State, StepSampler
from diffkit.errors import CheckpointError, ComponentError
from diffkit.plugins.host import default_host
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline
from diffusers.schedulers import scheduling_ddpm

from diffkit_diffusers import export_pipeline, import_pipeline
from diffkit_diffusers.weights import EMBEDDING

from .small_pipelines import noise, our_output, ours, randomize, start, their_loop, their_output

NETWORKS = {
    "gray": ((1, 8, 8), {}),
    "color": ((3, 8, 8), {}),
    "attention everywhere": ((1, 8, 8), {"attention": [8, 4]}),
    "attention in the middle only": ((1, 8, 8), {"attention": []}),
    "one level": ((1, 8, 8), {"multipliers": [1]}),
    "wider levels": ((1, 8, 8), {"multipliers": [1, 3], "width": 8}),
    "deeper": ((1, 8, 8), {"multipliers": [1, 1, 1], "blocks": 2}),
    "two heads": ((1, 8, 8), {"heads": 2}),
    "not square": ((1, 4, 8), {}),
}


class Straight(StepSampler):
    """DDIM without noise, Song et al. (2021), eq. 12, so that this test needs no other plugin."""

    def step(self, denoiser, x_t, t, s, noise):
        prediction = denoiser(x_t, t)
        return State(denoiser.process.diffuse(prediction.x_0, s, prediction.epsilon), s, prediction)


@pytest.mark.parametrize(("shape", "model"), NETWORKS.values(), ids=NETWORKS)
def test_equal_outputs(shape, model, tmp_path):
    pipeline = ours(shape, model)
    pipe = DDPMPipeline.from_pretrained(export_pipeline(pipeline, tmp_path / "pipe"))
    x = noise(2, *shape)
    for index in (0, 1, 37, 500, 998, 999):
        expected = our_output(pipeline, x, index)
        assert expected.std() > 0.03
        # As for the import: rounded angles, of which the network hands on less than a tenth.
        assert torch.allclose(their_output(pipe.unet, x, index), expected, rtol=0, atol=1e-5)


def test_the_default_network_on_cifar10(tmp_path):
    pipeline = ours((3, 32, 32), {"width": 128, "multipliers": [1, 2, 2, 2], "blocks": 2})
    config = export_folder_config(pipeline, tmp_path / "pipe")
    assert config["block_out_channels"] == [128, 256, 256, 256]
    assert config["down_block_types"][1] == "AttnDownBlock2D"
    assert config["norm_eps"] == 1e-6


def export_folder_config(pipeline, folder):
    export_pipeline(pipeline, folder)
    return json.loads((folder / "unet/config.json").read_text())


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("parameterization", ["epsilon", "x_0", "velocity"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_a_ddim_loop_of_50_steps(schedule, parameterization, spacing, tmp_path):
    pipeline = ours(schedule=schedule, parameterization=parameterization, spacing=spacing)
    export_pipeline(pipeline, tmp_path / "pipe")
    pipe = DDPMPipeline.from_pretrained(tmp_path / "pipe")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    assert pipe.scheduler.config.timestep_spacing == spacing
    actual = their_loop(pipe, start(pipeline, 2), 50)
    expected = pipeline.sample(2, steps=50, sampler=Straight(), clip=False, progress=False)
    # float32 rounding of 1e-6 a step and their float32 tables; relative where x grows.
    size = max(1.0, float(expected.abs().max()))
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 * size)


class Recorded(Noise):
    """The numbers of a list, in turn; also in the form in which diffusers asks."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def normal(self, shape):
        return self.numbers.pop(0)

    def uniform(self, shape):
        raise AssertionError("nothing here draws uniform numbers")

    def as_randn_tensor(self, shape, **_):
        return self.numbers.pop(0)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip", [True, False], ids=["clip", "free"])
def test_a_ddpm_loop_with_the_same_noise(variance, clip, tmp_path, monkeypatch):
    sampler = {"id": "ddpm", "config": {"variance": variance}}
    pipeline = ours(
        sampler=sampler, spacing="leading", schedule="cosine", parameterization="x_0", clip=clip
    )
    pipe = DDPMPipeline.from_pretrained(export_pipeline(pipeline, tmp_path / "pipe"))
    numbers = [noise(2, 1, 8, 8, seed=i) for i in range(20)]
    x = numbers.pop(0)
    times = pipeline.parts.spacing.times(20, pipeline.parts.schedule)
    denoiser = pipeline.system.denoiser()
    if clip:
        denoiser = ClippedDenoiser(denoiser, (-1.0, 1.0))
    with torch.no_grad():
        states = pipeline.parts.sampler.trajectory(denoiser, x, times, Recorded(numbers), {})
        *_, state = states
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", Recorded(numbers).as_randn_tensor)
    actual = their_loop(pipe, x, 20)
    assert torch.allclose(actual, state.x, rtol=0, atol=1e-4 * max(1, state.x.abs().max()))


def test_betas_and_a_clip_of_other_sizes(tmp_path):
    config = {"beta_first": 2e-4, "beta_last": 0.01}
    pipeline = ours(schedule={"id": "linear", "config": config}, range_=(-0.25, 0.25))
    pipe = DDPMPipeline.from_pretrained(export_pipeline(pipeline, tmp_path / "pipe"))
    alpha_bar = float(torch.sigmoid(pipeline.parts.schedule.log_snr(1.0)))
    # A product of a thousand float32 factors.
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(alpha_bar, rel=1e-4)
    assert pipe.scheduler.config.clip_sample is True
    assert pipe.scheduler.config.clip_sample_range == 0.25


def test_ddim_is_exported_as_ddim(tmp_path):
    if not default_host().knows("sampler", "samplers.ddim"):
        pytest.skip("diffkit-samplers is not installed")
    pipeline = ours(
        sampler="samplers.ddim", parameterization="velocity", spacing="leading", clip=False
    )
    pipe = DDIMPipeline.from_pretrained(export_pipeline(pipeline, tmp_path / "pipe"))
    expected = pipeline.sample(2, steps=50, progress=False)
    actual = their_loop(pipe, start(pipeline, 2), 50)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 * max(1, expected.abs().max()))


def test_a_round_trip_gives_equal_weights(tmp_path):
    pipeline = ours()
    export_pipeline(pipeline, tmp_path / "pipe")
    again = import_pipeline(tmp_path / "pipe")
    before, after = pipeline.parts.model.state_dict(), again.parts.model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name == EMBEDDING:
            # Turned by an angle in float64 and back, each rounded once to float32.
            assert torch.allclose(after[name], tensor, rtol=0, atol=3e-7)
            assert not torch.equal(after[name], tensor)
        else:
            assert torch.equal(after[name], tensor)
    for field in ("schedule", "parameterization", "spacing"):
        assert getattr(again.spec, field).id == getattr(pipeline.spec, field).id
    # Which of a model without a variance of its own is the same as leaving it out.
    assert pipeline.spec.sampler.config["variance"] is None
    assert again.spec.sampler.config["variance"] == "fixed_small"
    assert again.spec.data == pipeline.spec.data


def test_the_average_is_exported_as_it_is_sampled(tmp_path):
    pipeline = ours()
    pipeline.train(Digits(), steps=1, batch_size=2, warmup_steps=1, progress=False)
    assert pipeline.average is not None
    randomize(pipeline.average.parts.model, seed=1)
    pipe = DDPMPipeline.from_pretrained(export_pipeline(pipeline, tmp_path / "pipe"))
    x = noise(2, 1, 8, 8)
    with torch.no_grad():
        expected = pipeline.average.denoiser()(x, 0.5).output
    assert torch.allclose(their_output(pipe.unet, x, 499), expected, rtol=0, atol=1e-5)


def test_a_run_directory(tmp_path):
    pipeline = ours()
    pipeline.save(tmp_path / "run")
    pipe = DDPMPipeline.from_pretrained(export_pipeline(tmp_path / "run", tmp_path / "pipe"))
    images = pipe(batch_size=1, num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 8, 8, 1)


UNSUPPORTED = {
    "schedule.steps = 100": {"schedule": {"id": "linear", "config": {"steps": 100}}},
    "schedule.offset = 0.01": {"schedule": {"id": "cosine", "config": {"offset": 0.01}}},
    "model = 'diffkit.mlp'": {"model": None},
    "model.multipliers = [2, 2]": {"model": {"multipliers": [2, 2]}},
    "model.heads = 2": {"model": {"heads": 2, "multipliers": [1, 2], "attention": [8]}},
    "model.learned_variance = True": {
        "model": {"learned_variance": True},
        "loss": "hybrid",
    },
    "data.shape = [1, 7, 8]": {"shape": (1, 7, 8)},
    "data.range = [0.0, 1.0]": {"range_": (0.0, 1.0)},
}


@pytest.mark.parametrize(("message", "change"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(message, change, tmp_path):
    if change.get("model", {}) is None:
        pipeline = diffkit.build({**ours().spec.model_dump(), "model": "mlp"})
    else:
        pipeline = ours(**change)
    with pytest.raises(ComponentError) as refusal:
        export_pipeline(pipeline, tmp_path / "pipe")
    assert message in str(refusal.value)
    assert not (tmp_path / "pipe").exists()


@pytest.mark.parametrize(("config", "clip"), [({"eta": 0.5}, False), ({}, True)], ids=str)
def test_a_ddim_that_no_folder_can_hold(config, clip, tmp_path):
    if not default_host().knows("sampler", "samplers.ddim"):
        pytest.skip("diffkit-samplers is not installed")
    pipeline = ours(sampler={"id": "samplers.ddim", "config": config}, clip=clip)
    with pytest.raises(ComponentError, match="[^.]clip = True" if clip else "sampler.eta = 0.5"):
        export_pipeline(pipeline, tmp_path / "pipe")


@pytest.mark.parametrize("steps", [7, 30])
def test_ddim_in_steps_that_do_not_divide_t(steps, tmp_path):
    pipeline = ours(spacing="leading", parameterization="velocity")
    pipe = DDIMPipeline.from_pretrained(
        export_pipeline(pipeline, tmp_path / "pipe", scheduler="ddim")
    )
    actual = their_loop(pipe, start(pipeline, 2, steps=steps), steps)
    expected = pipeline.sample(2, steps=steps, sampler=Straight(), clip=False, progress=False)
    # As above: float32, and their float32 tables.
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 * max(1, expected.abs().max()))


def test_ddim_on_trailing_times_is_refused(tmp_path):
    runs = [(ours(), "ddim")]
    if default_host().knows("sampler", "samplers.ddim"):
        runs.append((ours(sampler="samplers.ddim", clip=False), None))
    for pipeline, scheduler in runs:
        with pytest.raises(ComponentError, match=r"spacing = 'diffkit.trailing' .*'leading', or"):
            export_pipeline(pipeline, tmp_path / "pipe", scheduler=scheduler)
    # Their own scheduler refuses the steps in question here too, so nothing differs.
    config = {"scheduler": "DDIMScheduler", "options": {"clip_sample": False}}
    pipeline = ours(sampler={"id": "diffusers.scheduler", "config": config})
    export_pipeline(pipeline, tmp_path / "pipe", scheduler="ddim")
    with pytest.raises(ComponentError, match="DDIMScheduler"):
        pipeline.sample(2, steps=30, progress=False)


def test_a_schedule_of_somebody_else(tmp_path):
    class Other(Linear):
        pass

    with pytest.raises(ComponentError, match=r"schedule = .*Other"):
        export_pipeline(ours(schedule=Other()), tmp_path / "pipe")


def test_a_sampler_without_a_counterpart(tmp_path):
    pipeline = ours(sampler={"id": "diffusers.scheduler"}, spacing="leading")
    with pytest.raises(ComponentError, match=r"diffusers\.scheduler.*no counterpart"):
        export_pipeline(pipeline, tmp_path / "pipe")
    export_pipeline(pipeline, tmp_path / "ddim", scheduler="ddim")
    assert type(DDIMPipeline.from_pretrained(tmp_path / "ddim")) is DDIMPipeline
    export_pipeline(pipeline, tmp_path / "ddpm", scheduler="ddpm")
    assert type(DDPMPipeline.from_pretrained(tmp_path / "ddpm")) is DDPMPipeline


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="there already"):
        export_pipeline(ours(), tmp_path / "pipe")
    assert [p.name for p in (tmp_path / "pipe").iterdir()] == ["notes.txt"]
