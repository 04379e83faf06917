"""The idx reader, MNIST and the digits, with what can be wrong with their files."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest
from idx_files import CODES, idx_bytes, small_mnist, write

from portnn.data import batches, load_digits, load_mnist, mnist, read_idx, shuffled_batches
from portnn.errors import DataError, MissingDataError
from portnn.random import Stream


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", CODES)
def test_round_trip(tmp_path, kind, suffix):
    for shape in ((3, 2, 4), (5,), (0, 28, 28), ()):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
        read = read_idx(write(tmp_path / f"file{suffix}", idx_bytes(array)))
        assert read.dtype == array.dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_truncated_at_every_byte(tmp_path, suffix):
    content = write(tmp_path / f"whole{suffix}", idx_bytes(np.ones((3, 2), np.int16))).read_bytes()
    for length in range(len(content)):
        part = tmp_path / f"part{suffix}"
        part.write_bytes(content[:length])
        with pytest.raises(DataError, match="is truncated|is no idx file|corrupt gzip"):
            read_idx(part)


def test_flipped_bits_in_a_compressed_file(tmp_path):
    content = gzip.compress(idx_bytes(np.arange(256, dtype=np.uint8)))
    path = tmp_path / "file.gz"
    outcomes = set()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        try:
            outcomes.add(read_idx(path).shape)  # a flip in a field that does not matter, such as the time
        except DataError:
            outcomes.add("refused")
    assert outcomes == {(256,), "refused"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no idx file: it begins with nothing"),
        (b"\x89PNG\r\n", "is no idx file: it begins with 89 50 4e 47"),
        (b"\0\0\x07\x01\0\0\0\0", "is no idx file: it begins with 00 00 07 01"),
        (b"\0\0\x08\x03\0\0", "is truncated: it ends within its header"),
        (idx_bytes(np.ones((2, 2), np.uint8)) + b"!", r"is too long: shape \(2, 2\) needs 4 bytes, it has more"),
        (b"\0\0\x08\xff" + b"\xff" * 4 * 255, "is truncated: shape"),
        (b"\0\0\x08\x43" + b"\0" * 4 * 67, "claims the impossible shape"),
    ],
)
def test_not_an_idx_file(tmp_path, content, sentence):
    for suffix in ("", ".gz"):
        with pytest.raises(DataError, match=sentence):
            read_idx(write(tmp_path / f"file{suffix}", content))


def test_claims_of_terabytes_allocate_nothing(tmp_path):
    path = write(tmp_path / "huge.gz", b"\0\0\x0e\x03" + b"\x7f\xff\xff\xff" * 3 + b"\0" * 1000)
    tracemalloc.start()
    with pytest.raises(DataError, match="it has 1,000"):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_file_system_errors(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_idx(tmp_path / "none.gz")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)


# ---- MNIST


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_from_a_folder(tmp_path, monkeypatch, suffix, below):
    small_mnist(tmp_path / below, suffix)
    data = load_mnist(tmp_path)
    assert (data.x_train.shape, data.x_test.shape, data.classes) == ((20, 28, 28), (10, 28, 28), 10)
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    monkeypatch.setenv("PORTNN_DATA_DIR", str(tmp_path))
    np.testing.assert_array_equal(load_mnist().y_test, data.y_test)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "raw", "MNIST", "MNIST/raw", "mnist"])
def test_other_names_of_the_files_of_mnist(tmp_path, suffix, below):
    """A point in the place of a hyphen, as unpacked by some programs, and the folders of torchvision."""
    expected = load_mnist(small_mnist(tmp_path / "usual"))
    folder = small_mnist(tmp_path / "other" / below, suffix)
    for path in list(folder.glob("*ubyte*")):
        if path.name.startswith("t10k"):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    data = load_mnist(tmp_path / "other")
    np.testing.assert_array_equal(data.x_train, expected.x_train)
    np.testing.assert_array_equal(data.y_test, expected.y_test)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_labels": idx_bytes(np.zeros(19, np.uint8))}, "has 20 images, but .*train-labels.* has 19 labels"),
        ({"t10k_labels": idx_bytes(np.full(10, 10, np.uint8))}, "holds the label 10; the labels of MNIST are 0 .. 9"),
        ({"train_images": idx_bytes(np.zeros((20, 8, 8), np.uint8))}, r"holds uint8 of shape \(20, 8, 8\), not images"),
        ({"train_images": idx_bytes(np.zeros(20, np.uint8))}, r"holds uint8 of shape \(20,\), not images"),
        ({"train_images": idx_bytes(np.zeros((20, 28, 28), np.float32))}, "holds float32 of shape"),
        ({"train_labels": idx_bytes(np.zeros((20, 1), np.uint8))}, "not a list of labels"),
        ({"t10k_images": b"no idx"}, "is no idx file"),
    ],
)
def test_files_of_mnist_that_do_not_fit(tmp_path, changes, sentence):
    with pytest.raises(DataError, match=sentence):
        load_mnist(small_mnist(tmp_path, **changes))


def test_missing_files_of_mnist(tmp_path):
    with pytest.raises(MissingDataError, match=f"no MNIST in {tmp_path}: train-images-idx3-ubyte"):
        load_mnist(tmp_path)
    os.remove(small_mnist(tmp_path) / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match="has a part of MNIST only: t10k-labels-idx1-ubyte missing"):
        load_mnist(tmp_path)


class Mirrors:
    """Stands for the network: what each mirror answers, and which addresses were asked for."""

    def __init__(self, monkeypatch, tmp_path, answers):
        import pooch

        self.asked = []
        self.cache = tmp_path / "cache"
        source = small_mnist(tmp_path / "source")
        contents = {path.name: path.read_bytes() for path in source.iterdir()}

        class Downloader:
            def __init__(_, timeout):
                assert timeout[0] <= 5

            def __call__(_, url, output_file, pup):
                self.asked.append(url)
                mirror = next(i for i, m in enumerate(mnist._MIRRORS) if url.startswith(m))
                answer = answers[mirror]
                if isinstance(answer, Exception):
                    raise answer
                with open(output_file, "wb") as file:
                    file.write(answer or contents[url.rpartition("/")[2]])

        import hashlib

        sums = {name: hashlib.sha256(gzip.decompress(contents[f"{name}.gz"])).hexdigest() for name in mnist._FILES}
        monkeypatch.setattr(mnist, "_FILES", sums)
        monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
        monkeypatch.setattr(pooch, "os_cache", lambda project: self.cache)
        monkeypatch.delenv("PORTNN_DATA_DIR", raising=False)


OK = b""


@pytest.mark.parametrize(
    "first",
    [
        OK,
        ConnectionError("refused"),
        TimeoutError(),
        b"<html>",
        gzip.compress(b"another file", mtime=0),
        gzip.compress(b"another file" * 9, mtime=0)[:12] + b"\xff" * 30,  # damaged on the way
    ],
    ids=repr,
)
def test_download(monkeypatch, tmp_path, first):
    mirrors = Mirrors(monkeypatch, tmp_path, [first, OK])
    assert load_mnist().x_train.shape == (20, 28, 28)
    assert len(mirrors.asked) == (4 if first == OK else 8)
    # What is kept is unpacked, and nothing else is left.
    assert sorted(os.listdir(mirrors.cache / "mnist")) == sorted(mnist._FILES)
    mirrors.asked.clear()
    assert load_mnist().x_train.shape == (20, 28, 28)
    assert mirrors.asked == []


def test_no_network(monkeypatch, tmp_path):
    mirrors = Mirrors(monkeypatch, tmp_path, [ConnectionError("refused"), TimeoutError()])
    with pytest.raises(MissingDataError, match="cannot be downloaded: https.*ConnectionError.*https.*TimeoutError"):
        load_mnist()
    assert len(mirrors.asked) == 2  # not eight: one file that cannot be had is enough


def test_a_folder_that_is_asked_for_is_not_replaced_by_a_download(monkeypatch, tmp_path):
    mirrors = Mirrors(monkeypatch, tmp_path, [OK, OK])
    with pytest.raises(MissingDataError):
        load_mnist(tmp_path / "nowhere")
    assert mirrors.asked == []


# ---- digits and batches


def test_digits():
    data = load_digits()
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 8, 8), (360, 8, 8))
    assert (data.x_train.min(), data.x_train.max(), data.x_train.dtype) == (0.0, 1.0, np.float32)
    assert set(data.y_train) == set(data.y_test) == set(range(10))
    np.testing.assert_array_equal(load_digits().x_test, data.x_test)


def test_batches():
    assert [b.tolist() for b in batches(5, 2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in batches(2, 5)] == [[0, 1]]
    shuffled = [b.tolist() for b in shuffled_batches(100, 30, Stream(0))]
    assert [len(b) for b in shuffled] == [30, 30, 30, 10]
    assert sorted(sum(shuffled, [])) == list(range(100))
    assert shuffled == [b.tolist() for b in shuffled_batches(100, 30, Stream(0))]
    assert shuffled != [b.tolist() for b in shuffled_batches(100, 30, Stream(0).at(1))]
