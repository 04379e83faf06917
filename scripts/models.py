"""The networks of train_mnist.py, each with the recipe by which it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from portnn import losses, nn, optim
from portnn._typing import Shape
from portnn.data.augmentation import Compose, Rotate, Shift, Zoom
from portnn.optim import schedules

OPTIMIZERS: dict[str, Callable[..., optim.UpdateRule]] = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "nesterov": optim.Nesterov,
    "adagrad": optim.Adagrad,
    "rmsprop": optim.RMSProp,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
}


@dataclass(frozen=True)
class Recipe:
    """A network, and how it is trained unless the command line says otherwise.

    Attributes
    ----------
    network : callable
        ``network(image_shape, classes, hidden) -> layer``, for grey images (h, w).
    hidden : tuple of int
        Units of the hidden affine layers.
    epochs, batch_size : int
    optimizer : str
        A key of `OPTIMIZERS`.
    lr : float or None
        The largest learning rate; None for the optimizer's own.
    one_cycle : bool
        Whether the learning rate goes through one cycle in all the steps, or stays as it is.
    loss : Loss
    """

    network: Callable[[Shape, int, Sequence[int]], nn.Layer]
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    optimizer: str = "adam"
    lr: float | None = None
    one_cycle: bool = False
    loss: losses.Loss = losses.SoftmaxCrossEntropy()

    def make_optimizer(self, steps: int, name: str, lr: float | None) -> optim.Optimizer:
        """The named optimizer for a number of steps.

        The largest learning rate is ``lr``; if that is None, the recipe's for the recipe's optimizer, and any other
        optimizer's own.
        """
        if lr is None and name == self.optimizer:
            lr = self.lr
        optimizer = OPTIMIZERS[name](**({} if lr is None else {"lr": lr}))
        if not self.one_cycle:
            return optimizer
        return replace(optimizer, lr=schedules.OneCycle(optimizer.hyper(1)["lr"], steps))


def augmentation(image_shape: Shape) -> Compose:
    """Small shifts, turns and changes of size, by which a digit stays the same digit."""
    return Compose([Rotate(10.0), Zoom(0.1), Shift(max(1, min(image_shape) // 14))])


def mlp(hidden: Sequence[int], classes: int, activation: nn.Layer | None = None) -> nn.Sequential:
    """Hidden layers with an activation (default ReLU), and one score for each class."""
    layers: list[nn.Layer] = [nn.Flatten()]
    for units in hidden:
        layers += [nn.Affine(units), activation or nn.ReLU()]
    return nn.Sequential([*layers, _scores(classes)])


def bn_dropout(hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Hidden layers with batch normalisation, ReLU and dropout."""
    blocks = [[*_normalised(nn.Affine(units)), nn.Dropout(0.2)] for units in hidden]
    return nn.Sequential([nn.Flatten(), *(layer for block in blocks for layer in block), _scores(classes)])


def cnn(image_shape: Shape, classes: int, hidden: Sequence[int]) -> nn.Layer:
    """Two blocks of convolution and pooling, and a hidden layer: about 1.2 million products an image."""
    return nn.Sequential(
        [
            _with_channel(image_shape),
            *(nn.Conv2D(16), nn.ReLU(), nn.MaxPool2D()),
            *(nn.Conv2D(32), nn.ReLU(), nn.MaxPool2D()),
            *mlp(hidden, classes).layers,
        ]
    )


def cnn_best(image_shape: Shape, classes: int, hidden: Sequence[int]) -> nn.Layer:
    """Four normalised convolutions, of which the first strides: about 5 million products an image."""
    return nn.Sequential(
        [
            _with_channel(image_shape),
            *_normalised(nn.Conv2D(32, kernel=5, stride=2), nn.Conv2D(32)),
            nn.MaxPool2D(),
            *_normalised(nn.Conv2D(64), nn.Conv2D(64)),
            *(nn.MaxPool2D(), nn.Flatten()),
            *_normalised(*map(nn.Affine, hidden)),
            nn.Dropout(0.3),
            _scores(classes),
        ]
    )


def cnn_fast(image_shape: Shape, classes: int, hidden: Sequence[int]) -> nn.Layer:
    """Two normalised convolutions that stride instead of pooling: about 0.5 million products an image."""
    return nn.Sequential(
        [
            _with_channel(image_shape),
            *_normalised(nn.Conv2D(16, kernel=5, stride=2), nn.Conv2D(32, stride=2)),
            nn.Flatten(),
            *_normalised(*map(nn.Affine, hidden)),
            _scores(classes),
        ]
    )


def _with_channel(image_shape: Shape) -> nn.Layer:
    return nn.Reshape((*image_shape, 1))


def _normalised(*layers: nn.Layer) -> list[nn.Layer]:
    """Each layer with batch normalisation and ReLU behind it."""
    return [part for layer in layers for part in (layer, nn.BatchNorm(), nn.ReLU())]


def _scores(classes: int) -> nn.Layer:
    return nn.Affine(classes, weight_init=nn.GlorotNormal())


_SMOOTHED = losses.SoftmaxCrossEntropy(label_smoothing=0.1)


def _mlp(_: Shape, classes: int, hidden: Sequence[int]) -> nn.Layer:
    return mlp(hidden, classes)


RECIPES = {
    "small": Recipe(_mlp, (100,), epochs=5, batch_size=100, optimizer="sgd", lr=0.1),
    "mlp": Recipe(_mlp, (512, 512), epochs=5, batch_size=128),
    "wide": Recipe(_mlp, (2048, 2048), epochs=5, batch_size=128),
    "bn-dropout": Recipe(lambda _, classes, hidden: bn_dropout(hidden, classes), (512, 512), epochs=5, batch_size=128),
    "cnn": Recipe(cnn, (128,), epochs=3, batch_size=128, lr=0.003, one_cycle=True),
    "cnn-best": Recipe(cnn_best, (128,), epochs=20, batch_size=128, lr=0.005, one_cycle=True, loss=_SMOOTHED),
    "cnn-fast": Recipe(cnn_fast, (128,), epochs=3, batch_size=256, lr=0.01, one_cycle=True, loss=_SMOOTHED),
}
