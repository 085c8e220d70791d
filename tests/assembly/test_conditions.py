"""Conditions are declared, matched at build, dropped by name and left out; and who takes them."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import diffkit
from diffkit.assembly.conditions import conditions_of
from diffkit.assembly.prepared_data import prepared_batch
from diffkit.bundled.encoders.renamed import Renamed
from diffkit.bundled.encoders.several import Several
from diffkit.bundled.losses.simple import Simple
from diffkit.bundled.processes.variance_preserving import VariancePreserving
from diffkit.core import (
    Augmentation,
    Batch,
    ConditionInfo,
    Dataset,
    Encoder,
    EpsilonModel,
    Guidance,
    NoiseSchedule,
    SampleMetric,
    facts_of,
)

SHAPE = (1, 4, 4)


class Pairs(Dataset):
    """Pictures, each with one like it and a number; what it declares is an argument."""

    def __init__(self, *, declares: bool = True, number: bool = True) -> None:
        self._declares, self._number = declares, number
        self._x = torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1

    @property
    def shape(self):
        return SHAPE

    @property
    def range(self):
        return (-1.0, 1.0)

    @property
    def conditions(self):
        if not self._declares:
            return None
        picture = {"low": ConditionInfo(shape=SHAPE, picture=True)}
        number = {"number": ConditionInfo(dtype="int64", classes=8)} if self._number else {}
        return picture | number

    def __len__(self):
        return len(self._x)

    def batch(self, indices):
        rows = torch.as_tensor(indices)
        told = {"low": self._x[rows].round(), "number": rows % 8}
        return Batch(self._x[rows], told if self._number else {"low": told["low"]})


class Reads(EpsilonModel):
    """A network that remembers what it was told."""

    def __init__(self, *, names: tuple[str, ...] = ("low",), null: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.told = []

    @classmethod
    def facts(cls, config):
        return {"conditions": config.names, "null": {"low": 9.0} if config.null else {}}

    def forward(self, x, c_noise, condition):
        self.told.append({name: value.clone() for name, value in condition.items()})
        return self.scale * x + 0.0 * sum(v.float().mean() for v in condition.values())


class Numbers(Encoder):
    """A vector for each number."""

    def __init__(self, *, width: int = 3) -> None:
        super().__init__()
        self.vectors = nn.Embedding(9, width)

    @classmethod
    def facts(cls, config):
        return {"takes": ("number",), "vector": config.width}

    def prepare(self, condition):
        return {"number": condition["number"].to(torch.int64)}

    def null(self, count):
        return {"number": torch.full((count,), 8)}

    def forward(self, prepared):
        return {"vector": self.vectors(prepared["number"])}


def spec(**changes):
    return {
        "dataset": Pairs(),
        "schedule": "cosine",
        "process": "variance-preserving",
        "model": Reads(),
        "loss": "simple",
        "sampler": "ddpm",
        "training": {"batch_size": 8, "warmup_steps": 0},
        **changes,
    }


def test_what_is_declared_is_in_the_spec():
    data = diffkit.build(spec()).spec.data
    assert data.conditions["low"] == ConditionInfo(shape=SHAPE, picture=True)
    again = diffkit.build({**spec(dataset=None), "data": data.model_dump(mode="json")}).spec.data
    assert again == data
    # What a spec says of shape and range alone is completed by its dataset.
    short = diffkit.build(spec(data={"shape": SHAPE, "range": [-1, 1]}))
    assert short.spec.data == data


class Marks(Augmentation):
    """Changes nothing, and says which samples it did not change, by a name that data have too."""

    @classmethod
    def facts(cls, config):
        return {"adds": {"low": SHAPE}}

    def __call__(self, batch, generator):
        return Batch(batch.x_0, {**batch.condition, "low": torch.zeros_like(batch.x_0)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": Renamed(encoder=Numbers(), gives={"vector": "low"})},
            "the model takes low, which both the dataset and the encoder give; rename one",
        ),
        (
            {"training": {"augmentations": [Marks()]}},
            "low is given by the dataset and by what changes its batches; rename one",
        ),
        ({"model": Reads(names=("depth",))}, "the model takes depth; the dataset gives low, numb"),
        (
            {
                "dataset": Pairs(number=False),
                "encoder": Numbers(),
                "model": Reads(names=("vector",)),
            },
            "the encoder takes number; the dataset gives low, and the encoder gives vector",
        ),
        ({"encoder": Numbers()}, "nothing of what is encoded would reach it"),
        (
            {
                "model": Reads(names=("low", "number"), null=False),
                "training": {"condition_dropout": 0.1},
            },
            "nobody knows what stands for no condition",
        ),
        (
            {"training": {"condition_dropout": {"number": 0.1}}},
            "names number; those that are taken",
        ),
        ({"training": {"condition_dropout": {"low": 1.5}}}, "condition_dropout"),
    ],
    ids=[
        "given twice",
        "added twice",
        "model",
        "encoder",
        "unread",
        "no null",
        "not taken",
        "rate",
    ],
)
def test_what_does_not_match_is_refused_at_build(changes, message):
    with pytest.raises(diffkit.SpecError, match=message):
        diffkit.build(spec(**changes))


@pytest.mark.parametrize("never", [0.0, {}])
def test_dropping_nothing_needs_nothing_that_stands_for_it(never):
    model = Reads(names=("low", "number"), null=False)
    diffkit.build(spec(model=model, training={"condition_dropout": never}))


class Bridge(VariancePreserving):
    """Takes a condition in drawing, as a bridge does; final classes are for users alone."""

    seen: ClassVar[list] = []

    def __init__(self, *, schedule: NoiseSchedule) -> None:
        super().__init__(schedule=schedule)

    @property
    def takes(self):
        return ("low",)

    def draw(self, x_0, noise, condition=None):
        self.seen.append(("draw", condition["low"].shape))
        return super().draw(x_0, noise, condition)

    def prior(self, shape, noise, condition=None):
        self.seen.append(("prior", condition["low"].shape))
        return super().prior(shape, noise, condition)


def test_a_process_draws_with_the_raw_conditions_of_its_samples():
    from diffkit.bundled.schedules.cosine import Cosine

    schedule = Cosine()
    bridge = Bridge(schedule=schedule)
    pipeline = diffkit.build(
        spec(schedule=schedule, process=bridge, model="mlp", training={"batch_size": 4})
    )
    Bridge.seen.clear()
    pipeline.train(steps=1, progress=False)
    assert ("draw", (4, *SHAPE)) in Bridge.seen
    low = torch.zeros(3, *SHAPE)
    pipeline.sample(3, steps=2, condition={"low": low}, batch_size=2, progress=False)
    assert Bridge.seen[-2:] == [("prior", (2, *SHAPE)), ("prior", (1, *SHAPE))]
    with pytest.raises(diffkit.SpecError, match="conditions taken are: low; given: none"):
        pipeline.sample(3, steps=2, progress=False)
    with pytest.raises(diffkit.SpecError, match="the process takes low; the dataset gives label"):
        diffkit.build(spec(schedule=schedule, process=bridge, model="mlp", dataset="digits"))


def test_without_a_declaration_the_first_row_is_looked_at_at_once():
    undeclared = Pairs(declares=False, number=False)
    pipeline = diffkit.build(spec(dataset=undeclared, model=Reads(names=("low", "number"))))
    assert pipeline.spec.data.conditions is None
    with pytest.raises(diffkit.DataError, match="the model takes number; the dataset gives low"):
        pipeline.train(steps=1, progress=False)
    # One that is given to train is held to what it declares.
    declared = diffkit.build(
        spec(model=Reads(names=("number",)), dataset=None, data={"shape": SHAPE})
    )
    with pytest.raises(diffkit.DataError, match="the model takes number; the dataset gives low"):
        declared.train(Pairs(number=False), steps=1, progress=False)


def test_raw_conditions_pass_beside_encoded_ones():
    pipeline = diffkit.build(spec(encoder=Numbers(), model=Reads(names=("low", "vector"))))
    batch = prepared_batch(Pairs().batch([0, 1]), pipeline.parts)
    assert set(batch.condition) == {"low", "number"}
    told = pipeline.system.encoded(batch.condition)
    assert set(told) == {"low", "vector"}
    assert torch.equal(told["low"], Pairs().batch([0, 1]).condition["low"])


def test_a_raw_condition_is_dropped_by_the_number_that_the_model_declares():
    model = Reads()
    pipeline = diffkit.build(spec(model=model))
    pipeline.train(steps=40, condition_dropout=0.5, progress=False)
    shares = [float((t["low"] == 9.0).flatten(1).all(1).float().mean()) for t in model.told]
    # 320 rows, half of them dropped, to four standard errors.
    assert abs(sum(shares) / len(shares) - 0.5) < 4 * 0.5 / 320**0.5
    whole = [t["low"] for t in model.told]
    assert all(
        bool(((x == 9.0).flatten(1).all(1) | (x != 9.0).flatten(1).all(1)).all()) for x in whole
    )


def test_conditions_are_dropped_by_name_each_on_its_own():
    found = {}
    for number, low in ((0.5, 0.25), (0.5, 0.0), (0.0, 0.25)):
        model = Reads(names=("low", "vector"))
        encoder = Numbers()
        with torch.no_grad():
            encoder.vectors.weight[8] = 100.0
        pipeline = diffkit.build(spec(model=model, encoder=encoder))
        rates = {"number": number, "low": low}
        pipeline.train(steps=30, condition_dropout=rates, learning_rate=1e-6, progress=False)
        rows = [
            torch.stack([(t["vector"] > 50).all(1), (t["low"] == 9.0).flatten(1).all(1)])
            for t in model.told
        ]
        found[number, low] = torch.cat(rows, dim=1)
    both = found[0.5, 0.25]
    # 240 rows to four standard errors; and together as often as independent draws are.
    for dropped, rate in ((both[0], 0.5), (both[1], 0.25), (both.all(0), 0.125)):
        assert abs(float(dropped.float().mean()) - rate) < 4 * (rate * (1 - rate) / 240) ** 0.5
    # What one is does not depend on the other's rate.
    assert torch.equal(found[0.5, 0.0][0], both[0])
    assert torch.equal(found[0.0, 0.25][1], both[1])
    assert not found[0.5, 0.0][1].any()
    assert not found[0.0, 0.25][0].any()


def test_what_is_given_is_what_the_data_declare():
    pipeline = diffkit.build(spec(model=Reads(names=("low", "number"), null=False)))
    given = {"low": torch.zeros(1, *SHAPE), "number": [3]}
    assert pipeline.sample(2, condition=given, steps=2).isfinite().all()
    doubled = {**given, "low": given["low"].double()}
    assert pipeline.sample(2, condition=doubled, steps=2).isfinite().all()
    for wrong, words in (
        ({"low": torch.zeros(1, 1, 2, 2)}, r"low has the shape \[1, 1, 2, 2\], .*\[n, 1, 4, 4\]"),
        ({"low": [1.0, 2.0]}, r"condition.low has the shape \[2\]"),
        ({"number": "three"}, r"condition.number is a text, and the data have int64: 'three'"),
        ({"number": torch.tensor([3.0])}, r"condition.number is torch.float32, .* torch.int64"),
    ):
        with pytest.raises(diffkit.DataError, match=words):
            pipeline.sample(2, condition={**given, **wrong}, steps=2)
        with pytest.raises(diffkit.DataError, match=words):
            pipeline.denoiser(condition={**given, **wrong})


def test_what_is_left_out_in_sampling_stands_for_none():
    model = Reads(names=("low", "vector"))
    pipeline = diffkit.build(spec(model=model, encoder=Numbers()))
    low = torch.zeros(1, *SHAPE)
    told = conditions_of({"low": low}, pipeline.parts).model
    assert told["number"].tolist() == [8]
    told = conditions_of({"number": [1, 2]}, pipeline.parts).model
    assert told["low"].shape == (1, *SHAPE)
    assert bool((told["low"] == 9.0).all())
    without = diffkit.build(spec(model=Reads(null=False)))
    with pytest.raises(diffkit.SpecError, match="conditions taken are: low; given: none"):
        without.sample(2, steps=2, progress=False)
    with pytest.raises(diffkit.SpecError, match="given: low, depth"):
        without.sample(2, steps=2, condition={"low": low, "depth": low}, progress=False)


class Away(Guidance):
    """Notes what it was given; needs a null, and may take another picture."""

    seen: ClassVar[list] = []
    needs_null = True

    def __init__(self, *, other: str = "low") -> None:
        self._other = other

    @property
    def may_take(self):
        return (f"other_{self._other}",)

    def guide(self, make_denoiser, conditioning):
        self.seen.append(conditioning)
        return make_denoiser(conditioning.condition)


def test_guidance_has_the_null_of_raw_conditions_and_conditions_of_its_own():
    pipeline = diffkit.build(
        spec(model=Reads(names=("low", "vector")), encoder=Numbers(), guidance=Away())
    )
    given = {"low": torch.zeros(2, *SHAPE), "number": [3, 4], "other_low": torch.ones(1, *SHAPE)}
    pipeline.sample(2, steps=2, condition=given, progress=False)
    told = Away.seen[-1]
    assert bool((told.null["low"] == 9.0).all())
    vectors = pipeline.average.parts.encoder.vectors if pipeline.average else None
    vectors = vectors or pipeline.parts.encoder.vectors
    assert torch.equal(told.null["vector"], vectors.weight[[8, 8]])
    other = told.encoded({"low": told.given["other_low"]})
    assert bool((other["low"] == 1.0).all())
    assert torch.equal(other["vector"], told.condition["vector"])
    with pytest.raises(diffkit.SpecError, match="given: depth"):
        told.encoded({"depth": told.given["other_low"]})
    pipeline.sample(2, steps=2, condition={"number": 1}, progress=False)
    with pytest.raises(diffkit.SpecError, match="stands for no low"):
        diffkit.build(spec(model=Reads(null=False), guidance=Away()))
    with pytest.raises(diffkit.SpecError, match="drops no low"):
        diffkit.build(
            spec(
                model=Reads(names=("low", "vector")),
                encoder=Numbers(),
                guidance=Away(),
                training={"condition_dropout": {"number": 0.1}},
            )
        )


def test_guidance_is_refused_after_a_training_that_never_dropped_conditions():
    never = diffkit.build(spec(training={"batch_size": 8, "condition_dropout": 0.0}))
    low = torch.zeros(1, *SHAPE)
    for guidance in (Away(), "classifier-free"):
        with pytest.raises(diffkit.SpecError, match=r"never trained so where .* is 0; leave that"):
            never.sample(2, steps=2, condition={"low": low}, guidance=guidance, progress=False)
        with pytest.raises(diffkit.SpecError, match=r"never trained so where .* is 0"):
            never.denoiser(condition={"low": low}, guidance=guidance)
    # Neither guidance nor another sampler is refused because of one that is not there.
    never.sample(2, steps=2, condition={"low": low}, sampler="ddim", progress=False)
    guided = diffkit.build(spec(guidance=Away()))
    for dropout in (0.0, {"low": 0.0}):
        with pytest.raises(diffkit.SpecError, match="never trained so"):
            guided.train(steps=1, condition_dropout=dropout, progress=False)
    guided.train(steps=1, condition_dropout=0.2, progress=False)


def test_several_encoders_and_names_of_ones_own():
    two = Several(
        encoders=(
            Numbers(width=3),
            Renamed(encoder=Numbers(width=4), takes={"number": "low"}, gives={"vector": "style"}),
        )
    )
    facts = Several.facts(type("Config", (), {"encoders": two.encoders}))
    assert facts["takes"] == ("number", "low")
    assert facts["vector"] == 3
    assert facts["style"] == 4
    assert set(facts["gives"]) == {"vector", "style"}
    raw = {"number": torch.tensor([1, 2]), "low": torch.tensor([3, 4])}
    told = two(two.prepare(raw))
    assert torch.equal(told["vector"], two.encoders[0].vectors.weight[[1, 2]])
    assert torch.equal(told["style"], two.encoders[1].encoder.vectors.weight[[3, 4]])
    assert [g.takes for g in two.groups()] == [("number",), ("low",)]
    joined = Several(encoders=(Numbers(width=3), Numbers(width=4)))
    assert joined(joined.prepare(raw))["vector"].shape == (2, 7)
    assert [g.takes for g in joined.groups()] == [("number",)]
    named = {"gives": {"vector": "style"}}
    with pytest.raises(diffkit.ComponentError, match="2 encoders give style"):
        Several(encoders=(Renamed(encoder=Numbers(), **named), Renamed(encoder=Numbers(), **named)))


class OfRows(SampleMetric):
    """Notes what it was given."""

    def samples_needed(self, dataset):
        return 5

    def measure(self, samples, dataset, seed, of):
        if of is None:
            return {"paired": 0.0}
        rows = of.condition["low"]
        assert torch.equal(rows, of.x_0.round())
        return {"paired": float(len(rows))}


def test_a_metric_is_given_what_samples_were_made_of():
    pipeline = diffkit.build(spec(metric=OfRows(), steps=2))
    assert pipeline.evaluate() == {"paired": 5.0}
    samples = pipeline.sample(5, condition={"low": torch.zeros(1, *SHAPE)}, progress=False)
    assert pipeline.evaluate(samples) == {"paired": 0.0}
    assert pipeline.evaluate(samples, of=Pairs().batch(range(5))) == {"paired": 5.0}
    assert diffkit.build(spec(metric=OfRows(), model="mlp", steps=2)).evaluate() == {"paired": 0.0}


def test_a_loss_sees_what_was_given_before_it_was_dropped():
    seen = []

    class Looks(Simple):
        @property
        def takes(self):
            return ("low",)

        def __call__(self, batch, context):
            seen.append((batch.condition["low"], batch.given["low"], batch.x_0))
            return super().__call__(batch, context)

    diffkit.build(spec(loss=Looks())).train(steps=10, condition_dropout=0.5, progress=False)
    assert any(bool((told == 9.0).any()) for told, _, _ in seen)
    assert all(torch.equal(given, x_0.round()) for _, given, x_0 in seen)


class Around(EpsilonModel):
    """A network around another, with what that one says of itself."""

    def __init__(self, *, inner: EpsilonModel) -> None:
        super().__init__()
        self.inner = inner

    @classmethod
    def facts(cls, config):
        return dict(facts_of(config.inner))

    def forward(self, x, c_noise, condition):
        return self.inner(x, c_noise, condition)


def test_the_facts_of_a_component_within_another_are_known_from_its_spec(tmp_path):
    (tmp_path / "around.py").write_text(
        "from diffkit.core import EpsilonModel, facts_of\n\n\n"
        "class Around(EpsilonModel):\n"
        "    def __init__(self, *, inner: EpsilonModel) -> None:\n"
        "        super().__init__()\n"
        "        self.inner = inner\n\n"
        "    @classmethod\n"
        "    def facts(cls, config):\n"
        "        return dict(facts_of(config.inner))\n\n"
        "    def forward(self, x, c_noise, condition):\n"
        "        return self.inner(x, c_noise, condition)\n"
    )
    inner = {"id": "mlp", "config": {"width": 16, "depth": 1, "learned_variance": True}}
    model = {"id": "local.around", "config": {"inner": inner}}
    host = diffkit.Host(plugin_files=[tmp_path / "around.py"])
    pipeline = diffkit.build(spec(model=model, loss="hybrid"), host=host)
    assert pipeline.parts.learned_variance
    assert "diffkit.mlp" in pipeline.spec.provenance
    with pytest.raises(diffkit.SpecError, match="made with another model; name one in its config"):
        diffkit.build(spec(model="local.around"), host=host)
    # An instance is asked itself.
    within = diffkit.build(spec(model=Around(inner=Reads())))
    assert within.parts.taken == ("low",)


def test_what_was_made_with_a_schedule_is_made_again_with_another(tmp_path):
    (tmp_path / "needs.py").write_text(
        "from diffkit.core import ForwardProcess, State, StepSampler\n\n\n"
        "class Needs(StepSampler):\n"
        "    def __init__(self, *, process: ForwardProcess) -> None:\n"
        "        self.process = process\n\n"
        "    def step(self, denoiser, x_t, t, s, noise):\n"
        "        return State(denoiser(x_t, t).x_0, s)\n"
    )
    host = diffkit.Host(plugin_files=[tmp_path / "needs.py"])
    pipeline = diffkit.build(spec(sampler="local.needs", model="mlp"), host=host)
    assert pipeline.parts.sampler.process is pipeline.parts.process
    run = pipeline._plan(2, schedule="linear", steps=2)
    assert run.sampler.process is run.process
    assert type(run.process.schedule).__name__ == "Linear"
