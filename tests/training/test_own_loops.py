"""Loops of one's own make the updates that `Pipeline.train` makes."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

import diffkit
from diffkit.bundled.losses.simple import Simple
from diffkit.core import LossRecord
from diffkit.training.order import DataOrder

UNET = {"width": 8, "multipliers": [1], "blocks": 1, "attention": [], "groups": 2, "dropout": 0.5}
SPEC = {
    "schedule": {"id": "cosine", "config": {"steps": 20}},
    "process": "variance-preserving",
    "model": {"id": "unet", "config": UNET},
    "loss": "simple",
    "sampler": "ddpm",
    "dataset": "digits",
    "steps": 2,
    "seed": 3,
    "training": {
        "batch_size": 8,
        "steps": 6,
        "warmup_steps": 2,
        "learning_rate": {"id": "cosine-decay", "config": {"rate": 0.01}},
        "averages": {"ema": {"id": "ema", "config": {"decay": 0.6}}, "power": "power"},
    },
}
CONDITIONAL = {
    **SPEC,
    "model": {"id": "unet", "config": UNET},
    "encoder": {"id": "guidance.label", "config": {"classes": 10, "width": 8}},
}


def batches(pipeline, count=6, size=8):
    """In the order of `train`."""
    data = pipeline.dataset()
    order = DataOrder(len(data), pipeline.spec.seed)
    for step in range(count):
        read = data.batch(order.rows(step * size, size))
        yield read.x_0, read.condition


def tensors(pipeline) -> list[torch.Tensor]:
    systems = (pipeline.system, *pipeline._weights.averages.values())
    return [value for system in systems for value in system.state_dict().values()]


def same(one, other) -> bool:
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def plain(pipeline, meanwhile=lambda pipeline: None, module=None) -> None:
    optimizer = pipeline.optimizer()
    law = LambdaLR(optimizer, pipeline.learning_rate)
    for x_0, condition in batches(pipeline):
        record = pipeline.loss(x_0, condition, module=module)
        meanwhile(pipeline)
        record.values.mean().backward()
        torch.nn.utils.clip_grad_norm_(pipeline.system.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        law.step()
        pipeline.update_average()
        meanwhile(pipeline)


@pytest.fixture
def trained():
    return diffkit.build(SPEC, device="cpu").train(progress=False)


def test_a_plain_loop_is_train(trained) -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    plain(pipeline)
    assert same(trained, pipeline)
    assert torch.equal(trained.sample(2), pipeline.sample(2))


def test_times_that_learn_are_those_of_train() -> None:
    spec = {**SPEC, "times": {"id": "importance", "config": {"history": 2}}}
    pipeline = diffkit.build(spec, device="cpu")
    plain(pipeline)
    assert same(diffkit.build(spec, device="cpu").train(progress=False), pipeline)


def test_sampling_saving_and_measuring_meanwhile_changes_nothing(trained, tmp_path) -> None:
    drawn = []

    def meanwhile(pipeline) -> None:
        torch.rand(3)
        x = pipeline.sample(2, seed=1)
        assert torch.equal(x, pipeline.sample(2, seed=1)), "dropout was on"
        drawn.append(x)
        with torch.no_grad():
            x_0, condition = next(batches(pipeline))
            before = pipeline.loss(x_0, condition)
            assert torch.equal(
                before.values, pipeline.loss(x_0, condition, step=before.step).values
            )
            assert not before.values.requires_grad

    pipeline = diffkit.build(SPEC, device="cpu")
    plain(pipeline, meanwhile)
    assert same(trained, pipeline)
    assert not torch.equal(drawn[0], drawn[-1])
    assert pipeline.save(tmp_path / "run").joinpath("checkpoints/step-00000006").is_dir()


def test_steps_are_counted_and_can_be_said() -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    x_0, condition = next(batches(pipeline))
    first = [pipeline.loss(x_0, condition) for _ in range(2)]
    assert [record.step for record in first] == [0, 1]
    assert torch.equal(pipeline.loss(x_0, condition, step=0).values, first[0].values)
    assert pipeline.loss(x_0, condition).step == 1
    assert pipeline.average is None, "an average that does not follow is not sampled with"
    pipeline.train(steps=2, progress=False)
    assert pipeline.loss(x_0, condition).step == 2


class Looks(Simple):
    """Notes what there is beside the batch."""

    seen: list = []  # noqa: RUF012 - for the test

    def __call__(self, batch, context) -> LossRecord:
        self.seen.append((context.step, context.steps, context.average is not None))
        return super().__call__(batch, context)


def test_a_loss_sees_the_same_as_in_train() -> None:
    Looks.seen.clear()
    pipeline = diffkit.build({**SPEC, "loss": Looks()}, device="cpu")
    plain(pipeline)
    own, Looks.seen = list(Looks.seen), []
    diffkit.build({**SPEC, "loss": Looks()}, device="cpu").train(progress=False)
    assert own == Looks.seen == [(n, 6, True) for n in range(6)]


def test_raw_conditions_are_prepared() -> None:
    pytest.importorskip("diffkit_guidance")
    pipeline = diffkit.build(CONDITIONAL, device="cpu")
    plain(pipeline)
    assert same(diffkit.build(CONDITIONAL, device="cpu").train(progress=False), pipeline)
    x_0, _ = next(batches(pipeline))
    with pytest.raises(diffkit.DataError, match="the encoder takes label"):
        pipeline.loss(x_0)
    with pytest.raises(diffkit.DataError, match=r"condition.label .* there are 8 samples"):
        pipeline.loss(x_0, {"label": [1, 2]})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1.0],), diffkit.SpecError, "x_0 .* a tensor of samples"),
        ((torch.zeros(2, 3),), diffkit.DataError, r"shape \[2, 3\], .* has \[b, 1, 8, 8\]"),
        ((torch.zeros(0, 1, 8, 8),), diffkit.DataError, "x_0 has the shape"),
        ((torch.zeros(2, 1, 8, 8), 5), diffkit.SpecError, "condition .* a mapping"),
    ],
)
def test_what_is_no_batch_is_refused(arguments, error, words) -> None:
    with pytest.raises(error, match=words):
        diffkit.build(SPEC, device="cpu").loss(*arguments)


def test_layers_that_are_replaced_do_not_leave_the_average_behind() -> None:
    pipeline = diffkit.build(SPEC, device="cpu")
    x_0, condition = next(batches(pipeline))
    pipeline.loss(x_0, condition)
    pipeline.update_average()
    last = pipeline.system.parts.model.last
    last.weight = torch.nn.Parameter(torch.zeros_like(last.weight))
    with pytest.raises(diffkit.ComponentError, match=r"other tensors .* before it"):
        pipeline.update_average()


@pytest.fixture
def one_process_alone():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_divided_weights_are_trained_and_what_cannot_be_done_with_them_is_said(
    one_process_alone, tmp_path
) -> None:
    from torch.distributed.fsdp import fully_shard

    spec = {**SPEC, "model": {"id": "mlp", "config": {"width": 16, "depth": 1}}}
    with_average = diffkit.build(spec, device="cpu")
    fully_shard(with_average.system)
    x_0, condition = next(batches(with_average))
    with pytest.raises(diffkit.ComponentError, match=r"training.averages: each process .* \{\}"):
        with_average.loss(x_0, condition)

    spec["training"] = {**SPEC["training"], "averages": {}}
    pipeline, whole = (diffkit.build(spec, device="cpu") for _ in range(2))
    fully_shard(pipeline.system)
    plain(pipeline)
    plain(whole)
    pairs = zip(pipeline.system.parameters(), whole.system.parameters(), strict=True)
    for divided, held in pairs:
        torch.testing.assert_close(divided.full_tensor(), held)
    for asked in (lambda: pipeline.sample(2), lambda: pipeline.save(tmp_path / "run")):
        with pytest.raises(diffkit.ComponentError, match=r"each process .* full_state_dict"):
            asked()
    assert not (tmp_path / "run").exists()


def test_with_accelerate(trained) -> None:
    accelerate = pytest.importorskip("accelerate")
    pipeline = diffkit.build(SPEC, device="cpu")
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = pipeline.optimizer()
    law = LambdaLR(optimizer, pipeline.learning_rate)
    module, optimizer = accelerator.prepare(pipeline.system, optimizer)
    for x_0, condition in batches(pipeline):
        record = pipeline.loss(x_0, condition, module=module)
        accelerator.backward(record.values.mean())
        accelerator.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        law.step()
        pipeline.update_average()
    assert same(trained, pipeline)


def test_with_lightning(trained, tmp_path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self, pipeline) -> None:
            super().__init__()
            self.pipeline, self.system = pipeline, pipeline.system

        def training_step(self, batch, index):
            return self.pipeline.loss(*batch).values.mean()

        def optimizer_step(self, *arguments, **named) -> None:
            super().optimizer_step(*arguments, **named)
            self.pipeline.update_average()

        def configure_optimizers(self):
            optimizer = self.pipeline.optimizer()
            law = LambdaLR(optimizer, self.pipeline.learning_rate)
            return [optimizer], [{"scheduler": law, "interval": "step"}]

    pipeline = diffkit.build(SPEC, device="cpu")
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        default_root_dir=tmp_path,
    )
    trainer.fit(Module(pipeline), DataLoader(list(batches(pipeline)), batch_size=None))
    assert same(trained, pipeline)
