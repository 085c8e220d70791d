from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffkit.bundled.datasets import npz
from diffkit.bundled.datasets.npz import Npz
from diffkit.errors import DataError


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class Bomb:
    """Creates a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture
def save(tmp_path):
    def save(packed: bool = False, /, **arrays: np.ndarray) -> str:
        path = tmp_path / "data.npz"
        (np.savez_compressed if packed else np.savez)(path, **arrays)
        return str(path)

    return save


def facts(path: str, images: str = "images", labels: str | None = None, channels: str = "first"):
    beside = {"vocabulary": None, "conditions": ()}
    config = SimpleNamespace(path=path, images=images, labels=labels, channels=channels, **beside)
    return Npz.facts(config)


def floats(shape, data_range):
    """The facts of samples that are no tokens, with nothing beside them."""
    return {
        "shape": shape,
        "range": data_range,
        "dtype": "float32",
        "vocabulary": None,
        "conditions": {},
    }


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("array", "channels", "shape", "expected"),
    [
        (a := numbers(5, 3, 4, 6), "first", (3, 4, 6), a),
        (a := numbers(5, 4, 6, 3), "last", (3, 4, 6), a.transpose(0, 3, 1, 2)),
        (a := numbers(5, 4, 6), "first", (1, 4, 6), a[:, None]),
        (np.asfortranarray(numbers(5, 3, 4, 6)), "first", (3, 4, 6), numbers(5, 3, 4, 6)),
    ],
)
def test_pixels_become_channels_first_in_minus_1_to_1(
    save, packed, array, channels, shape, expected
):
    path = save(packed, images=array)
    data = Npz(path=path, channels=channels)
    assert len(data) == 5
    assert data.shape == shape
    assert facts(path, channels=channels) == floats(shape, (-1.0, 1.0))
    assert data.range == (-1.0, 1.0)
    batch = data.batch([4, 0, 4])
    assert batch.condition == {}
    assert batch.x_0.dtype == torch.float32
    torch.testing.assert_close(
        batch.x_0, torch.from_numpy(expected[[4, 0, 4]] / 127.5 - 1).float(), rtol=0, atol=1e-6
    )


def test_the_ends_of_the_pixels_are_the_ends_of_the_range_exactly(save):
    data = Npz(path=save(images=np.array([[[0, 255]]], np.uint8)))
    assert tuple(data.batch([0]).x_0.flatten().tolist()) == data.range


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f2", "f8", ">f8"])
@pytest.mark.parametrize("shape", [(7, 2), (7, 1), (7, 5, 3), (7, 8, 8, 3)])
def test_floats_are_taken_as_they_are(save, dtype, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    path = save(points=array)
    data = Npz(path=path, images="points")
    assert facts(path, "points") == floats(shape[1:], None)
    assert (data.shape, data.range, len(data)) == (shape[1:], None, 7)
    x_0 = data.batch(range(7)).x_0
    assert x_0.dtype == torch.float32
    assert np.array_equal(x_0.numpy(), array.astype(np.float32))


@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4", "u8"])
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_labels_are_whole_numbers_of_any_type(save, dtype, shape):
    path = save(x=numbers(5, 4, 4), y=np.array([3, 1, 4, 1, 5]).astype(dtype).reshape(shape))
    label = Npz(path=path, images="x", labels="y").batch([4, 0]).condition["label"]
    assert label.tolist() == [5, 3]
    assert label.dtype == torch.int64
    assert facts(path, "x", "y")["shape"] == (1, 4, 4)


def test_arrays_saved_without_a_name(tmp_path):
    np.savez(tmp_path / "a.npz", np.ones((3, 2)), np.arange(3))
    data = Npz(path=str(tmp_path / "a.npz"), images="arr_0", labels="arr_1")
    assert data.batch([2]).condition["label"].tolist() == [2]


@pytest.mark.parametrize("array", [numbers(3, 4, 4), np.ones((3, 2), np.float32)])
def test_a_batch_can_be_changed_without_changing_the_data(save, array):
    data = Npz(path=save(images=array))
    before = data.batch([1])
    data.batch([1]).x_0.fill_(7)
    assert torch.equal(data.batch([1]).x_0, before.x_0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 4), np.int64), "is int64; save pixels as uint8"),
        (np.zeros((3, 4, 4), bool), "is bool"),
        (np.zeros((3, 2), complex), "is complex128"),
        (np.array(["a", "b"]), "is <U1"),
        (np.zeros(3, np.dtype([("a", "f4")])), "save pixels as uint8"),
        (np.zeros((0, 4, 4), np.uint8), r"is empty: its shape is \(0, 4, 4\)"),
        (np.zeros((3, 0), np.float32), "is empty"),
        (np.float32(3), "at least one more is needed"),
        (np.zeros(3, np.float32), r"reshape single numbers to \(n, 1\)"),
        (np.zeros((3, 2), np.uint8), "save what is not an image as float32"),
        (np.zeros((3, 1, 1, 4, 4), np.uint8), "pixels are"),
        (np.zeros((3, 8, 8, 3), np.uint8), "set channels to 'last'"),
        (np.array([[1, 2], [3, np.nan], [np.inf, 0]]), "2 of its 3 samples, sample 1 first"),
        (np.array([[1e300, 2.0]]), "not finite in float32"),
    ],
)
def test_bad_samples_are_named_and_explained(save, array, message):
    path = save(images=array)
    with pytest.raises(DataError, match=message) as caught:
        Npz(path=path)
    assert f"'images' in {path}" in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 2)])
def test_channels_last_is_not_silently_ignored(save, shape):
    with pytest.raises(DataError, match="'last' is for rank 4"):
        Npz(path=save(images=np.zeros(shape, np.float32)), channels="last")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(4), r"is int64 \(4,\); labels are whole numbers, one for each of the 3"),
        (np.zeros((3, 10), np.int64), r"\(3, 10\)"),
        (np.zeros(3), "is float64"),
        (np.array(["a", "b", "c"]), "is <U1"),
        (np.array([0, -1, 2]), "from -1 to 2"),
        (np.array([0, 1, 2**63], np.uint64), "from 0 to 9223372036854775808"),
    ],
)
def test_bad_labels_are_named_and_explained(save, labels, message):
    path = save(images=numbers(3, 4, 4), y=labels)
    with pytest.raises(DataError, match=message) as caught:
        Npz(path=path, labels="y")
    assert f"'y' in {path}" in str(caught.value)


def test_a_missing_array_lists_those_there_are(save):
    path = save(x_train=numbers(3, 4, 4), y_train=np.arange(3))
    for use in (facts, lambda path: Npz(path=path)):
        with pytest.raises(DataError, match="no array 'images'; it has: x_train, y_train"):
            use(path)
    with pytest.raises(DataError, match="no array 'y'"):
        facts(path, "x_train", "y")


@pytest.mark.parametrize("use", [facts, lambda path: Npz(path=path)])
def test_files_that_are_no_archive(tmp_path, use):
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match="does not exist"):
        use(str(path))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        use(str(tmp_path))
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"not an .npz archive"):
        use(str(path))
    with path.open("wb") as file:
        np.save(file, numbers(3, 4, 4))
    with pytest.raises(DataError, match=r"not an .npz archive"):
        use(str(path))


def with_member(path: Path, content: bytes, name: str = "images.npy", method: int = 0) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return str(path)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + bytes(100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a plain array"),
        (b"not an array", "cannot be read as a plain array"),
        (npy(numbers(3, 4, 4))[:-1], "cannot be read as a plain array"),
        (npy(numbers(3, 4, 4)) + b"x", "goes on after the 48 bytes"),
        (claiming((10**9, 10**3, 10**3)), "cannot be read as a plain array"),
        (claiming((10**18, 10**18, 10**18)), "cannot be read as a plain array"),
        (claiming((-3, 4, 4)), "is empty"),
    ],
)
def test_damaged_arrays(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        Npz(path=with_member(tmp_path / "data.npz", content))


def test_damage_that_only_the_checksum_shows(tmp_path):
    path = Path(with_member(tmp_path / "data.npz", npy(numbers(300, 4, 4))))
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        Npz(path=str(path))


def test_compression_that_numpy_does_not_use(tmp_path):
    path = with_member(tmp_path / "data.npz", npy(numbers(3, 4, 4)), method=zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="compressed in a way"):
        Npz(path=path)


def test_pickled_objects_are_refused_and_never_run(save, tmp_path):
    marker = tmp_path / "marker"
    bombs = np.array([Bomb(marker), None, None], dtype=object)
    path = save(images=bombs, good=numbers(3, 4, 4), record=np.array([(b"", None)], "S1,O"))
    with np.load(path, allow_pickle=True) as archive:
        assert archive["images"].shape == (3,)
    assert marker.exists()  # the bomb works
    marker.unlink()
    for use in (facts, lambda path, *names: Npz(path=path, images=names[0], labels=names[1])):
        for names in [("images", None), ("record", None), ("good", "images")]:
            with pytest.raises(DataError, match="never loaded"):
                use(path, *names)
    assert not marker.exists()


def test_pickled_objects_are_refused_even_if_the_header_is_not_looked_at(
    save, tmp_path, monkeypatch
):
    marker = tmp_path / "marker"
    path = save(images=np.array([Bomb(marker)], dtype=object))
    monkeypatch.setattr(npz, "_check_headers", lambda *_: {"conditions": {}})
    with pytest.raises(DataError, match="allow_pickle=False"):
        Npz(path=path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["images.npy", "images"])
def test_a_bare_pickle_is_refused_and_never_run(tmp_path, name):
    marker = tmp_path / "marker"
    path = with_member(tmp_path / "data.npz", pickle.dumps(Bomb(marker)), name)
    with pytest.raises(DataError):
        Npz(path=path)
    Path(path).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(DataError, match=r"not an .npz archive"):
        Npz(path=path)
    assert not marker.exists()
