"""One table for each family of members. The generic tests run over them; a member that is in none fails `test_api`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
    #: Whether those that follow have the batch as their first axis.
    fixed_batched: bool = True
    #: Whether each example has a result of its own.
    by_example: bool = True
    #: Keywords of every call.
    options: dict[str, Any] = field(default_factory=dict)
    #: A number of examples that is more than a twin may take at once.
    many: int = 70_001

    @property
    def call(self) -> Any:
        return functools.partial(self.function, **self.options)

    @property
    def call_portable(self) -> Any:
        return functools.partial(self.function.portable, **self.options)

    def arguments(self, n: int, seed: int = 0) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        rng = np.random.default_rng(seed)
        return self.make(rng, n), self.fixed(rng, n)


def normal(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.normal(size=(n, *shape)),)


def away_from_zero(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    return lambda rng, n: (rng.choice([-1.0, 1.0], size=(n, *shape)) * rng.uniform(0.1, 2.0, size=(n, *shape)),)


def between_whole_numbers(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    """Of either sign, and away from them: the gamma function has no value where they are not positive."""
    return lambda rng, n: (rng.integers(-3, 9, size=(n, *shape)) + rng.uniform(0.2, 0.8, size=(n, *shape)),)


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


def conv(kernel: tuple[int, ...], outputs: int | None = None) -> Callable[[Rng, int], tuple[Any, ...]]:
    """Images of three channels, a kernel, and biases."""
    return lambda rng, n: (
        rng.normal(size=(n, 5, 6, 3)),
        rng.normal(size=kernel),
        rng.normal(size=kernel[3] if outputs is None else outputs),
    )


def apart(*shape: int) -> Callable[[Rng, int], tuple[Any, ...]]:
    """Values of which no two are close, so that the largest of some stays the largest."""
    return lambda rng, n: (0.1 * rng.permutation(n * math.prod(shape)).reshape(n, *shape),)


def images(function: Any, make: Callable[[Rng, int], tuple[Any, ...]], **options: Any) -> FunctionCase:
    """A function of images, and perhaps a kernel and biases."""
    batched = (True, False, False) if "conv" in function.__name__ else (True,)
    return FunctionCase(function, make, batched=batched, options=options, many=40)


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
    "batch_norm_inference": FunctionCase(
        functional.batch_norm_inference,
        lambda rng, n: (rng.normal(2.0, 3.0, size=(n, 2, 4)), rng.normal(size=4), rng.normal(size=4)),
        lambda rng, n: (rng.normal(size=4), rng.uniform(0.5, 2.0, size=4)),
        batched=(True, False, False),
        fixed_batched=False,
    ),
    "layer_norm": FunctionCase(
        functional.layer_norm,
        lambda rng, n: (rng.normal(2.0, 3.0, size=(n, 2, 4)), rng.normal(size=4), rng.normal(size=4)),
        batched=(True, False, False),
    ),
    "conv2d": images(functional.conv2d, conv((2, 3, 3, 4))),
    "conv2d-strided": images(
        functional.conv2d, conv((3, 2, 3, 2)), stride=(2, 3), padding=((1, 0), (2, 1)), dilation=(1, 2)
    ),
    "conv2d-groups": images(functional.conv2d, conv((3, 3, 1, 6)), padding="same", groups=3, memory=1),
    "conv_transpose2d": images(functional.conv_transpose2d, conv((3, 3, 4, 3), outputs=4), stride=2, padding=1),
    "conv_transpose2d-groups": images(
        functional.conv_transpose2d, conv((2, 3, 2, 3), outputs=6), stride=(2, 1), padding="same", groups=3
    ),
    "max_pool2d": images(functional.max_pool2d, apart(4, 6, 3)),
    "max_pool2d-overlapping": images(functional.max_pool2d, apart(5, 6, 3), size=3, stride=2, padding=1),
    "average_pool2d": images(functional.average_pool2d, normal(5, 6, 3)),
    "average_pool2d-overlapping": images(
        functional.average_pool2d, normal(5, 6, 3), size=(3, 2), stride=(2, 1), padding="same"
    ),
    "global_average_pool": images(functional.global_average_pool, normal(3, 4, 2)),
    "reshape": FunctionCase(functional.reshape, normal(2, 3), options={"shape": (3, 2)}),
    "flatten": FunctionCase(functional.flatten, normal(2, 3)),
    "channels_last": FunctionCase(functional.channels_last, normal(2, 3, 4)),
    "pad": FunctionCase(functional.pad, normal(2, 3, 1), options={"padding": ((1, 0), (2, 3))}),
    "erf": FunctionCase(functional.erf, normal(5)),
    "erfc": FunctionCase(functional.erfc, normal(5)),
    "gammaln": FunctionCase(functional.gammaln, between_whole_numbers(5)),
    "digamma": FunctionCase(functional.digamma, between_whole_numbers(5)),
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
    "half_poisson_deviance": FunctionCase(functional.half_poisson_deviance, normal(2, 3), counts(2, 3)),
}

#: Functions and layers without a gradient, which have tests of their own.
NOT_DIFFERENTIABLE = {
    *("as_float", "channel_moments", "matmul", "scatter_add", "step", "sum_over", "take_rows", "Step")
}

#: Arguments of the registered functions that are not differentiated.
ARRAY_FUNCTIONS: dict[str, Callable[[Rng, int], tuple[Any, ...]]] = {
    "along_last": lambda rng, n: (rng.normal(100.0, 2.0, size=(n, 2, 37)),),
    "channel_moments": lambda rng, n: (rng.normal(100.0, 2.0, size=(n + 1, 2, 3)),),
    "matmul": lambda rng, n: (rng.normal(size=(3, n, 4)), rng.normal(size=(3, 4, 2))),
    "of_all": lambda rng, n: (rng.normal(100.0, 2.0, size=(n + 1, 5)),),
    "scatter_add": lambda rng, n: (
        *(rng.normal(size=(n + 1, 3)), rng.integers(-n - 1, n + 1, size=n), rng.normal(size=(n, 3))),
    ),
    "sum_over": lambda rng, n: (rng.normal(100.0, 2.0, size=(n, 5)),),
    "take_rows": lambda rng, n: (rng.integers(0, 256, (n + 1, 3, 2), np.uint8), rng.integers(-n - 1, n + 1, size=n)),
}


@dataclass(frozen=True)
class LayerCase:
    layer: nn.Layer
    input_shape: tuple[int, ...]


MLP = nn.Sequential([nn.Flatten(), nn.Affine(6), nn.Tanh(), nn.Affine(3)])

LAYERS = {
    "Affine": LayerCase(nn.Affine(3), (4,)),
    "Flatten": LayerCase(nn.Flatten(), (2, 3)),
    "Flatten-scalar": LayerCase(nn.Flatten(), ()),
    "Conv2D": LayerCase(nn.Conv2D(4), (5, 6, 3)),
    "Conv2D-strided": LayerCase(nn.Conv2D(6, (2, 3), stride=2, padding=(1, 0), groups=3), (5, 6, 3)),
    "ConvTranspose2D": LayerCase(nn.ConvTranspose2D(4, stride=2), (3, 4, 2)),
    "ConvTranspose2D-valid": LayerCase(nn.ConvTranspose2D(4, stride=2, padding="valid", groups=2), (3, 4, 2)),
    "MaxPool2D": LayerCase(nn.MaxPool2D(), (5, 6, 3)),
    "AveragePool2D": LayerCase(nn.AveragePool2D(3, stride=2, padding="same"), (5, 6, 3)),
    "GlobalAveragePool": LayerCase(nn.GlobalAveragePool(), (5, 6, 3)),
    "Reshape": LayerCase(nn.Reshape((3, 2, 1)), (2, 3)),
    "ChannelsLast": LayerCase(nn.ChannelsLast(), (3, 5, 6)),
    "Residual": LayerCase(nn.Residual(nn.Sequential([nn.Affine(4), nn.Tanh(), nn.Dropout(0.2)])), (4,)),
    "Residual-shortcut": LayerCase(
        nn.Residual(nn.Sequential([nn.Conv2D(4, stride=2), nn.BatchNorm()]), nn.Conv2D(4, 1, stride=2)), (4, 6, 3)
    ),
    "BatchNorm": LayerCase(nn.BatchNorm(), (4,)),
    "BatchNorm-images": LayerCase(nn.BatchNorm(decay=0.5), (2, 3, 4)),
    "LayerNorm": LayerCase(nn.LayerNorm(), (2, 4)),
    "Dropout": LayerCase(nn.Dropout(0.4), (2, 4)),
    "Dropout-predict": LayerCase(nn.Dropout(0.4, scale="predict"), (4,)),
    "ChannelDropout": LayerCase(nn.ChannelDropout(0.4), (3, 2, 4)),
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
    "HalfPoissonDeviance": LossCase(losses.HalfPoissonDeviance(), normal(2, 3), counts(2, 3)),
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
    "Uniform": InitializerCase(nn.Uniform(low=-0.5, high=0.5), 0.0, 1 / np.sqrt(12), 0.5),
    "HeNormal": InitializerCase(nn.HeNormal(), 0.0, np.sqrt(2 / 300)),
    "HeUniform": InitializerCase(nn.HeUniform(), 0.0, np.sqrt(2 / 300), np.sqrt(6 / 300)),
    "GlorotNormal": InitializerCase(nn.GlorotNormal(), 0.0, np.sqrt(2 / 500)),
    "LeCunNormal": InitializerCase(nn.LeCunNormal(), 0.0, np.sqrt(1 / 300)),
    "LeCunUniform": InitializerCase(nn.LeCunUniform(), 0.0, np.sqrt(1 / 300), np.sqrt(3 / 300)),
    "Orthogonal": InitializerCase(nn.Orthogonal(gain=2.0), 0.0, 2.0 * np.sqrt(1 / 300)),
    "GlorotUniform": InitializerCase(nn.GlorotUniform(), 0.0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
}
