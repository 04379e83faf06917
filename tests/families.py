"""One table for each family of members. The generic tests run over them; a member that is in none fails `test_api`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn import functional, losses, nn, optim

Rng = np.random.Generator


@dataclass(frozen=True)
class FunctionCase:
    """``make(rng, n)`` gives the arguments for a batch of n, float64, away from kinks.

    ``fixed(rng, n)`` gives those that follow and are not differentiated.
    """

    function: Any
    make: Callable[[Rng, int], tuple[Any, ...]]
    fixed: Callable[[Rng, int], tuple[Any, ...]] = lambda rng, n: ()
    #: Which of the arguments have the batch as their first axis.
    batched: tuple[bool, ...] = (True,)
    #: Whether each example has a result of its own.
    by_example: bool = True

    def arguments(self, n: int, seed: int = 0) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        rng = np.random.default_rng(seed)
        return self.make(rng, n), self.fixed(rng, n)


def normal(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.normal(size=(n, *shape)),)


def away_from_zero(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.choice([-1.0, 1.0], size=(n, *shape)) * rng.uniform(0.1, 2.0, size=(n, *shape)),)


def labels(classes: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.integers(0, classes, size=n),)


def one_hot(classes: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (np.eye(classes)[rng.integers(0, classes, size=n)],)


def soft(classes: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.dirichlet(np.ones(classes), size=n),)


def probabilities(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.uniform(size=(n, *shape)),)


def counts(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.poisson(3.0, size=(n, *shape)).astype(float),)


FUNCTIONS = {
    "affine": FunctionCase(
        functional.affine,
        lambda rng, n: (rng.normal(size=(n, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)),
        batched=(True, False, False),
    ),
    "batch_norm": FunctionCase(
        functional.batch_norm,
        lambda rng, n: (rng.normal(2.0, 3.0, size=(n, 2, 4)), rng.normal(size=4), rng.normal(size=4)),
        batched=(True, False, False),
        by_example=False,
    ),
    "layer_norm": FunctionCase(
        functional.layer_norm,
        lambda rng, n: (rng.normal(2.0, 3.0, size=(n, 2, 4)), rng.normal(size=4), rng.normal(size=4)),
        batched=(True, False, False),
    ),
    "erf": FunctionCase(functional.erf, normal(5)),
    "identity": FunctionCase(functional.identity, normal(2, 3)),
    "relu": FunctionCase(functional.relu, away_from_zero(5)),
    "leaky_relu": FunctionCase(functional.leaky_relu, away_from_zero(5)),
    "elu": FunctionCase(functional.elu, away_from_zero(5)),
    "selu": FunctionCase(functional.selu, away_from_zero(5)),
    "sigmoid": FunctionCase(functional.sigmoid, normal(2, 3)),
    "hard_sigmoid": FunctionCase(functional.hard_sigmoid, normal(2, 3)),
    "tanh": FunctionCase(functional.tanh, normal(2, 3)),
    "softplus": FunctionCase(functional.softplus, normal(2, 3)),
    "silu": FunctionCase(functional.silu, normal(5)),
    "hard_swish": FunctionCase(functional.hard_swish, normal(5)),
    "gelu": FunctionCase(functional.gelu, normal(5)),
    "gelu_tanh": FunctionCase(functional.gelu_tanh, normal(5)),
    "softmax": FunctionCase(functional.softmax, normal(5)),
    "log_softmax": FunctionCase(functional.log_softmax, normal(5)),
    "softmax_cross_entropy": FunctionCase(functional.softmax_cross_entropy, normal(4), labels(4)),
    "softmax_cross_entropy-one_hot": FunctionCase(functional.softmax_cross_entropy, normal(4), one_hot(4)),
    "softmax_cross_entropy-soft": FunctionCase(functional.softmax_cross_entropy, normal(4), soft(4)),
    "sigmoid_cross_entropy": FunctionCase(functional.sigmoid_cross_entropy, away_from_zero(2, 3), probabilities(2, 3)),
    "negative_log_likelihood": FunctionCase(functional.negative_log_likelihood, soft(4), labels(4)),
    "kl_divergence": FunctionCase(functional.kl_divergence, normal(4), soft(4)),
    "kl_divergence-one_hot": FunctionCase(functional.kl_divergence, normal(4), one_hot(4)),
    "half_squared_error": FunctionCase(functional.half_squared_error, normal(2, 3), normal(2, 3)),
    "squared_error": FunctionCase(functional.squared_error, normal(2, 3), normal(2, 3)),
    "absolute_error": FunctionCase(functional.absolute_error, normal(2, 3), normal(2, 3)),
    "huber": FunctionCase(functional.huber, normal(2, 3), normal(2, 3)),
    "poisson": FunctionCase(functional.poisson, normal(2, 3), counts(2, 3)),
}

#: Functions and layers without a gradient, which have tests of their own.
NOT_DIFFERENTIABLE = {"as_float", "step", "take_rows", "Step"}


@dataclass(frozen=True)
class LayerCase:
    layer: nn.Layer
    input_shape: tuple[int, ...]


MLP = nn.Sequential([nn.Flatten(), nn.Affine(6), nn.Tanh(), nn.Affine(3)])

LAYERS = {
    "Affine": LayerCase(nn.Affine(3), (4,)),
    "Flatten": LayerCase(nn.Flatten(), (2, 3)),
    "Flatten-scalar": LayerCase(nn.Flatten(), ()),
    "BatchNorm": LayerCase(nn.BatchNorm(), (4,)),
    "BatchNorm-images": LayerCase(nn.BatchNorm(decay=0.5), (2, 3, 4)),
    "LayerNorm": LayerCase(nn.LayerNorm(), (2, 4)),
    "Dropout": LayerCase(nn.Dropout(0.4), (2, 4)),
    "Dropout-predict": LayerCase(nn.Dropout(0.4, scale="predict"), (4,)),
    "GaussianNoise": LayerCase(nn.GaussianNoise(0.3), (4,)),
    "Frozen": LayerCase(nn.Frozen(MLP), (2, 2)),
    "Frozen-inside": LayerCase(nn.Sequential([nn.Affine(3), nn.Frozen(nn.BatchNorm()), nn.Affine(2)]), (4,)),
    "Identity": LayerCase(nn.Identity(), (4,)),
    "ReLU": LayerCase(nn.ReLU(), (4,)),
    "LeakyReLU": LayerCase(nn.LeakyReLU(slope=0.2), (4,)),
    "ELU": LayerCase(nn.ELU(alpha=0.5), (4,)),
    "SELU": LayerCase(nn.SELU(), (4,)),
    "Sigmoid": LayerCase(nn.Sigmoid(), (2, 3)),
    "HardSigmoid": LayerCase(nn.HardSigmoid(), (4,)),
    "Tanh": LayerCase(nn.Tanh(), (4,)),
    "Softplus": LayerCase(nn.Softplus(), (4,)),
    "SiLU": LayerCase(nn.SiLU(), (4,)),
    "HardSwish": LayerCase(nn.HardSwish(), (4,)),
    "GELU": LayerCase(nn.GELU(), (4,)),
    "GELUTanh": LayerCase(nn.GELUTanh(), (4,)),
    "Softmax": LayerCase(nn.Softmax(), (4,)),
    "LogSoftmax": LayerCase(nn.LogSoftmax(), (4,)),
    "Sequential": LayerCase(MLP, (2, 2)),
    "Sequential-empty": LayerCase(nn.Sequential([]), (4,)),
    "Sequential-nested": LayerCase(nn.Sequential([nn.Sigmoid(), MLP, nn.Sequential([nn.Affine(2)])]), (2, 2)),
}


@dataclass(frozen=True)
class LossCase:
    loss: losses.Loss
    prediction: Callable[[Rng, int], tuple[Any, ...]]
    target: Callable[[Rng, int], tuple[Any, ...]]


LOSSES = {
    "SoftmaxCrossEntropy": LossCase(losses.SoftmaxCrossEntropy(), normal(4), labels(4)),
    "SoftmaxCrossEntropy-one_hot": LossCase(losses.SoftmaxCrossEntropy(), normal(4), one_hot(4)),
    "SigmoidCrossEntropy": LossCase(losses.SigmoidCrossEntropy(), away_from_zero(3), probabilities(3)),
    "SoftmaxCrossEntropy-smooth": LossCase(losses.SoftmaxCrossEntropy(label_smoothing=0.2), normal(4), labels(4)),
    "SoftmaxCrossEntropy-weights": LossCase(
        losses.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5, 3.0)), normal(4), labels(4)
    ),
    "NegativeLogLikelihood": LossCase(losses.NegativeLogLikelihood(eps=0.0), soft(4), labels(4)),
    "KLDivergence": LossCase(losses.KLDivergence(), normal(4), soft(4)),
    "HalfSquaredError": LossCase(losses.HalfSquaredError(), normal(2, 3), normal(2, 3)),
    "MeanSquaredError": LossCase(losses.MeanSquaredError(), normal(2, 3), normal(2, 3)),
    "MeanAbsoluteError": LossCase(losses.MeanAbsoluteError(), normal(2, 3), normal(2, 3)),
    "Huber": LossCase(losses.Huber(delta=0.7), normal(2, 3), normal(2, 3)),
    "Poisson": LossCase(losses.Poisson(), normal(2, 3), counts(2, 3)),
}

OPTIMIZERS: dict[str, optim.Optimizer] = {
    "SGD": optim.SGD(lr=0.1),
    "SGD-schedule": optim.SGD(lr=optim.schedules.Exponential(0.3, factor=0.995)),
    "Momentum": optim.Momentum(lr=0.05, alpha=0.8),
    "Nesterov": optim.Nesterov(lr=0.05, alpha=0.8),
    "Adagrad": optim.Adagrad(lr=0.8),
    "Adadelta": optim.Adadelta(lr=optim.schedules.Polynomial(2.0, steps=300, power=2.0), eps=1e-3),
    "RMSProp": optim.RMSProp(lr=optim.schedules.Polynomial(0.1, steps=300), decay=0.9),
    "CentredRMSProp": optim.CentredRMSProp(lr=optim.schedules.Polynomial(0.1, steps=300), decay=0.9, eps=1e-3),
    "Adam": optim.Adam(lr=0.1),
    "AMSGrad": optim.AMSGrad(lr=0.1),
    "AdamW": optim.AdamW(lr=0.1),
    "Adamax": optim.Adamax(lr=0.2),
    "NAdam": optim.NAdam(lr=0.1),
    "Chain": optim.chain(optim.ClipByNorm(5.0), optim.L2(0.01), optim.Momentum(lr=0.05, alpha=0.8)),
    "Accumulate": optim.Accumulate(2, optim.SGD(lr=0.2)),
    "WeightDecay": optim.WeightDecay(0.1, optim.SGD(lr=0.1)),
}

FULL_BATCH: dict[str, optim.FullBatch] = {
    "ConjugateGradient": optim.ConjugateGradient(),
    "BFGS": optim.BFGS(),
    "LBFGS": optim.LBFGS(ftol=0.0),
}


@dataclass(frozen=True)
class InitializerCase:
    """Mean and standard deviation that a weight of shape (300, 200) must have, and the bounds of its values."""

    initializer: nn.Initializer
    mean: float
    std: float
    bound: float = np.inf


INITIALIZERS = {
    "Zeros": InitializerCase(nn.Zeros(), 0.0, 0.0, 0.0),
    "Constant": InitializerCase(nn.Constant(0.25), 0.25, 0.0, 0.25),
    "Normal": InitializerCase(nn.Normal(mean=1.0, std=0.5), 1.0, 0.5),
    "Uniform": InitializerCase(nn.Uniform(-0.5, 0.5), 0.0, 1 / np.sqrt(12), 0.5),
    "HeNormal": InitializerCase(nn.HeNormal(), 0.0, np.sqrt(2 / 300)),
    "HeUniform": InitializerCase(nn.HeUniform(), 0.0, np.sqrt(2 / 300), np.sqrt(6 / 300)),
    "GlorotNormal": InitializerCase(nn.GlorotNormal(), 0.0, np.sqrt(2 / 500)),
    "LeCunNormal": InitializerCase(nn.LeCunNormal(), 0.0, np.sqrt(1 / 300)),
    "LeCunUniform": InitializerCase(nn.LeCunUniform(), 0.0, np.sqrt(1 / 300), np.sqrt(3 / 300)),
    "Orthogonal": InitializerCase(nn.Orthogonal(gain=2.0), 0.0, 2.0 * np.sqrt(1 / 300)),
    "GlorotUniform": InitializerCase(nn.GlorotUniform(), 0.0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
}
