"""Pictures of a trained classifier of digits: what it gets wrong, what it looks for, and what it takes for what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import check_folder
from drawing import figure, save
from numpy.typing import NDArray

from portnn import Network, functional, tree
from portnn._typing import Tree
from portnn.data import Dataset
from portnn.storage import check_replaceable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Pictures of digits, and of filters, that are drawn at most.
_DIGITS, _FILTERS = 30, 40


def check(folder: str) -> None:
    """Raise before the training, not after it, if the pictures could not be drawn or written."""
    figure()
    check_folder(folder)
    for name in _PICTURES:
        check_replaceable(Path(folder) / name)


def draw(folder: str, net: Network, data: Dataset) -> None:
    """Write misclassified.png, filters.png and confusion.png."""
    probabilities = functional.softmax(np.asarray(net.predict(data.x_test)))[0]
    for name, picture in _PICTURES.items():
        save(picture(net, data, probabilities), Path(folder) / name)


def misclassified(net: Network, data: Dataset, probabilities: NDArray[Any]) -> Figure:
    """The test images of which the network is surest, and wrong."""
    predicted, sureness = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != data.y_test)
    shown = wrong[np.argsort(-sureness[wrong], kind="stable")][:_DIGITS]
    columns = 10
    rows = max(1, math.ceil(len(shown) / columns))
    drawing, axes = figure(rows, columns, width=10.0, height=0.6 + 1.3 * rows)
    for ax in axes:
        ax.axis("off")
    for ax, i in zip(axes, shown, strict=False):
        ax.imshow(data.x_test[i], cmap="gray_r")
        ax.set_title(f"{data.y_test[i]} taken for {predicted[i]}\n{sureness[i]:.1%}", fontsize=8)
    which = f", the {len(shown)} surest mistakes first" if len(shown) < len(wrong) else ""
    drawing.suptitle(f"{len(wrong):,} of {len(data.y_test):,} test images of {data.name} misclassified{which}")
    return drawing


def filters(net: Network, data: Dataset, probabilities: NDArray[Any]) -> Figure:
    """The first weights: kernels of a convolution, or the weights from all pixels to each unit."""
    host = net.backend.to_numpy(_first_weights(net.params))
    images = host.reshape(host.shape[0], host.shape[1], -1) if host.ndim == 4 else host.reshape(*net.input_shape, -1)
    shown = min(images.shape[2], _FILTERS)
    columns = 8
    rows = math.ceil(shown / columns)
    drawing, axes = figure(rows, columns, width=10.0, height=0.5 + 1.2 * rows)
    scale = float(np.abs(images[..., :shown]).max())
    for ax in axes:
        ax.axis("off")
    for i, ax in enumerate(axes[:shown]):
        drawn = ax.imshow(images[..., i], cmap="RdBu", vmin=-scale, vmax=scale)
    drawing.colorbar(drawn, ax=axes, shrink=0.8, pad=0.01, label="weight")
    which = "" if shown == images.shape[2] else f"{shown} of "
    drawing.suptitle(f"first weights: {which}{images.shape[2]} filters of {images.shape[0]} x {images.shape[1]}")
    return drawing


def confusion(net: Network, data: Dataset, probabilities: NDArray[Any]) -> Figure:
    """How often each class was taken for which; the colour is that of the mistakes alone."""
    from matplotlib.ticker import MaxNLocator

    counts = np.zeros((data.classes, data.classes), dtype=int)
    np.add.at(counts, (data.y_test, probabilities.argmax(axis=1)), 1)
    mistakes = np.ma.masked_array(counts, mask=np.eye(data.classes, dtype=bool) | (counts == 0))
    drawing, (ax,) = figure(width=6.4, height=6.0)
    top = int(mistakes.filled(0).max()) or 1
    image = ax.imshow(mistakes, cmap="Oranges", vmin=0, vmax=top)
    drawing.colorbar(image, ax=ax, shrink=0.8, label="mistakes", ticks=MaxNLocator(integer=True))
    for true, predicted in np.argwhere(counts):
        count = counts[true, predicted]
        colour = "white" if true != predicted and count > 0.6 * top else "black"
        weight = "bold" if true == predicted else "normal"
        ax.text(predicted, true, f"{count:,}", ha="center", va="center", color=colour, fontweight=weight)
    ax.set(xticks=range(data.classes), yticks=range(data.classes), xlabel="predicted", ylabel="true")
    ax.set_title(f"{np.trace(counts):,} of {counts.sum():,} test images of {data.name} are right")
    return drawing


_PICTURES = {"misclassified.png": misclassified, "filters.png": filters, "confusion.png": confusion}


def _first_weights(params: Tree) -> Any:
    """The first array that is called ``w``, in the order of computation."""
    return next(array for path, array in tree.flatten(params).items() if path.split(".")[-1] == "w")
