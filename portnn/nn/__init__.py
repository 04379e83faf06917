"""Layers, containers, initializers, and `Network`, which binds a layer to its parameters and a device."""

from portnn.nn.activations import ReLU, Sigmoid, Tanh
from portnn.nn.affine import Affine
from portnn.nn.config import from_config, to_config
from portnn.nn.flatten import Flatten
from portnn.nn.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    Normal,
    Uniform,
    Zeros,
)
from portnn.nn.layer import Layer, Parameterless
from portnn.nn.network import Network
from portnn.nn.sequential import Sequential

__all__ = [
    "Affine",
    "Constant",
    "Flatten",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "Layer",
    "Network",
    "Normal",
    "Parameterless",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "Uniform",
    "Zeros",
    "from_config",
    "to_config",
]
