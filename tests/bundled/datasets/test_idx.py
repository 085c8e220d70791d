from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffkit.bundled.datasets.idx import Idx
from diffkit.errors import DataError

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes, name: str = "images") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


def facts(images: str, labels: str | None = None):
    return Idx.facts(SimpleNamespace(images=images, labels=labels, captions=None))


# Each example overwrites the files of the one before, so sharing the folder is harmless.
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 6),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([None, 1, 3]),
    packed=st.booleans(),
    seed=st.integers(0, 100),
)
def test_what_was_written_is_read(write, n, sides, channels, packed, seed):
    array = pixels(n, *((channels,) if channels else ()), *sides, seed=seed)
    label = pixels(n, seed=seed + 1)
    pack = gzip.compress if packed else bytes
    images = write(pack(idx_bytes(array)))
    labels = write(pack(idx_bytes(label)), "labels")
    data = Idx(images=images, labels=labels)
    assert len(data) == n
    assert data.shape == (channels or 1, *sides)
    assert facts(images, labels) == {
        "shape": data.shape,
        "range": data.range,
        "conditions": data.conditions,
    }
    order = list(reversed(range(n)))
    batch = data.batch(order)
    assert batch.x_0.dtype == torch.float32
    assert batch.condition["label"].dtype == torch.int64
    recovered = ((batch.x_0 + 1) * 127.5).round().to(torch.uint8).numpy()
    assert np.array_equal(recovered, array[order].reshape(n, *data.shape))
    assert np.array_equal(batch.condition["label"].numpy(), label[order])


def test_the_256_levels_span_the_declared_range_evenly(write):
    data = Idx(images=write(idx_bytes(np.arange(256, dtype=np.uint8).reshape(1, 16, 16))))
    x_0 = data.batch([0]).x_0.flatten()
    assert (x_0[0], x_0[-1]) == data.range == (-1.0, 1.0)
    torch.testing.assert_close(x_0.diff(), torch.full((255,), 2 / 255), rtol=1e-5, atol=1e-7)


def test_without_labels_there_is_no_condition(write):
    assert Idx(images=write(idx_bytes(pixels(2, 4, 4)))).batch([0, 1]).condition == {}


def test_a_batch_can_be_changed_without_changing_the_data(write):
    data = Idx(images=write(idx_bytes(pixels(2, 4, 4))), labels=write(idx_bytes(pixels(2)), "l"))
    before = data.batch([1])
    changed = data.batch([1])
    changed.x_0.fill_(7)
    changed.condition["label"].fill_(-7)
    assert torch.equal(data.batch([1]).x_0, before.x_0)
    assert torch.equal(data.batch([1]).condition["label"], before.condition["label"])


def test_gzip_is_told_by_content_and_not_by_name(write):
    array = pixels(2, 4, 4)
    named_plainly = Idx(images=write(gzip.compress(idx_bytes(array)), "a"))
    named_gz = Idx(images=write(idx_bytes(array), "b.gz"))
    assert torch.equal(named_plainly.batch([0, 1]).x_0, named_gz.batch([0, 1]).x_0)


def test_facts_read_the_header_alone(write):
    whole = idx_bytes(pixels(100, 28, 28))
    for content in (whole[:16], gzip.compress(whole, mtime=0)[:2000]):
        path = write(content)
        assert facts(path)["shape"] == (1, 28, 28)
        with pytest.raises(DataError):
            Idx(images=path)


GOOD = idx_bytes(pixels(3, 4, 4))
PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0", "starts with 00 00"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "two zero bytes"),
        (idx_bytes(np.zeros((3, 4, 4), np.float32), code=0x0D), r"0x0d \(float32\)"),
        (idx_bytes(pixels(3, 4, 4), code=0x0A), r"0x0a \(no known type\)"),
        (GOOD[:3], "starts with 00 00 08"),
        (GOOD[:15], "ends within its header"),
        (b"\0\0\x08\0", "ends within its header"),
        (GOOD[:-1], r"ends after 47 of the 48 bytes of \(3, 4, 4\).*truncated"),
        (GOOD[:16], "ends after 0 of the 48"),
        (GOOD + b"\0", "goes on after the 48 bytes"),
        (idx_bytes(pixels(0, 4, 4)), r"is empty.*\(0, 4, 4\)"),
        (idx_bytes(pixels(3, 0, 4)), "is empty"),
        (idx_bytes(pixels(3)), "rank 1.*is this the file of labels"),
        (idx_bytes(pixels(3, 16)), "rank 2"),
        (idx_bytes(pixels(3, 1, 1, 4, 4)), "rank 5"),
        (PACKED[:-9], "damaged gzip"),
        (PACKED[:5], "damaged gzip"),
        (PACKED[:-6] + b"\xff" + PACKED[-5:], "damaged gzip"),
        (PACKED[:12] + b"\xff\xff\xff\xff" + PACKED[16:], "damaged gzip"),
        (PACKED + b"garbage", "damaged gzip"),
        (gzip.compress(GOOD[:-1], mtime=0), "ends after 47"),
        (gzip.compress(GOOD + b"\0", mtime=0), "goes on after"),
        (gzip.compress(PACKED, mtime=0), "starts with 1f 8b"),
    ],
)
def test_bad_image_files_are_named_and_explained(write, content, message):
    path = write(content)
    with pytest.raises(DataError, match=message) as caught:
        Idx(images=path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(pixels(2)), "2 labels for the 3 images"),
        (idx_bytes(pixels(4)), "4 labels for the 3 images"),
        (idx_bytes(pixels(3, 1)), r"rank 2 \(3, 1\); labels have 1"),
        (GOOD, "is this the file of images"),
        (idx_bytes(pixels(3))[:-1], "truncated"),
        (idx_bytes(pixels(3)) + b"x", "goes on after"),
        (idx_bytes(np.zeros(3, np.float32), code=0x0D), "float32"),
    ],
)
def test_bad_label_files_are_named_and_explained(write, content, message):
    images, labels = write(GOOD), write(content, "labels")
    with pytest.raises(DataError, match=message) as caught:
        Idx(images=images, labels=labels)
    assert labels in str(caught.value)


def test_facts_find_labels_that_do_not_belong(write):
    with pytest.raises(DataError, match="2 labels for the 3 images"):
        facts(write(GOOD), write(idx_bytes(pixels(2)), "labels"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_claims_too_much_allocates_nothing(write, pack):
    path = write(pack(struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3) + bytes(1000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="ends after 1000 of the"):
        Idx(images=path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20  # a few buffers of 1 MiB


@pytest.mark.parametrize("use", [facts, lambda path: Idx(images=path)])
def test_files_that_cannot_be_opened(tmp_path, use):
    with pytest.raises(DataError, match="absent does not exist"):
        use(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        use(str(tmp_path))


@pytest.mark.skipif(not FASHION.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    data = Idx(
        images=str(FASHION / "t10k-images-idx3-ubyte.gz"),
        labels=str(FASHION / "t10k-labels-idx1-ubyte.gz"),
    )
    batch = data.batch(range(10_000))
    assert len(data) == 10_000
    assert data.shape == (1, 28, 28)
    assert batch.condition["label"].bincount().tolist() == [1000] * 10
    # The mean and deviation of the test images that everybody quotes, 0.2868 and 0.3524.
    zero_to_one = (batch.x_0 + 1) / 2
    assert float(zero_to_one.mean()) == pytest.approx(0.2868, abs=1e-4)
    assert float(zero_to_one.std()) == pytest.approx(0.3524, abs=1e-4)
