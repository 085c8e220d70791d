"""A trained run as an argument: a teacher."""

from __future__ import annotations

import copy

import pytest
import torch

import diffkit
from diffkit.core import Batch, Dataset, EpsilonModel, Loss, LossRecord, Run
from diffkit.errors import CheckpointError

SPEC = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 8, "depth": 1}},
    "loss": "simple",
    "sampler": "ddpm",
    "data": {"shape": [2], "range": [-1.0, 1.0]},
}
PLUGIN = '''
import torch
from diffkit.core import Loss, LossRecord, Run

class Distilled(Loss):
    """The squared error against what a teacher says."""

    def __init__(self, *, teacher: Run, other: Run | None = None) -> None:
        self.teacher, self.other = teacher, other

    def __call__(self, batch, context):
        t, _ = context.draw_times(len(batch))
        noise = context.process.draw(batch.x_0, context.noise, batch.given)
        x_t = context.process.diffuse(batch.x_0, t, noise)
        with torch.no_grad():
            told = self.teacher.denoiser(batch.condition, device=x_t.device)(x_t, t)
        said = context.denoiser(x_t, t)
        return LossRecord((said.epsilon - told.epsilon).square().flatten(1).mean(1), t)
'''


class Points(Dataset):
    @property
    def shape(self):
        return (2,)

    def __len__(self):
        return 64

    def batch(self, indices):
        rows = torch.tensor(list(indices), dtype=torch.float32)
        return Batch(torch.stack([(0.1 * rows).sin(), (0.1 * rows).cos()], dim=1))


@pytest.fixture
def teacher(tmp_path):
    pipeline = diffkit.build({**SPEC, "seed": 1})
    return pipeline.save(tmp_path / "teacher")


def test_a_teacher_is_named_in_the_spec_and_its_weights_are_not_saved_again(teacher, tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    host = diffkit.Host(plugin_files=[tmp_path / "plugin.py"])
    named = {"id": "local.distilled", "config": {"teacher": str(teacher)}}
    student = diffkit.build({**SPEC, "loss": named}, host=host)
    settings = {"batch_size": 16, "warmup_steps": 0, "log_every": 100, "learning_rate": 1e-2}
    settings |= {"out": tmp_path / "student", "progress": False}
    losses = []

    class Notes:
        @diffkit.hookimpl
        def diffkit_step(self, run, step, metrics):
            losses.append(metrics["loss"])

    student.train(Points(), steps=300, observers=[Notes()], **settings)
    # It learns what the teacher says: from a loss that is the difference of two random networks.
    assert losses[-1] < 0.1 * losses[0] or losses[-1] < 1e-3
    again = diffkit.load(tmp_path / "student", host=host)
    assert again.spec.loss.config == {"teacher": str(teacher), "other": None}
    names = [name for name in again.system.state_dict() if not name.startswith("model.")]
    assert names == []
    own = Run(teacher).pipeline.system.state_dict()
    before = diffkit.load(teacher).system.state_dict()
    assert all(torch.equal(own[name], before[name]) for name in own)


def test_a_run_is_read_when_it_is_asked(tmp_path):
    """A student samples without its teacher."""
    run = Run(tmp_path / "nowhere")
    assert copy.deepcopy(run) is run
    assert run == Run(str(tmp_path / "nowhere"))
    assert repr(run) == f"Run({str(tmp_path / 'nowhere')!r})"
    with pytest.raises(CheckpointError, match="there is no such run directory"):
        run.denoiser()


def test_its_denoiser_is_that_of_its_samples_and_takes_no_gradient(teacher):
    run, x = Run(teacher), torch.randn(3, 2, requires_grad=True)
    said = run.denoiser()(x, 0.5)
    wanted = diffkit.load(teacher).denoiser()(x, 0.5)
    assert torch.equal(said.epsilon, wanted.epsilon)
    said.epsilon.sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in run.pipeline.system.parameters())


def test_an_instance_with_a_run_is_described_by_its_directory(teacher):
    class Told(Loss):
        def __init__(self, *, teacher: Run) -> None:
            self._teacher = teacher

        def __call__(self, batch, context):
            return LossRecord(batch.x_0.sum(1), torch.zeros(len(batch)).double())

    from diffkit.config.signature import reference_of
    from diffkit.plugins.entries import ComponentEntry, Origin

    host = diffkit.Host()
    host.add(ComponentEntry("loss", "told", Told, Origin("acme", "0", "acme")))
    assert reference_of(Told(teacher=Run(teacher)), host).config == {"teacher": str(teacher)}


OWN = """
from diffkit.bundled.models.mlp import MLP
from diffkit.core import EpsilonModel

class Mine(EpsilonModel):
    def __init__(self) -> None:
        super().__init__()
        self.inner = MLP(shape=(2,), width=8, depth=1)

    def forward(self, x, c_noise, condition):
        return self.inner(x, c_noise, condition)
"""


def test_a_run_of_components_from_files_is_read_by_the_same_host(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "own.py").write_text(OWN)
    host = diffkit.Host(plugin_files=[tmp_path / "plugin.py", tmp_path / "own.py"])
    where = diffkit.build({**SPEC, "model": "local.mine"}, host=host).save(tmp_path / "teacher")
    loss = {"id": "local.distilled", "config": {"teacher": str(where)}}
    student = diffkit.build({**SPEC, "loss": loss}, host=host)
    student.train(Points(), steps=1, batch_size=4, progress=False)
    assert type(student.parts.loss.teacher.pipeline.parts.model).__name__ == "Mine"


class Corrects(EpsilonModel):
    """A linear network beside a trained one."""

    def __init__(self, *, base: Run, other: Run | None = None) -> None:
        super().__init__()
        self._base, self._other = base, other
        self.added = torch.nn.Linear(3, 2)

    def forward(self, x, c_noise, condition):
        told = torch.cat([x, c_noise[:, None].to(x) / 1000], dim=1)
        return self._base.network(x, c_noise, condition) + self.added(told)


def test_a_directory_in_python_is_a_run_as_in_a_spec(teacher):
    model = Corrects(base=teacher, other=str(teacher))
    assert model._base == model._other == Run(teacher)
    pipeline = diffkit.build({**SPEC, "model": model})
    assert pipeline.sample(2, steps=3).isfinite().all()
    assert {name.split(".")[1] for name, _ in pipeline.system.named_parameters()} == {"added"}


def test_a_network_answers_in_the_precision_of_its_asker(teacher):
    run = Run(teacher)
    x, c_noise = torch.randn(4, 2), torch.full((4,), 300.0)
    with torch.no_grad():
        said = run.network(x, c_noise, {})
        assert torch.equal(said, run.model(x, c_noise, {}))
        doubled = run.network(x.double(), c_noise, {})
        assert torch.equal(doubled, said.double())
        assert run.network(x.bfloat16(), c_noise, {}).dtype == torch.bfloat16
        denoiser, doubled = run.denoiser(), run.denoiser()(x.double(), 0.5).x_0
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), denoiser(x, 0.5).x_0)


def test_a_pipeline_in_memory_is_a_run_that_no_file_names(teacher, tmp_path):
    pipeline = diffkit.load(teacher)
    run = Run.of(pipeline)
    assert run != Run.of(pipeline)
    assert not any(weight.requires_grad for weight in run.model.parameters())
    (tmp_path / "plugin.py").write_text(PLUGIN)
    host = diffkit.Host(plugin_files=[tmp_path / "plugin.py"])
    loss = host.resolve("loss", "local.distilled")(teacher=run)
    built = diffkit.build({**SPEC, "loss": loss}, host=host)
    assert built.loss(torch.zeros(4, 2)).values.isfinite().all()
    with pytest.raises(diffkit.SpecError, match=r"teacher is a run in memory; save it"):
        built.save(tmp_path / "run")


def test_where_a_relative_directory_was_looked_for_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=rf"runs/base: there is no .*, below {tmp_path}"):
        Run("runs/base").network(torch.zeros(1, 2), torch.zeros(1), {})


@pytest.mark.parametrize(
    ("condition", "words"),
    [({"label": [1]}, "label are no tensors"), ({}, "label are not given"), (None, "not given")],
)
def test_conditions_that_are_not_prepared_are_refused(condition, words, tmp_path):
    pytest.importorskip("diffkit_guidance")
    labelled = {
        **SPEC,
        "data": {"shape": [1, 8, 8]},
        "model": {
            "id": "unet",
            "config": {"width": 8, "multipliers": [1], "blocks": 1, "groups": 2, "attention": []},
        },
        "encoder": {"id": "guidance.label", "config": {"classes": 3, "width": 8}},
    }
    run = Run.of(diffkit.build(labelled))
    with pytest.raises(diffkit.ComponentError, match=words):
        run.denoiser(condition)
    told = run.denoiser({"label": torch.tensor([1, 2])})
    assert told(torch.zeros(2, 1, 8, 8), 0.5).x_0.isfinite().all()
