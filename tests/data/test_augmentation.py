"""Every augmentation by itself: on every backend, against SciPy, and by hand."""

import numpy as np
import pytest
from augmentations import ALL, MEMBERS
from helpers import assert_close, assert_equal, assert_here, get, put
from lanes import host_closed, open_lane

from portnn.data.augmentation import (
    Augmentation,
    Brightness,
    Compose,
    Contrast,
    Cutout,
    Flip,
    Noise,
    RandomCrop,
    Rotate,
    Shift,
    Zoom,
)
from portnn.errors import ConfigError, DataError, ShapeError
from portnn.random import Stream

RNG = Stream(3).child("augment").at(5)
IMAGES = np.random.default_rng(0).uniform(size=(6, 7, 5, 2))
all_members = pytest.mark.parametrize("augment", [*MEMBERS.values(), ALL], ids=[*MEMBERS, "Compose"])


class Fixed:
    """Stands for a stream, and draws the same number always; 1, which a stream never does, is the end of a range."""

    def __init__(self, number):
        self.number = number

    def child(self, *names):
        return self

    def uniform_like(self, x):
        return np.full(x.shape, self.number, dtype=x.dtype)


def test_every_augmentation_is_tested():
    assert {c.__name__ for c in Augmentation.__subclasses__()} == {name.partition("-")[0] for name in MEMBERS}


# ---- every augmentation, on every backend


def reference(augment, images, dtype):
    """The result of NumPy in float64, from the draws of the dtype."""

    class Drawn(Stream):
        def uniform_like(self, x):
            return super().uniform_like(x.astype(dtype)).astype(np.float64)

        def normal_like(self, x):
            return super().normal_like(x.astype(dtype)).astype(np.float64)

    return augment(images.astype(dtype).astype(np.float64), Drawn(RNG.seed, RNG.step, RNG.path))


def all_of_them(x):
    return {name: augment(x, RNG) for name, augment in MEMBERS.items()}


def test_same_images_on_every_backend(typed):
    backend, dtype = typed
    x = put(backend, IMAGES, dtype)
    # In one piece, and compiled where that is possible: JAX would compile every operation for itself.
    made = backend.compile(lambda _, __, ___, x: (all_of_them(x), ALL(x, RNG)))((), (), (), x)
    assert_here(backend, dtype, made)
    expected = {name: reference(augment, IMAGES, dtype) for name, augment in MEMBERS.items()}
    assert_close(get(backend, made), (expected, reference(ALL, IMAGES, dtype)), dtype)
    assert_equal(get(backend, x), IMAGES.astype(dtype))


@all_members
def test_the_stream_decides(augment):
    made = augment(IMAGES, RNG)
    assert made.shape == (IMAGES.shape if augment != RandomCrop(4) else (6, 4, 4, 2))
    assert_equal(augment(IMAGES, RNG), made)
    for other in (RNG.at(6), RNG.child("other"), Stream(4)):
        assert not np.array_equal(augment(IMAGES, other), made)
    copies = augment(np.stack([IMAGES[0]] * 6), RNG)
    assert any(not np.array_equal(copies[0], copy) for copy in copies[1:])
    assert augment(IMAGES[:0], RNG).shape == (0, *made.shape[1:])


@all_members
def test_images_without_an_axis_of_channels(augment):
    assert_equal(augment(IMAGES[..., 0], RNG), augment(IMAGES[..., :1], RNG)[..., 0])


def test_nothing_leaves_the_device():
    with open_lane("strict:device1") as backend:
        x = put(backend, IMAGES, "float32")
        with host_closed(backend):
            made = all_of_them(x)
        assert_here(backend, "float32", made)


def test_compiled_by_jax():
    jax = pytest.importorskip("jax")
    with open_lane("jax") as backend:
        x = put(backend, IMAGES, "float32")
        augment = Compose([Shift(1), Flip(), Noise(0.1)])
        compiled = jax.jit(lambda x, step: augment(x, RNG.at(step)))
        for step in (1, 2):
            assert_close(get(backend, compiled(x, step)), get(backend, augment(x, RNG.at(step))), "float32")


# ---- what each one does


@pytest.mark.parametrize(
    "augment",
    [
        Shift(0),
        RandomCrop((7, 5)),
        Flip(horizontal=False),
        Rotate(0),
        Zoom(0),
        Brightness(0),
        Contrast(0),
        Noise(0),
        Compose([]),
    ],
    ids=str,
)
def test_nothing_to_do(augment):
    for dtype in ("float32", "float64"):
        assert_equal(augment(IMAGES.astype(dtype), RNG), IMAGES.astype(dtype))


def spot(h, w, row, column):
    image = np.zeros((h, w))
    image[row, column] = 1.0
    return image


def test_shift_moves_whole_pixels():
    whole = np.tile(spot(7, 7, 3, 3), (400, 1, 1))
    moved = Shift(2)(whole, RNG)
    assert moved.sum(axis=(1, 2)).tolist() == [1.0] * 400
    n, rows, columns = moved.nonzero()
    assert_equal(n, np.arange(400))
    counts = np.histogram2d(rows, columns, bins=[np.arange(1, 7)] * 2)[0]
    assert counts.sum() == 400
    assert counts.min() > 0
    # By hand: two up and two to the left is the first of the places that the window may begin at, seen from the image.
    assert_equal(Shift(2)(IMAGES, Fixed(0.999))[:, :5, :3], IMAGES[:, 2:, 2:])
    assert_equal(Shift(2)(IMAGES, Fixed(0.0))[:, 2:, 2:], IMAGES[:, :5, :3])
    assert not Shift(2)(IMAGES, Fixed(0.0))[:, :2].any()
    assert_equal(Shift((0, 1))(IMAGES, Fixed(0.999))[:, :, :4], IMAGES[:, :, 1:])


def test_crop_with_padding_is_a_shift():
    assert_equal(RandomCrop((7, 5), padding=2)(IMAGES, RNG), Shift(2)(IMAGES, RNG))


def test_crops_are_windows():
    windows = [IMAGES[:, i : i + 4, j : j + 3] for i in range(4) for j in range(3)]
    found = set()
    for step in range(20):
        crops = RandomCrop((4, 3))(IMAGES, RNG.at(step))
        for n, crop in enumerate(crops):
            found.add(next(k for k, window in enumerate(windows) if np.array_equal(window[n], crop)))
    assert found == set(range(12))


def test_flip_mirrors_half_of_the_images():
    many = np.tile(IMAGES[:1], (400, 1, 1, 1))
    for augment, mirrored in ((Flip(), many[0, :, ::-1]), (Flip(False, True), many[0, ::-1])):
        flips = [np.array_equal(image, mirrored) for image in augment(many, RNG)]
        assert 150 < sum(flips) < 250
        assert all(
            flip or np.array_equal(many[0], image) for flip, image in zip(flips, augment(many, RNG), strict=True)
        )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_by_right_angles(turns):
    square = IMAGES[:, :5]
    turned = Rotate(90 * turns)(square, Fixed(1.0))
    np.testing.assert_allclose(turned, np.rot90(square, turns, axes=(1, 2)), atol=1e-14)
    turned = Rotate(90 * turns)(square, Fixed(0.0))
    np.testing.assert_allclose(turned, np.rot90(square, -turns, axes=(1, 2)), atol=1e-14)


def test_rotation_is_scipys():
    from scipy import ndimage

    turned = Rotate(30)(IMAGES, Fixed(0.8))
    # "grid-constant" interpolates towards the zeros outside, as we do.
    expected = ndimage.rotate(IMAGES, 18, axes=(1, 2), reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(turned, expected, atol=1e-12)


def test_zoom_is_scipys():
    from scipy import ndimage

    for number, factor in ((0.0, 0.5), (1.0, 1.5)):
        zoomed = Zoom(0.5)(IMAGES, Fixed(number))
        matrix = np.asarray([1.0, 1 / factor, 1 / factor, 1.0])
        offset = (1 - matrix) * (np.asarray(IMAGES.shape) - 1) / 2
        # Of a diagonal alone, older SciPy warns that it once took it otherwise.
        expected = ndimage.affine_transform(IMAGES, np.diag(matrix), offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(zoomed, expected, atol=1e-12)


def test_zoom_by_hand():
    """At half the size, every pixel takes the value two pixels further from the centre."""
    image = np.arange(25.0).reshape(1, 5, 5)
    expected = np.zeros((1, 5, 5))
    expected[0, 1:4, 1:4] = image[0, ::2, ::2]
    assert_equal(Zoom(0.5)(image, Fixed(0.0)), expected)


def test_brightness_and_contrast():
    change = Brightness(0.3)(IMAGES, RNG) - IMAGES
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1, :1], change.shape), atol=1e-15)
    assert np.abs(change).max() <= 0.3
    assert_close(Brightness(0.3)(IMAGES, Fixed(1.0)), IMAGES + 0.3, "float64")
    mean = IMAGES.mean(axis=(1, 2), keepdims=True)
    assert_close(Contrast(0.5)(IMAGES, Fixed(0.0)), mean + 0.5 * (IMAGES - mean), "float64")
    assert_close(Contrast(0.5)(IMAGES, RNG).mean(axis=(1, 2), keepdims=True), mean, "float64")


def test_noise_has_its_deviation():
    noise = Noise(0.25)(np.zeros((20, 30, 30)), RNG)
    assert noise.std() == pytest.approx(0.25, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout(size):
    made = Cutout(size)(np.ones((2000, 5, 6)), RNG)
    assert set(np.unique(made)) == {0.0, 1.0}
    holes = (made == 0).sum(axis=(1, 2))
    assert holes.max() == size**2
    assert holes.min() == (size - size // 2) ** 2
    # The first pixel is in the square where its centre is one of the pixels that near to the corner.
    assert (made[:, 0, 0] == 0).mean() == pytest.approx((size // 2 + 1) ** 2 / 30, abs=0.03)
    # One square, the same in every channel.
    assert_equal(Cutout(size)(np.ones((9, 5, 6, 3)), RNG)[..., 2], Cutout(size)(np.ones((9, 5, 6)), RNG))


def test_cutout_by_hand():
    made = Cutout(2)(np.ones((1, 4, 4)), Fixed(0.5))
    expected = np.ones((1, 4, 4))
    expected[0, 1:3, 1:3] = 0
    assert_equal(made, expected)
    assert Cutout(100)(IMAGES, RNG).sum() == 0


def test_composition_takes_a_stream_for_each():
    twice = Compose([Brightness(0.1), Brightness(0.1)])(IMAGES, RNG)
    by_hand = Brightness(0.1)(Brightness(0.1)(IMAGES, RNG.child(0)), RNG.child(1))
    assert_equal(twice, by_hand)
    assert_equal(Compose([lambda x, rng: 2 * x])(IMAGES, RNG), 2 * IMAGES)
    assert Compose([Shift(1), Flip()]) == Compose((Shift(1), Flip()))


# ---- the door


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: Shift(-1), "Shift's pixels must be an int of at least 0, or two of them, not -1"),
        (lambda: Shift(1.5), "Shift's pixels must be"),
        (lambda: RandomCrop(0), "RandomCrop's size must be an int of at least 1, or two of them, not 0"),
        (lambda: RandomCrop(3, padding=-1), "RandomCrop's padding must be"),
        (lambda: Flip("left"), "Flip's horizontal must be a bool, not 'left'"),
        (lambda: Flip(vertical=1), "Flip's vertical must be"),
        (lambda: Rotate(360), r"Rotate's degrees must be a number in \[0, 360\), not 360"),
        (lambda: Rotate(-1), "Rotate's degrees must be"),
        (lambda: Zoom(1.0), r"Zoom's share must be a number in \[0, 1\), not 1.0"),
        (lambda: Brightness(-0.1), r"Brightness's amount must be a number in \[0, inf\), not -0.1"),
        (lambda: Contrast(1), r"Contrast's amount must be a number in \[0, 1\), not 1"),
        (lambda: Noise(float("nan")), r"Noise's std must be a number in \[0, inf\), not nan"),
        (lambda: Cutout(0), "Cutout's size must be a positive int, not 0"),
        (lambda: Cutout(2.0), "Cutout's size must be"),
        (lambda: Compose([Shift]), r"each of Compose's augmentations must be callable, .*; write Shift\(...\)"),
        (lambda: Compose([3]), "each of Compose's augmentations must be callable, not 3"),
    ],
)
def test_bad_hyper_parameters(make_it, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_it()


def test_numbers_of_numpy_become_pythons():
    assert type(Rotate(np.float32(3)).degrees) is float
    assert Brightness(np.float64(0.1))(IMAGES.astype(np.float32), RNG).dtype == np.float32


def test_bad_images(backend):
    with pytest.raises(ShapeError, match=r"Shift takes images, \(n, h, w\) or .*, and not shape \(6, 70\)"):
        Shift(1)(put(backend, IMAGES.reshape(6, 70), "float32"), RNG)
    with pytest.raises(DataError, match=r"Flip takes floats, not .*uint8: functional\.as_float"):
        Flip()(put(backend, np.zeros((2, 3, 3), np.uint8), "float32"), RNG)
    with pytest.raises(ShapeError, match="a window of 8 x 8 does not fit into images of 7 x 5 with 1 and 1 zeros"):
        RandomCrop(8, padding=1)(put(backend, IMAGES, "float32"), RNG)
