"""Update rules, compiled by Numba: one pass over parameters, gradients and slots, which are flat.

Each loop has the arguments of the portable rule of its name in `portnn.optim`, whose docstring has the formula. What
depends on the hyper-parameters alone is computed before the loop, in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compile import compiled


@compiled
def sgd(p: Any, g: Any, lr: float) -> None:
    rate = p.dtype.type(lr)
    for i in range(p.size):
        p[i] -= rate * g[i]


@compiled
def momentum(p: Any, g: Any, v: Any, lr: float, alpha: float) -> None:
    real = p.dtype.type
    rate, keep = real(lr), real(alpha)
    for i in range(p.size):
        v[i] = keep * v[i] - rate * g[i]
        p[i] += v[i]


@compiled
def nesterov(p: Any, g: Any, v: Any, lr: float, alpha: float) -> None:
    real = p.dtype.type
    rate, keep = real(lr), real(alpha)
    for i in range(p.size):
        v[i] = keep * v[i] - rate * g[i]
        p[i] += keep * v[i] - rate * g[i]


@compiled
def adagrad(p: Any, g: Any, h: Any, lr: float, eps: float) -> None:
    real = p.dtype.type
    rate, tiny = real(lr), real(eps)
    for i in range(p.size):
        h[i] += g[i] * g[i]
        p[i] -= rate * g[i] / (np.sqrt(h[i]) + tiny)


@compiled
def adadelta(p: Any, g: Any, h: Any, s: Any, lr: float, rho: float, eps: float) -> None:
    real = p.dtype.type
    rate, keep, rest, tiny = real(lr), real(rho), real(1.0 - rho), real(eps)
    for i in range(p.size):
        h[i] = keep * h[i] + rest * (g[i] * g[i])
        update = np.sqrt(s[i] + tiny) / np.sqrt(h[i] + tiny) * g[i]
        s[i] = keep * s[i] + rest * (update * update)
        p[i] -= rate * update


@compiled
def rmsprop(p: Any, g: Any, v: Any, lr: float, decay: float, eps: float) -> None:
    real = p.dtype.type
    rate, keep, rest, tiny = real(lr), real(decay), real(1.0 - decay), real(eps)
    for i in range(p.size):
        v[i] = keep * v[i] + rest * (g[i] * g[i])
        p[i] -= rate * g[i] / (np.sqrt(v[i]) + tiny)


@compiled
def centred_rmsprop(p: Any, g: Any, s: Any, m: Any, lr: float, decay: float, eps: float) -> None:
    real = p.dtype.type
    rate, keep, rest, tiny = real(lr), real(decay), real(1.0 - decay), real(eps)
    for i in range(p.size):
        apart = g[i] - m[i]
        s[i] = keep * (s[i] + rest * (apart * apart))
        m[i] += rest * apart
        p[i] -= rate * g[i] / (np.sqrt(s[i]) + tiny)


@compiled
def adam(
    p: Any, g: Any, m: Any, v: Any, lr: float, beta1: float, beta2: float, eps: float, bias1: float, bias2: float
) -> None:
    real = p.dtype.type
    b1, rest1, b2, rest2 = real(beta1), real(1.0 - beta1), real(beta2), real(1.0 - beta2)
    rate, unbias, tiny = real(lr / bias1), real(1.0 / bias2), real(eps)
    for i in range(p.size):
        m[i] = b1 * m[i] + rest1 * g[i]
        v[i] = b2 * v[i] + rest2 * (g[i] * g[i])
        p[i] -= rate * m[i] / (np.sqrt(v[i] * unbias) + tiny)


@compiled
def amsgrad(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    v_max: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    bias1: float,
    bias2: float,
) -> None:
    real = p.dtype.type
    b1, rest1, b2, rest2 = real(beta1), real(1.0 - beta1), real(beta2), real(1.0 - beta2)
    rate, unbias, tiny = real(lr / bias1), real(1.0 / bias2), real(eps)
    for i in range(p.size):
        m[i] = b1 * m[i] + rest1 * g[i]
        v[i] = b2 * v[i] + rest2 * (g[i] * g[i])
        # Written so that NaN stays NaN.
        v_max[i] = v_max[i] if v_max[i] > v[i] else v[i]
        p[i] -= rate * m[i] / (np.sqrt(v_max[i] * unbias) + tiny)


@compiled
def adamax(
    p: Any, g: Any, m: Any, u: Any, lr: float, beta1: float, beta2: float, eps: float, bias1: float, bias2: float
) -> None:
    real = p.dtype.type
    b1, rest1, b2, rate, tiny = real(beta1), real(1.0 - beta1), real(beta2), real(lr / bias1), real(eps)
    for i in range(p.size):
        m[i] = b1 * m[i] + rest1 * g[i]
        old, new = b2 * u[i], abs(g[i]) + tiny
        u[i] = old if old > new else new
        p[i] -= rate * m[i] / u[i]


@compiled
def adamw(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    bias1: float,
    bias2: float,
) -> None:
    shrink = p.dtype.type(lr * weight_decay)
    for i in range(p.size):
        p[i] -= shrink * p[i]
    adam(p, g, m, v, lr, beta1, beta2, eps, bias1, bias2)


@compiled
def nadam(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    momentum_decay: float,
    bias1: float,
    bias2: float,
    now: float,
    ahead: float,
) -> None:
    real = p.dtype.type
    b1, rest1, b2, rest2 = real(beta1), real(1.0 - beta1), real(beta2), real(1.0 - beta2)
    rate_now, rate_ahead, unbias, tiny = real(lr * now), real(lr * ahead), real(1.0 / bias2), real(eps)
    for i in range(p.size):
        m[i] = b1 * m[i] + rest1 * g[i]
        v[i] = b2 * v[i] + rest2 * (g[i] * g[i])
        p[i] -= (rate_now * g[i] + rate_ahead * m[i]) / (np.sqrt(v[i] * unbias) + tiny)
