"""Fourier transforms: linear, so the way back is the transform that is the adjoint, or goes through a formula."""

from __future__ import annotations

from typing import Any, Literal

from array_api_compat import device as device_of

from portnn._typing import Array, Namespace
from portnn.autodiff.rules.common import along, as_complex, axes_of, conj, to_dtype
from portnn.autodiff.rules.forms import Formula, General, Rule

__all__ = ["FOURIER"]

_Norm = Literal["backward", "ortho", "forward"]
_SWAPPED: dict[str, _Norm] = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _to_length(xp: Namespace, x: Array, n: int, axis: int) -> Array:
    """Cut, or filled with zeros, along an axis."""
    length = x.shape[axis]
    if n <= length:
        return x if n == length else x[along(axis, x.ndim, slice(0, n))]
    shape = list(x.shape)
    shape[axis] = n - length
    return xp.concat([x, xp.zeros(tuple(shape), dtype=x.dtype, device=device_of(x))], axis=axis)


def _one_axis(inverse: bool) -> Any:
    def pulls(
        xp: Namespace, y: Array, x: Array, *, n: int | None = None, axis: int = -1, norm: _Norm = "backward"
    ) -> Any:
        length, dtype = x.shape[axis], x.dtype

        def pull(g: Array) -> Array:
            back = (xp.fft.fft if inverse else xp.fft.ifft)(g, axis=axis, norm=_SWAPPED[norm])
            return to_dtype(xp, _to_length(xp, back, length, axis), dtype)

        return pull

    return pulls


def _several(x: Array, s: Any, axes: Any) -> list[tuple[int | None, int]]:
    """The length and the axis of each transform of several."""
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    axes = axes_of(tuple(axes), x.ndim)
    return list(zip([None] * len(axes) if s is None else s, axes, strict=True))


def _fftn(inverse: bool) -> Any:
    def formula(xp: Namespace, x: Array, *, s: Any = None, axes: Any = None, norm: _Norm = "backward") -> Array:
        for n, axis in _several(x, s, axes):
            x = (xp.fft.ifft if inverse else xp.fft.fft)(x, n=n, axis=axis, norm=norm)
        return x

    return formula


def _rfft(xp: Namespace, x: Array, *, n: int | None = None, axis: int = -1, norm: _Norm = "backward") -> Array:
    whole = xp.fft.fft(as_complex(xp, x), n=n, axis=axis, norm=norm)
    return whole[along(axis, x.ndim, slice(0, whole.shape[axis] // 2 + 1))]


def _irfft(xp: Namespace, x: Array, *, n: int | None = None, axis: int = -1, norm: _Norm = "backward") -> Array:
    """From half of a spectrum: the rest is its mirror image, and imaginary parts at both ends count for nothing."""
    n = 2 * (x.shape[axis] - 1) if n is None else n
    half = _to_length(xp, x, n // 2 + 1, axis)
    mirrored = conj(xp, xp.flip(half[along(axis, x.ndim, slice(1, (n + 1) // 2))], axis=axis))
    return xp.real(xp.fft.ifft(xp.concat([half, mirrored], axis=axis), axis=axis, norm=norm))


def _rfftn(xp: Namespace, x: Array, *, s: Any = None, axes: Any = None, norm: _Norm = "backward") -> Array:
    *others, (n, last) = _several(x, s, axes)
    x = _rfft(xp, x, n=n, axis=last, norm=norm)
    for n, axis in others:
        x = xp.fft.fft(x, n=n, axis=axis, norm=norm)
    return x


def _irfftn(xp: Namespace, x: Array, *, s: Any = None, axes: Any = None, norm: _Norm = "backward") -> Array:
    *others, (n, last) = _several(x, s, axes)
    for length, axis in others:
        x = xp.fft.ifft(x, n=length, axis=axis, norm=norm)
    return _irfft(xp, x, n=n, axis=last, norm=norm)


def _hfft(xp: Namespace, x: Array, *, n: int | None = None, axis: int = -1, norm: _Norm = "backward") -> Array:
    return _irfft(xp, conj(xp, x), n=n, axis=axis, norm=_SWAPPED[norm])


def _ihfft(xp: Namespace, x: Array, *, n: int | None = None, axis: int = -1, norm: _Norm = "backward") -> Array:
    return conj(xp, _rfft(xp, x, n=n, axis=axis, norm=_SWAPPED[norm]))


def _fftshift(xp: Namespace, y: Array, x: Array, *, axes: Any = None) -> Any:
    return lambda g: xp.fft.ifftshift(g, axes=axes)


def _ifftshift(xp: Namespace, y: Array, x: Array, *, axes: Any = None) -> Any:
    return lambda g: xp.fft.fftshift(g, axes=axes)


FOURIER: dict[str, Rule] = {
    "fft.fft": General(_one_axis(inverse=False), (0,)),
    "fft.ifft": General(_one_axis(inverse=True), (0,)),
    "fft.fftn": Formula(_fftn(inverse=False)),
    "fft.ifftn": Formula(_fftn(inverse=True)),
    "fft.rfft": Formula(_rfft),
    "fft.irfft": Formula(_irfft),
    "fft.rfftn": Formula(_rfftn),
    "fft.irfftn": Formula(_irfftn),
    "fft.hfft": Formula(_hfft),
    "fft.ihfft": Formula(_ihfft),
    "fft.fftshift": General(_fftshift, (0,)),
    "fft.ifftshift": General(_ifftshift, (0,)),
}
