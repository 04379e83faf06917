"""Linear algebra: inverses, determinants and decompositions.

Symmetric matrices are differentiated as such: the gradient is symmetric, as if both triangles were moved together.
Where eigenvalues or singular values are equal, vectors have no derivative, and what needs one is NaN; functions of the
values alone are right there, too.

Sources: Giles 2008 (Collected matrix derivative results), Townsend 2016 (Differentiating the singular value
decomposition), Walter and Lehmann 2018 (QR), Murray 2016 (Cholesky), Golub and Pereyra 1973 (the pseudo-inverse).
"""

from __future__ import annotations

from typing import Any

from portnn._typing import Array, Namespace
from portnn.autodiff.rules.common import adjoint, as_complex, conj, eye_like, is_complex, match
from portnn.autodiff.rules.forms import Formula, General, Rule
from portnn.autodiff.trace import refuse

__all__ = ["DECOMPOSITIONS"]


def _columns(v: Array) -> Array:
    return v[..., None, :]


def _rows(v: Array) -> Array:
    return v[..., :, None]


def _number(v: Array) -> Array:
    return v[..., None, None]


def _inv(xp: Namespace, y: Array, a: Array) -> Any:
    return lambda g: -xp.matmul(xp.matmul(adjoint(xp, y), g), adjoint(xp, y))


def _solve(xp: Namespace, x: Array, a: Array, b: Array) -> Any:
    shape_a, shape_b, dtype_a, dtype_b = tuple(a.shape), tuple(b.shape), a.dtype, b.dtype
    vector = len(shape_b) == 1

    def back(g: Array) -> Array:
        # Of stacks of matrices, g holds stacks of vectors, which solve takes for matrices.
        return xp.linalg.solve(adjoint(xp, a), g[..., None])[..., 0] if vector else xp.linalg.solve(adjoint(xp, a), g)

    def of_matrix(g: Array) -> Array:
        u = back(g)
        found = _rows(u) * _columns(conj(xp, x)) if vector else xp.matmul(u, adjoint(xp, x))
        return match(xp, -found, shape_a, dtype_a)

    return of_matrix, lambda g: match(xp, back(g), shape_b, dtype_b)


def _det(xp: Namespace, y: Array, a: Array) -> Any:
    """The cofactors: ``det a^-T``, and where there is no inverse, those of the singular values."""

    def pull(g: Array) -> Array:
        singular = _number(xp.equal(y, 0))
        eye = eye_like(xp, a.shape[-1], a)
        regular = _number(conj(xp, y)) * adjoint(xp, xp.linalg.inv(xp.where(singular, eye, a)))
        # Where this is not asked for: of a matrix whose singular values are apart, so that it has a derivative.
        apart = eye * xp.cumulative_sum(xp.ones_like(eye), axis=0)
        u, s, vh = xp.linalg.svd(xp.where(singular, a, apart), full_matrices=False)
        others = xp.prod(xp.where(xp.equal(eye, 1), 1.0, _columns(s)), axis=-1)
        sign = _number(conj(xp, xp.multiply(xp.linalg.det(u), xp.linalg.det(vh))))
        cofactors = xp.multiply(sign, xp.matmul(xp.multiply(u, _columns(others)), vh))
        return _number(g) * xp.where(singular, cofactors, regular)

    return pull


def _slogdet(xp: Namespace, y: Any, a: Array) -> Any:
    def pull(g: Any) -> Array:
        of_sign, of_log = g
        slope = xp.zeros_like(y[1]) if of_log is None else of_log
        if of_sign is not None and is_complex(xp, a):
            # The sign is exp(i t): it turns with the imaginary part of the trace of a^-1 da.
            turn = xp.imag(conj(xp, of_sign) * y[0])
            slope = as_complex(xp, slope) - as_complex(xp, turn) * 1j
        return _number(slope) * adjoint(xp, xp.linalg.inv(a))

    return pull


def _cholesky(xp: Namespace, y: Array, a: Array, *, upper: bool = False) -> Any:
    def pull(g: Array) -> Array:
        low, g = (adjoint(xp, y), adjoint(xp, g)) if upper else (y, g)
        eye = eye_like(xp, a.shape[-1], a)
        p = xp.tril(xp.matmul(adjoint(xp, low), g)) * (1.0 - 0.5 * eye)
        half = xp.linalg.solve(adjoint(xp, low), p)
        whole = xp.linalg.solve(adjoint(xp, low), adjoint(xp, half))
        return (whole + adjoint(xp, whole)) * 0.5

    return pull


def _gaps(xp: Namespace, w: Array) -> Array:
    """``1 / (w_j - w_i)``, 0 on the diagonal; infinite where two are equal.

    Not 0 there: of a function like ``v f(w) v^T``, which has a derivative, that would make a wrong one in silence.
    """
    diagonal = xp.equal(eye_like(xp, w.shape[-1], w), 1)
    apart = _columns(w) - _rows(w)
    return xp.where(diagonal, xp.zeros_like(apart), 1.0 / xp.where(diagonal, xp.ones_like(apart), apart))


def _eigh(xp: Namespace, y: Any, a: Array) -> Any:
    def pull(g: Any) -> Array:
        (w, v), (of_w, of_v) = y, g
        inner = None
        if of_v is not None:
            inner = xp.matmul(adjoint(xp, v), of_v) * _gaps(xp, w)
        if of_w is not None:
            on_diagonal = _rows(of_w) * eye_like(xp, a.shape[-1], a)
            inner = on_diagonal if inner is None else xp.add(inner, on_diagonal)
        whole = xp.matmul(xp.matmul(v, inner), adjoint(xp, v))
        return (whole + adjoint(xp, whole)) * 0.5

    return pull


def _eigvalsh(xp: Namespace, a: Array) -> Array:
    return xp.linalg.eigh(a)[0]


def _svd(xp: Namespace, y: Any, a: Array, *, full_matrices: bool = True) -> Any:
    if full_matrices and a.shape[-1] != a.shape[-2]:
        refuse("svd() with all columns has no derivative where the matrix is not square; give full_matrices=False")

    def pull(g: Any) -> Array:
        (u, s, vh), (of_u, of_s, of_vh) = y, g
        v, eye = adjoint(xp, vh), eye_like(xp, s.shape[-1], a)
        inner = []
        if of_u is not None:
            turned = _twice_skew(xp, xp.matmul(adjoint(xp, u), of_u))
            inner.append(turned * _gaps(xp, s * s) * _columns(s))
            if is_complex(xp, a):
                inner.append(turned * xp.divide(eye, _columns(2.0 * s)))
        if of_vh is not None:
            turned = _twice_skew(xp, xp.matmul(adjoint(xp, v), adjoint(xp, of_vh)))
            inner.append(turned * _gaps(xp, s * s) * _rows(s))
        if of_s is not None:
            inner.append(_rows(of_s) * eye)
        total = inner[0]
        for term in inner[1:]:
            total = xp.add(total, term)
        found = xp.matmul(xp.matmul(u, total), vh)
        if of_u is not None and a.shape[-2] > s.shape[-1]:
            outside = of_u - xp.matmul(u, xp.matmul(adjoint(xp, u), of_u))
            found = xp.add(found, xp.matmul(outside / _columns(s), vh))
        if of_vh is not None and a.shape[-1] > s.shape[-1]:
            outside = of_vh - xp.matmul(xp.matmul(of_vh, v), vh)
            found = xp.add(found, xp.matmul(u, outside / _rows(s)))
        return found

    return pull


def _twice_skew(xp: Namespace, q: Array) -> Array:
    return q - adjoint(xp, q)


def _svdvals(xp: Namespace, a: Array) -> Array:
    return xp.linalg.svd(a, full_matrices=False)[1]


def _qr(xp: Namespace, y: Any, a: Array, *, mode: str = "reduced") -> Any:
    rows, columns = a.shape[-2:]
    if mode == "complete" and rows > columns:
        refuse(
            'qr() with mode="complete" has no derivative where there are more rows than columns; give mode="reduced"'
        )

    def square(q: Array, r: Array, of_q: Array | None, of_r: Array | None) -> Array:
        """Of matrices with no more columns than rows."""
        t = xp.zeros_like(r) if of_r is None else xp.matmul(r, adjoint(xp, of_r))
        if of_q is not None:
            t = xp.subtract(t, xp.matmul(adjoint(xp, of_q), q))
        below = xp.tril(t, k=-1)
        symmetric = below + adjoint(xp, below) + xp.tril(xp.triu((t + conj(xp, t)) * 0.5))
        total = xp.matmul(q, symmetric)
        if of_q is not None:
            total = xp.add(total, of_q)
        return adjoint(xp, xp.linalg.solve(r, adjoint(xp, total)))

    def pull(g: Any) -> Array:
        (q, r), (of_q, of_r) = y, g
        if rows >= columns:
            return square(q, r, of_q, of_r)
        first, rest = r[..., :, :rows], a[..., :, rows:]
        if of_r is None:
            left, right = None, xp.zeros_like(rest)
        else:
            left, right = of_r[..., :, :rows], xp.matmul(q, of_r[..., :, rows:])
            through_q = xp.matmul(rest, adjoint(xp, of_r[..., :, rows:]))
            of_q = through_q if of_q is None else xp.add(of_q, through_q)
        return xp.concat([square(q, first, of_q, left), right], axis=-1)

    return pull


def _pinv(xp: Namespace, y: Array, a: Array, *, rtol: Any = None) -> Any:
    """For matrices whose rank stays what it is."""

    def pull(g: Array) -> Array:
        p, ph = y, adjoint(xp, y)
        gh = adjoint(xp, g)
        left = xp.subtract(eye_like(xp, a.shape[-2], a), xp.matmul(a, p))
        right = xp.subtract(eye_like(xp, a.shape[-1], a), xp.matmul(p, a))
        first = -xp.matmul(xp.matmul(ph, g), ph)
        second = xp.matmul(xp.matmul(left, gh), xp.matmul(p, ph))
        third = xp.matmul(xp.matmul(ph, p), xp.matmul(gh, right))
        return first + second + third

    return pull


DECOMPOSITIONS: dict[str, Rule] = {
    "linalg.inv": General(_inv),
    "linalg.solve": General(_solve),
    "linalg.det": General(_det),
    "linalg.slogdet": General(_slogdet),
    "linalg.cholesky": General(_cholesky),
    "linalg.eigh": General(_eigh),
    "linalg.eigvalsh": Formula(_eigvalsh),
    "linalg.svd": General(_svd),
    "linalg.svdvals": Formula(_svdvals),
    "linalg.qr": General(_qr),
    "linalg.pinv": General(_pinv),
}
