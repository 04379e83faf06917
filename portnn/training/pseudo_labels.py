"""Semi-supervised training: the network labels what nobody has labelled, where it is sure."""

from __future__ import annotations

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.checks import check_count, check_number
from portnn.door import check_lengths, check_target, enter, enter_target
from portnn.errors import ConfigError, ShapeError
from portnn.functional import softmax
from portnn.nn import Network
from portnn.training.history import History
from portnn.training.trainer import Trainer

__all__ = ["fit_with_pseudo_labels", "pseudo_labels"]


def pseudo_labels(network: Network, x: Array, *, threshold: float = 0.9) -> tuple[Array, Array]:
    """What a classifier is sure of: the numbers of some examples, and their classes.

    Parameters
    ----------
    network : Network
        Its outputs are scores of classes (logits), shape (n, k).
    x : array, shape ``(n, *input_shape)``
    threshold : float, default 0.9
        The smallest probability of the best class that counts as sure, in [0, 1).

    Returns
    -------
    index, classes : integer arrays, shape (m,), on the device of the network
    """
    check_number("threshold", threshold, 0, 1)
    if len(network.output_shape) != 1 or network.output_shape[0] < 2:
        raise ShapeError(f"pseudo-labels need a network with scores of classes, not of output {network.output_shape}")
    backend = network.backend
    with backend.context():
        probabilities = backend.to_numpy(softmax(network.predict(enter(x, backend, network.dtype)))[0])
        # How many are sure is known on the host only, so all of this is decided there.
        sure = (probabilities.max(axis=1) >= threshold).nonzero()[0]
        return backend.asarray(sure), backend.asarray(probabilities[sure].argmax(axis=1))


def fit_with_pseudo_labels(
    trainer: Trainer,
    x: Array,
    y: Array,
    unlabelled: Array,
    *,
    rounds: int = 5,
    epochs: int = 1,
    threshold: float = 0.9,
    weight: float = 1.0,
    batch_size: int | None = None,
    validation_data: tuple[Array, Array] | None = None,
) -> History:
    """Train on labelled examples, and on those others for which the network is sure of its own answer (Lee 2013).

    Before each round the others are labelled anew; how many were is ``pseudo_labels`` in the history. Train the network
    on the labelled examples first, as long as that gains: what it believes at the beginning is confirmed later on.
    Callbacks begin anew in each round, as each is a call of `Trainer.fit`.

    Parameters
    ----------
    trainer : Trainer
        With a loss that takes class numbers.
    x, y : arrays, shapes ``(n, *input_shape)`` and (n,) of class numbers
    unlabelled : array, shape ``(m, *input_shape)``
        Of the same kind of numbers as ``x``.
    rounds : int, default 5
    epochs : int, default 1
        Of each round.
    threshold : float, default 0.9
        See `pseudo_labels`.
    weight : float, default 1.0
        How much an example counts whose label is the network's own, against 1 for the others; >= 0.
    batch_size, validation_data
        As `Trainer.fit`.

    Returns
    -------
    History
        Of this and all earlier calls of the trainer.
    """
    check_count("rounds", rounds)
    check_number("threshold", threshold, 0, 1)
    check_number("weight", weight, 0)
    net, backend = trainer.network, trainer.network.backend
    x, more = (enter(a, backend, net.dtype, name) for a, name in ((x, "x"), (unlabelled, "unlabelled")))
    y = enter_target(y, backend, net.dtype, "classes")
    xp = array_namespace(x)
    check_lengths(x, y)
    check_target(y, "classes", net.output_shape, backend)
    if y.ndim != 1:
        raise ShapeError(f"y must be class numbers, one for each example, not of shape {tuple(y.shape)}")
    if x.dtype != more.dtype:
        raise ConfigError(f"x is {x.dtype} and unlabelled is {more.dtype}: give both as bytes, or both as numbers")
    for _ in range(rounds):
        done = len(trainer.history)
        index, classes = pseudo_labels(net, more, threshold=threshold)
        count = index.shape[0]
        trainer.fit(
            xp.concat([x, xp.take(more, index, axis=0)]),
            xp.concat([y, xp.astype(classes, y.dtype)]),
            epochs=epochs,
            batch_size=batch_size,
            sample_weight=backend.asarray([1.0] * y.shape[0] + [weight] * count, net.dtype),
            validation_data=validation_data,
        )
        for record in trainer.history.records[done:]:
            record["pseudo_labels"] = count
        if trainer.history.stopped:
            break
    return trainer.history
