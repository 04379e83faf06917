"""Layers, containers, initializers, and `Network`, which binds a layer to its parameters and a device."""

from portnn.nn.activations import (
    ELU,
    GELU,
    SELU,
    GELUTanh,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
)
from portnn.nn.affine import Affine
from portnn.nn.config import from_config, to_config
from portnn.nn.convolution import Conv2D, ConvTranspose2D
from portnn.nn.ensemble import Ensemble
from portnn.nn.frozen import Frozen
from portnn.nn.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LeCunNormal,
    LeCunUniform,
    Normal,
    Orthogonal,
    Uniform,
    Zeros,
)
from portnn.nn.layer import Layer, Parameterless
from portnn.nn.network import Network
from portnn.nn.noise import ChannelDropout, Dropout, GaussianNoise
from portnn.nn.normalization import BatchNorm, LayerNorm
from portnn.nn.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from portnn.nn.residual import Residual
from portnn.nn.sequential import Sequential
from portnn.nn.shapes import ChannelsLast, Flatten, Reshape
from portnn.nn.trace import LayerTrace, trace

__all__ = [
    "Affine",
    "AveragePool2D",
    "BatchNorm",
    "ChannelDropout",
    "ChannelsLast",
    "Constant",
    "Conv2D",
    "ConvTranspose2D",
    "Dropout",
    "ELU",
    "Ensemble",
    "Flatten",
    "Frozen",
    "GELU",
    "GELUTanh",
    "GaussianNoise",
    "GlobalAveragePool",
    "GlorotNormal",
    "GlorotUniform",
    "HardSigmoid",
    "HardSwish",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "Layer",
    "LayerNorm",
    "LayerTrace",
    "LeCunNormal",
    "LeCunUniform",
    "LeakyReLU",
    "LogSoftmax",
    "MaxPool2D",
    "Network",
    "Normal",
    "Orthogonal",
    "Parameterless",
    "ReLU",
    "Reshape",
    "Residual",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "Uniform",
    "Zeros",
    "from_config",
    "to_config",
    "trace",
]
