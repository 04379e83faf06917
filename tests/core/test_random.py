import numpy as np
import pytest
from helpers import assert_here

from portnn.errors import ConfigError
from portnn.random import ShapeStream, Stream, as_stream


def test_is_numpys_philox():
    """The reference that every other implementation of the stream must meet: key, counter and hash, spelt out."""
    import hashlib

    stream = Stream(7).child("noise", 3).at(11)
    purpose = int.from_bytes(hashlib.blake2b(b"('noise', 3)", digest_size=8).digest(), "little")
    philox = np.random.Philox(key=7 + (purpose << 64), counter=11 << 64)
    np.testing.assert_array_equal(stream.uniform((5,)), np.random.Generator(philox).random(5))


def test_known_numbers():
    """Saved runs depend on them: a change here breaks exact resuming, and must be meant."""
    np.testing.assert_array_equal(Stream(0).uniform((2,)), [0.5576717129787802, 0.9326943488838677])
    assert Stream(0).child("order").permutation(5).tolist() == [0, 2, 4, 3, 1]


def test_stateless():
    stream = Stream(1)
    np.testing.assert_array_equal(stream.normal((3, 2)), stream.normal((3, 2)))
    np.testing.assert_array_equal(stream.permutation(100), stream.permutation(100))


def test_every_coordinate_matters():
    streams = [Stream(0), Stream(1), Stream(0).at(1), Stream(0).child("a"), Stream(0).child(0), Stream(0).child("0")]
    streams += [Stream(0).child("a", "b"), Stream(0).child("a/b"), Stream(0).child("b", "a"), Stream(2**64 - 1)]
    draws = {stream.uniform((4,)).tobytes() for stream in streams}
    assert len(draws) == len(streams)


def test_children_of_children():
    assert Stream(0).child(np.int64(3)) == Stream(0).child(3)
    assert Stream(0).child("a").child(1) == Stream(0).child("a", 1)
    assert Stream(0).at(3).child("a") == Stream(0).child("a").at(3)


@pytest.mark.parametrize("first", [str, np.str_])
def test_a_name_is_the_same_name_whatever_text_it_is(first):
    """Whichever is asked for first, and under which path: what was hashed before must not decide."""
    names = "fold", np.str_("fold")
    for name in sorted(names, key=lambda name: type(name) is not first):
        assert Stream(7).child(name, 0).uniform((1,))[0] == 0.6280534501786844
        assert Stream(7, 0, (name, 0)) == Stream(7).child("fold", 0)
        assert type(Stream(7).child(name).path[0]) is str


def test_steps_are_plain_numbers():
    assert Stream(0).at(np.int64(3)) == Stream(0, np.uint8(3)) == Stream(0).at(3)
    assert type(Stream(0).at(np.int64(3)).step) is type(Stream(0, np.int64(3)).step) is int


@pytest.mark.parametrize("wrong", [0.1, 0.0, np.float64(1.0), True, np.True_, None, b"a", ("a",), np.zeros(1, int)])
def test_what_is_no_name_is_refused(wrong):
    sentence = "a stream is named by text and integers, not by"
    for make in (Stream(0).child, ShapeStream().child, lambda name: Stream(0, 0, ("a", name))):
        with pytest.raises(ConfigError, match=sentence):
            make(wrong)


@pytest.mark.parametrize(
    "wrong",
    [1.7, 1.0, np.float32(2.0), True, np.False_, "1", None, np.zeros(1, int), np.asarray(1.0)],
)
def test_what_is_no_step_is_refused(wrong):
    for make in (Stream(0).at, ShapeStream().at, lambda step: Stream(0, step)):
        with pytest.raises(ConfigError, match="step must be an int, not"):
            make(wrong)


def test_a_path_is_no_text():
    with pytest.raises(ConfigError, match=r"path must be a tuple of names, not 'noise': write \('noise',\)"):
        Stream(0, 0, "noise")


def test_distributions():
    uniform = Stream(0).uniform((100_000,), -1, 3)
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert uniform.mean() == pytest.approx(1, abs=0.02)
    normal = Stream(0).normal((100_000,), 2.0, 3.0)
    assert normal.mean() == pytest.approx(2, abs=0.05)
    assert normal.std() == pytest.approx(3, abs=0.05)
    assert sorted(Stream(0).permutation(1000)) == list(range(1000))


def test_shape_stream_takes_no_memory():
    huge = ShapeStream().child("w").normal((10**6, 10**6))
    assert huge.shape == (10**6, 10**6)
    assert huge.strides == (0, 0)


def test_steps():
    with pytest.raises(ConfigError, match=r"step must be in 0 \.\. 2\*\*64 - 1, not -1"):
        Stream(0).at(-1).uniform((2,))
    assert ShapeStream().at(3).child("a").full((2,), 1.0).shape == (2,)


def test_seeds():
    assert as_stream(3) == as_stream(np.int64(3)) == Stream(3)
    assert as_stream(Stream(3)) == Stream(3)
    assert as_stream(None) != as_stream(None)
    for seed in (-1, 2**64):
        with pytest.raises(ConfigError, match="seed must be an int in"):
            Stream(seed)
    with pytest.raises(ConfigError, match="seed must be an int"):
        Stream(1.5)
    for wrong in (1.5, "0", True):
        with pytest.raises(ConfigError, match="rng must be an int, a portnn.random.Stream or None"):
            as_stream(wrong)


@pytest.mark.parametrize("method", ["uniform_like", "normal_like"])
def test_draws_like_an_array_are_equal_on_every_backend(method, typed):
    backend, dtype = typed
    x = backend.asarray(np.zeros((3, 5), dtype=dtype))
    drawn = getattr(Stream(0).child("noise").at(4), method)(x)
    assert_here(backend, dtype, drawn)
    expected = getattr(Stream(0).child("noise").at(4), method)(np.zeros((3, 5), dtype=dtype))
    np.testing.assert_array_equal(backend.to_numpy(drawn), expected)


def test_draws_in_float32_are_numpys_own_and_below_one():
    drawn = Stream(0).uniform_like(np.zeros(100_000, dtype=np.float32))
    np.testing.assert_array_equal(drawn, Stream(0).generator().random(100_000, dtype=np.float32))
    assert drawn.max() < 1
