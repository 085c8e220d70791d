"""An imported pipeline is diffkit's own U-Net, and gives what diffusers gives."""

from __future__ import annotations

import inspect

import diffkit
import pytest
import torch
from diffkit.bundled.models.unet import UNet
from diffkit.core.clipping import ClippedDenoiser
from diffkit.core.component import arguments_of
from diffkit.core.noise import Noise
from diffkit.errors import ComponentError
from diffkit.plugins.host import Host
from diffusers import UNet2DModel
from diffusers.schedulers import scheduling_ddpm

from diffkit_diffusers import import_pipeline

from .small_pipelines import (
    CIFAR10,
    edited,
    noise,
    our_output,
    saved,
    small,
    start,
    their_loop,
    their_output,
    theirs,
    with_old_names,
)

NETWORKS = {
    "gray": small(),
    "color": small(in_channels=3, out_channels=3),
    "no attention": small((False, False)),
    "attention everywhere": small((True, True, True)),
    "one level": small((True,)),
    "wider levels": small((False, True), block_out_channels=[8, 24]),
    "deeper": small((True, False), layers_per_block=3),
    "two heads": small((False, True), attention_head_dim=8),
    "cosines first": small(flip_sin_to_cos=True),
    "not square": small(sample_size=[4, 8]),
}
DDIM = "samplers.ddim"


def assert_equal_outputs(pipeline, unet, shape, index):
    x = noise(2, *shape)
    expected = their_output(unet, x, index)
    assert expected.std() > 0.1
    # float32: angles up to 1000 are rounded to 3e-5, at k here and at k - 1 there, and the
    # network hands on less than a tenth of that; the rest is another order of summation.
    assert torch.allclose(our_output(pipeline, x, index), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_equal_outputs(network, tmp_path):
    pipe = theirs(network)
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    assert type(pipeline.parts.model) is UNet
    for index in (0, 1, 37, 500, 998, 999):
        assert_equal_outputs(pipeline, pipe.unet, pipeline.parts.shape, index)


def test_the_index_is_shifted(tmp_path):
    pipe = theirs()
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    x = noise(2, 1, 8, 8)
    beside = their_output(pipe.unet, x, 5)
    # Neighbouring indices differ by a thousand times the tolerance, so an index off by one shows.
    assert (our_output(pipeline, x, 4) - beside).abs().max() > 1e-2


def test_the_papers_cifar10_network(tmp_path):
    pipe = theirs(CIFAR10, variance_type="fixed_large")
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    model = pipeline.parts.model
    assert sum(p.numel() for p in model.parameters()) == 35_746_307
    config, defaults = arguments_of(model), inspect.signature(UNet.__init__).parameters
    for name in ("width", "multipliers", "blocks", "heads", "groups"):
        assert config[name] == defaults[name].default
    assert config["attention"] == (16,)
    assert pipeline.spec.sampler.config == {"variance": "fixed_large"}
    assert pipeline.spec.clip is True
    assert_equal_outputs(pipeline, pipe.unet, (3, 32, 32), 500)


def test_the_run_is_saved_and_needs_no_diffusers(tmp_path):
    pipe = theirs()
    folder = saved(pipe, tmp_path / "pipe")
    pipeline = import_pipeline(folder, tmp_path / "run")
    again = diffkit.load(tmp_path / "run", host=Host(disabled=["diffusers"]), device="cpu")
    assert again.spec == pipeline.spec
    x = noise(2, 1, 8, 8)
    assert torch.equal(our_output(again, x, 10), our_output(pipeline, x, 10))


@pytest.mark.parametrize("betas", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("clip", [False, True], ids=["free", "clip"])
@pytest.mark.parametrize("disabled", [[], ["samplers"]], ids=["samplers", "alone"])
def test_a_ddim_loop_of_50_steps(betas, prediction, spacing, clip, disabled, tmp_path):
    host = Host(disabled=disabled)
    if not disabled and not host.knows("sampler", DDIM):
        pytest.skip("diffkit-samplers is not installed")
    pipe = theirs(
        ddim=True,
        beta_schedule=betas,
        prediction_type=prediction,
        timestep_spacing=spacing,
        clip_sample=clip,
    )
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"), host=host)
    same = not clip and spacing == "leading"
    expected_sampler = DDIM if same and not disabled else "diffusers.scheduler"
    assert pipeline.spec.sampler.id == expected_sampler
    assert pipeline.spec.steps == 50
    actual = pipeline.sample(2, progress=False)
    expected = their_loop(pipe, start(pipeline, 2), 50)
    # float32 rounding of 1e-6 a step, and their float32 tables; relative where the random
    # network, which is no denoiser, lets x grow.
    size = max(1.0, float(expected.abs().max()))
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [7, 30])
def test_ddim_in_steps_that_do_not_divide_t(spacing, steps, tmp_path):
    pipe = theirs(ddim=True, timestep_spacing=spacing, clip_sample=False)
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    if spacing == "trailing":
        # diffusers steps T // S indices down, and so misses the times it asks at.
        with pytest.raises(ComponentError, match=r"use .*steps that divide 1000"):
            pipeline.sample(2, steps=steps, progress=False)
        return
    actual = pipeline.sample(2, steps=steps, progress=False)
    expected = their_loop(pipe, start(pipeline, 2, steps=steps), steps)
    # As above.
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4 * max(1, expected.abs().max()))


@pytest.mark.parametrize("ddim", [False, True], ids=["ddpm", "ddim"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_betas_and_a_clip_of_other_sizes(ddim, prediction, tmp_path, monkeypatch):
    pipe = theirs(
        ddim=ddim,
        beta_start=2e-4,
        beta_end=0.01,
        prediction_type=prediction,
        clip_sample_range=0.25,
        **({} if ddim else {"variance_type": "fixed_large"}),
    )
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    # Pictures are made of [-1, 1], wherever predictions are clipped.
    assert pipeline.spec.data.range == (-1.0, 1.0)
    assert pipeline.spec.sampler.id == "diffusers.scheduler"
    numbers = [noise(2, 1, 8, 8, seed=i) for i in range(20)]
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", Recorded(numbers).as_randn_tensor)
    actual = pipeline.sample(2, steps=20, progress=False)
    assert float(actual.abs().max()) <= 0.25 + 1e-6
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", Recorded(numbers).as_randn_tensor)
    expected = their_loop(pipe, start(pipeline, 2, steps=20), 20)
    # The same code; betas from a float64 table here.
    assert torch.allclose(actual, expected, rtol=0, atol=1e-4)
    alpha_bar = float(torch.sigmoid(pipeline.parts.schedule.log_snr(1.0)))
    # A product of a thousand float32 factors.
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(alpha_bar, rel=1e-4)


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


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("clip", [False, True], ids=["free", "clip"])
def test_a_ddpm_loop_with_the_same_noise(variance, clip, tmp_path, monkeypatch):
    pipe = theirs(variance_type=variance, clip_sample=clip, prediction_type="v_prediction")
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    assert pipeline.spec.sampler.id == "diffkit.ddpm"
    numbers = [noise(2, 1, 8, 8, seed=i) for i in range(20)]
    x = numbers.pop(0)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", Recorded(numbers).as_randn_tensor)
    expected = their_loop(pipe, x, 20)
    times = pipeline.parts.spacing.times(20, pipeline.parts.schedule)
    assert pipeline.spec.clip is clip
    denoiser = pipeline.system.denoiser()
    if clip:
        denoiser = ClippedDenoiser(denoiser, (-1.0, 1.0))
    with torch.no_grad():
        states = pipeline.parts.sampler.trajectory(denoiser, x, times, Recorded(numbers), {})
        *_, state = states
    # As for DDIM; the deviation at the first index is 1e-2, and their float32 tables know it to
    # 1e-3 of that, but add nothing there.
    assert torch.allclose(state.x, expected, rtol=0, atol=1e-4 * max(1, expected.abs().max()))


def test_a_clip_range_without_clipping_says_nothing(tmp_path):
    pipe = theirs(clip_sample=False, clip_sample_range=0.25)
    pipeline = import_pipeline(saved(pipe, tmp_path / "pipe"))
    assert pipeline.spec.data.range == (-1.0, 1.0)
    assert pipeline.spec.sampler.id == "diffkit.ddpm"


def test_names_of_attention_in_early_folders(tmp_path):
    pipe = theirs()
    folder = with_old_names(saved(pipe, tmp_path / "pipe"))
    assert_equal_outputs(import_pipeline(folder), pipe.unet, (1, 8, 8), 10)


def test_an_early_folder_lacks_keys(tmp_path):
    pipe = theirs(small(resnet_time_scale_shift="default"))
    folder = saved(pipe, tmp_path / "pipe")
    edited(folder, "unet/config.json", resnet_time_scale_shift=..., add_attention=..., odd=None)
    edited(folder, "scheduler/scheduler_config.json", prediction_type=..., predict_epsilon=True)
    assert_equal_outputs(import_pipeline(folder), pipe.unet, (1, 8, 8), 10)


def test_half_precision_weights_are_taken_as_diffusers_takes_them(tmp_path):
    pipe = theirs()
    pipe.unet.half()
    folder = saved(pipe, tmp_path / "pipe")
    unet = UNet2DModel.from_pretrained(folder / "unet").float()
    assert_equal_outputs(import_pipeline(folder), unet, (1, 8, 8), 10)
