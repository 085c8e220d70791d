"""Pipelines that work in latents, and the files that hold these."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import diffkit
from diffkit import DataError, SpecError
from diffkit.assembly.encoded_data import Encoded
from diffkit.assembly.latents import LatentSpace
from diffkit.bundled.datasets.digits import Digits
from diffkit.core.autoencoder import Autoencoder
from diffkit.core.dataset import Dataset
from diffkit.core.loss import Batch
from diffkit.core.stream import Stream
from diffkit.errors import CheckpointError, ComponentError
from diffkit.plugins.entries import ComponentEntry, Origin
from diffkit.plugins.host import Host
from diffkit.storage import run_directory
from diffkit.storage.latents import in_folder

FIVE = {
    "schedule": "cosine",
    "process": "variance-preserving",
    "model": {"id": "mlp", "config": {"width": 32, "depth": 2}},
    "loss": "simple",
    "sampler": "ddpm",
    "steps": 5,
}
CALLS: list[int] = []


class Folded(Autoencoder):
    """Each square of four pixels becomes one of four channels, times `gain`."""

    def __init__(self, *, gain: float = 2.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    @classmethod
    def latent_shape(cls, config: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] % 2 or shape[2] % 2:
            raise ComponentError(f"it takes images of even sides, not {list(shape)}")
        return (4 * shape[0], shape[1] // 2, shape[2] // 2)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        CALLS.append(len(x))
        return self.gain * nn.functional.pixel_unshuffle(x, 2)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.pixel_shuffle(z / self.gain, 2)


class Few(Dataset):
    """Random images with a label each."""

    def __init__(self, *, count: int = 40, seed: int = 0, size: int = 8) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x_0 = torch.rand(count, 1, size, size, generator=draw) * 2 - 1
        self.label = torch.arange(count) % 3

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x_0.shape[1:])

    @property
    def range(self) -> tuple[float, float]:
        return (-1.0, 1.0)

    def __len__(self) -> int:
        return len(self.x_0)

    def batch(self, indices: Any) -> Batch:
        rows = torch.tensor(list(indices))
        return Batch(self.x_0[rows], {"label": self.label[rows]})


class Unfolded(Dataset):
    """What `Folded` makes of the digits."""

    def __init__(self) -> None:
        self._digits = Digits()

    @property
    def shape(self) -> tuple[int, ...]:
        return (4, 4, 4)

    def __len__(self) -> int:
        return len(self._digits)

    def batch(self, indices: Any) -> Batch:
        return Batch(2 * nn.functional.pixel_unshuffle(self._digits.batch(indices).x_0, 2))


class Endless(Stream):
    """The digits over and over, in batches whose sizes go 1, 2, 3, 1, 2, 3; or their latents."""

    def __init__(self, *, folded: bool = False) -> None:
        self._data = Unfolded() if folded else Digits()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    def iterate(self, rank: int, world: int, position: int) -> Iterator[Batch]:
        number, size = position + rank, 0
        while True:
            size = size % 3 + 1
            yield self._data.batch([(number + world * i) % len(self._data) for i in range(size)])
            number += world * size


@pytest.fixture
def host() -> Host:
    host = Host()
    for component in (Folded, Few):
        origin = Origin("tests", "0", "tests")
        host.add(ComponentEntry(component.kind, component.__name__.lower(), component, origin))
    return host


def built(host: Host, **changes: Any) -> diffkit.Pipeline:
    spec = {**FIVE, "autoencoder": "folded", "dataset": "digits", **changes}
    return diffkit.build(spec, host=host, device="cpu")


def encoded(dataset: Dataset, gain: float = 2.0) -> Encoded:
    pipeline = diffkit.build(
        {**FIVE, "autoencoder": Folded(gain=gain), "dataset": dataset}, device="cpu"
    )
    return Encoded(dataset=dataset, parts=pipeline.parts, device=torch.device("cpu"))


# -- the pipeline ------------------------------------------------------------------------------


def test_the_model_works_in_latents_and_samples_are_data(host: Host) -> None:
    pipeline = built(host)
    parts = pipeline.parts
    assert (parts.shape, parts.data_range) == ((4, 4, 4), None)
    assert (parts.sample_shape, parts.sample_range) == ((1, 8, 8), (-1.0, 1.0))
    assert pipeline.spec.data is not None
    assert pipeline.spec.data.shape == (1, 8, 8)
    samples = pipeline.sample(6, seed=3)
    assert samples.shape == (6, 1, 8, 8)
    assert samples.abs().max() <= 1
    torch.testing.assert_close(pipeline.sample(6, seed=3, batch_size=4), samples)
    *_, last = pipeline.trajectory(6, seed=3)
    assert last.x.shape == (6, 4, 4, 4)
    torch.testing.assert_close(pipeline.decoded(last.x), samples)


def test_another_part_for_one_run_makes_no_network_again(host: Host, monkeypatch) -> None:
    pipeline = built(host)

    made, make = [], Folded.__init__

    def noted(self: Folded, *, gain: float = 2.0) -> None:
        made.append(gain)
        make(self, gain=gain)

    monkeypatch.setattr(Folded, "__init__", noted)
    for choices in ({"sampler": "ddpm"}, {"schedule": "linear"}, {"spacing": "leading"}):
        pipeline.sample(1, steps=2, progress=False, **choices)
    pipeline.evaluate(metric={"id": "bits-per-dim", "config": {"draws": 1, "levels": None}})
    assert made == []


def test_training_in_latents_is_training_on_a_dataset_of_them(host: Host) -> None:
    """Nothing but the data differs: so do neither the losses nor the weights."""

    ours, plain = built(host), diffkit.build({**FIVE, "dataset": Unfolded()}, device="cpu")
    for pipeline in (ours, plain):
        pipeline.train(steps=3, batch_size=8)
    for mine, other in zip(ours.system.parameters(), plain.system.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_latents_of_a_stream_are_computed_as_its_samples_come(host: Host, tmp_path) -> None:
    latent = diffkit.build({**FIVE, "data": {"shape": [4, 4, 4]}}, device="cpu")
    latent.train(Endless(folded=True), steps=5, batch_size=8, progress=False)
    whole, kept = built(host), {"out": tmp_path, "batch_size": 8, "progress": False}
    CALLS.clear()
    whole.train(Endless(), steps=5, batch_size=8, progress=False)
    assert CALLS == [8] * 5
    built(host).train(Endless(), steps=3, **kept)
    resumed = built(host).train(Endless(), steps=5, resume=True, **kept)
    assert not (tmp_path / "latents").exists()
    for one in (whole, resumed):
        for mine, other in zip(one.system.parameters(), latent.system.parameters(), strict=True):
            assert torch.equal(mine, other)


def test_latents_of_a_stream_are_kept_nowhere(host: Host, tmp_path) -> None:
    with pytest.raises(SpecError, match="as they come and kept nowhere"):
        built(host).train(Endless(), steps=1, latents=str(tmp_path))


def test_a_run_refers_to_its_autoencoder_and_does_not_hold_it(host: Host, tmp_path) -> None:
    pipeline = built(host).train(steps=2, batch_size=8, out=tmp_path)
    names = {name for name, _ in pipeline.system.named_parameters()}
    assert not [name for name in names if "gain" in name]
    assert pipeline.average is not None
    assert pipeline.average.parts.latents is pipeline.parts.latents
    again = diffkit.load(tmp_path, host=host, device="cpu")
    torch.testing.assert_close(again.sample(3), pipeline.sample(3))
    assert (tmp_path / "latents" / "latents.json").exists()


def test_the_weights_of_the_model_do_not_depend_on_the_autoencoder(host: Host) -> None:
    with_it = built(host)
    alone = diffkit.build({**FIVE, "data": {"shape": [4, 4, 4]}}, host=host, device="cpu")
    for mine, other in zip(with_it.system.parameters(), alone.system.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_run_notices_another_autoencoder(host: Host, tmp_path) -> None:
    built(host).save(tmp_path)
    spec = json.loads((run_directory.latest_checkpoint(tmp_path) / "spec.json").read_text())
    spec["autoencoder"]["config"]["gain"] = 3.0
    (run_directory.latest_checkpoint(tmp_path) / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(CheckpointError, match="another autoencoder"):
        diffkit.load(tmp_path, host=host, device="cpu")


def test_metrics_of_samples_see_data_and_those_of_models_latents(host: Host) -> None:
    pipeline = built(host)
    features = {"id": "classifier", "config": {"steps": 2, "batch_size": 8}}
    metric = {"id": "frechet", "config": {"max_samples": 16, "features": features}}
    assert pipeline.evaluate(metric=metric)["frechet"] > 0
    with pytest.raises(SpecError, match="levels"):
        pipeline.evaluate(metric="bits-per-dim")
    schedule = {"id": "linear", "config": {"steps": 50}}
    bits = {"id": "bits-per-dim", "config": {"levels": None, "max_samples": 4}}
    plain = diffkit.build({**FIVE, "schedule": schedule, "dataset": Unfolded()}, device="cpu")
    ours = built(host, schedule=schedule)
    assert ours.evaluate(metric=bits) == pytest.approx(plain.evaluate(metric=bits))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": {"id": "few", "config": {"size": 7}}}, "autoencoder: it takes images of even"),
        ({"training": {"augmentations": ["flip"]}}, r"training.augmentations\[0\]: latents are"),
        ({"loss": "elbo"}, "levels"),
        (
            {"model": {"id": "mlp", "config": {"shape": [1, 8, 8]}}},
            r"model.shape is \[1, 8, 8\], but the latents' is \[4, 4, 4\]",
        ),
        ({"autoencoder": {"id": "folded", "config": {"gian": 1.0}}}, "autoencoder.gian"),
        ({"autoencoder": None, "training": {"latents": "there"}}, "training.latents is there"),
    ],
)
def test_what_cannot_work_is_said_when_it_is_built(host: Host, changes, said: str) -> None:
    changes = dict(changes)
    if "few" in str(changes):
        changes["data"] = {"shape": [1, 7, 7], "range": [-1.0, 1.0]}
    with pytest.raises(SpecError, match=said):
        built(host, **changes)


def test_flips_are_refused_in_training_too(host: Host) -> None:
    with pytest.raises(SpecError, match="latents are computed once"):
        built(host).train(steps=1, augmentations=["flip"])


def test_data_of_another_shape_are_refused(host: Host) -> None:
    with pytest.raises(DataError, match=r"\[1, 6, 6\]"):
        built(host).train(Few(size=6), steps=1)


def test_an_autoencoder_that_breaks_its_word_is_named(host: Host) -> None:
    class Other(Folded):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return z

    class Broken(Folded):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return super().encode(x) / 0.0

    with pytest.raises(DataError, match="Other declares latents"):
        built(host, autoencoder=Other()).train(steps=1)
    with pytest.raises(ComponentError, match="Other decodes"):
        built(host, autoencoder=Other()).sample(1)
    with pytest.raises(DataError, match="not finite"):
        built(host, autoencoder=Broken()).train(steps=1)


# -- the cache ---------------------------------------------------------------------------------


def test_what_is_kept_is_what_was_encoded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("diffkit.storage.latents._SHARD", 16)
    source = encoded(Few())
    kept = in_folder(source, tmp_path)
    rows = [39, 0, 16, 15, 7, 7]
    found, wanted = kept.batch(rows), source.batch(rows)
    assert len(kept) == 40
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert torch.equal(found.x_0, wanted.x_0)
    assert torch.equal(found.condition["label"], wanted.condition["label"])


def test_the_second_use_does_not_ask_the_autoencoder(tmp_path, caplog) -> None:
    in_folder(encoded(Few()), tmp_path)
    CALLS.clear()
    kept = in_folder(encoded(Few()), tmp_path)
    kept.batch([1, 2])
    assert not CALLS
    assert not caplog.records


def _cut(folder) -> None:
    path = folder / "latents-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "latents.json").unlink(), "half written"),
        (lambda folder: (folder / "latents.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "latents-00000.safetensors").unlink(), "missing"),
        (_cut, "cut short"),
    ],
)
def test_what_is_half_written_is_noticed(tmp_path, caplog, spoil, said: str) -> None:
    source = encoded(Few())
    in_folder(source, tmp_path)
    spoil(tmp_path)
    CALLS.clear()
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        kept = in_folder(source, tmp_path)
    assert said in caplog.text
    assert sum(CALLS) == 40
    assert torch.equal(kept.batch(range(40)).x_0, source.batch(range(40)).x_0)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: encoded(Few(), gain=3.0), "another autoencoder"),
        (lambda: encoded(Few(seed=1)), "another data"),
        (lambda: encoded(Few(count=41)), "another count"),
    ],
)
def test_what_is_stale_is_noticed(tmp_path, caplog, other, said: str) -> None:
    in_folder(encoded(Few()), tmp_path)
    source = other()
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        kept = in_folder(source, tmp_path)
    assert said in caplog.text or (said == "another count" and "another data" in caplog.text)
    assert torch.equal(kept.batch(range(40)).x_0, source.batch(range(40)).x_0)


def test_weights_that_change_in_place_change_the_digest() -> None:
    autoencoder = Folded()
    space = LatentSpace(autoencoder, (1, 8, 8), None)
    before = space.digest()
    assert space.digest() == before
    with torch.no_grad():
        autoencoder.gain.add_(1e-6)
    assert space.digest() != before


def test_two_runs_can_share_a_folder(host: Host, tmp_path) -> None:
    shared = str(tmp_path / "shared")
    built(host).train(steps=1, batch_size=8, out=tmp_path / "a", latents=shared)
    CALLS.clear()
    built(host).train(steps=1, batch_size=8, out=tmp_path / "b", latents=shared)
    assert not CALLS
    assert not (tmp_path / "b" / "latents").exists()


def test_without_a_run_directory_latents_are_kept_in_memory(host: Host) -> None:
    CALLS.clear()
    built(host).train(steps=3, batch_size=64)
    assert sum(CALLS) == len(Digits())


def test_a_folder_that_cannot_be_written_is_named(host: Host, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"training\.latents"):
        built(host).train(steps=1, latents=str(tmp_path / "file" / "under"))
