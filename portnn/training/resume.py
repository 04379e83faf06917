"""The state of a training run as one safetensors file, and back.

The file is that of `Network.save` with more in it: the optimizer's slots under ``optimizer.``, the arrays of callbacks
under ``callbacks.<number>.``, and all that is no array as JSON in the metadata, under ``training``.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_number
from portnn.errors import BackendError, ConfigError, DataError, DivergenceError, ModelFileError, PortnnError, ShapeError
from portnn.nn.network import Network
from portnn.optim import Accumulate, Optimizer
from portnn.random import Stream
from portnn.storage import local, rebuild, write_tensors
from portnn.training.checkpoint import whole_before
from portnn.training.divergence import advice
from portnn.training.epochs import settled
from portnn.training.history import History
from portnn.training.progress import Progress
from portnn.training.records import as_plain, check_count_of, read_fields, tidy, write_fields

if TYPE_CHECKING:
    from portnn.training.callbacks import Callback
    from portnn.training.trainer import Trainer

__all__ = ["load_training", "save_training"]

_VERSION = 1

#: What reading a description can raise that does not say what it should.
_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, PortnnError)


class _Other(Exception):
    """The file is whole, and of another network, optimizer or list of callbacks."""


def save_training(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """See `Trainer.save`."""
    with trainer.network.trees.turn():
        tensors, metadata = _gathered(trainer)
    write_tensors(path, tensors, metadata)
    trainer.last_checkpoint = local(path)


def _gathered(trainer: Trainer) -> tuple[dict[str, Array], dict[str, str]]:
    """All arrays, in memory of their own on the host, and the description, while no step is under way."""
    net = trainer.network
    for record in trainer.history.records:
        tidy(record)
    tensors, metadata = net.to_tensors()
    remembered = isinstance(trainer.optimizer, Optimizer) and trainer._slots_of is not None
    if remembered:
        own = tree.map(net.backend.copy, {"optimizer": trainer._slots})
        tensors |= tree.flatten(tree.map(net.backend.to_numpy, own))
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise DivergenceError(
                f"{name} is not finite after step {trainer.step}, so no checkpoint is written: {advice(trainer)}"
            )
    callbacks = []
    for i, (callback, values) in enumerate(_remembering(trainer)):
        name = type(callback).__name__
        callbacks.append([name, as_plain(values, f"{name}.state()")])
        arrays = tree.flatten(tree.map(lambda a: np.array(net.backend.to_numpy(a)), callback.arrays()))
        tensors |= {f"callbacks.{i}.{path}": array for path, array in arrays.items()}
    training = {
        "version": _VERSION,
        "epoch": trainer.epoch,
        "step": trainer.step,
        "within_fit": trainer.within_fit,
        "progress": write_fields(settled(trainer)),
        "data": trainer.data_shape,
        "rng": [trainer.rng.seed, trainer.rng.step, trainer.rng.path],
        "lr_factor": check_number("lr_factor", trainer.lr_factor, -math.inf, open_low=True),
        "optimizer": _kind_name(trainer._slots_of) if remembered else None,
        "optimizer_step": trainer._optimizer_step,
        "callbacks": callbacks,
        "history": write_fields(copy.copy(trainer.history)),
    }
    return tensors, metadata | {"training": json.dumps(as_plain(training, "the trainer"))}


def load_training(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """See `Trainer.load`."""
    name = local(path)
    try:
        weights, attributes = _read(trainer, name)
    except ModelFileError as error:
        whole = whole_before(path)
        if whole is None:
            raise
        raise ModelFileError(f"{error}; the latest whole checkpoint before it is {whole}") from None
    trainer.network.trained_on = attributes.pop("trained_on")
    trainer.network.trees.take(weights["params"], weights["state"])
    vars(trainer).update(attributes)
    trainer.last_checkpoint = name


def _read(trainer: Trainer, name: str) -> tuple[dict[str, Tree], dict[str, Any]]:
    tensors, metadata = Network.read(name)
    if "training" not in metadata:
        raise ModelFileError(f"{name} holds a network, but no training to go on with: Network.load reads it")
    try:
        return _checked(trainer, tensors, metadata)
    except BackendError:  # not the fault of the file
        raise
    except _Other as error:
        raise ConfigError(str(error)) from None
    except _DAMAGE as error:
        raise ModelFileError(f"{name} does not fit its own description: {error}") from None


def _checked(
    trainer: Trainer, tensors: dict[str, Array], metadata: dict[str, str]
) -> tuple[dict[str, Tree], dict[str, Any]]:
    """Parameters and state, and the trainer's attributes, as a file says; only callbacks have been changed after it."""
    net, said = trainer.network, json.loads(metadata["training"])
    if said["version"] != _VERSION:
        raise DataError(f"the version of its training part is {said['version']}; this portnn reads {_VERSION}")
    _, own = net.to_tensors()
    for key in ("layer", "input_shape", "dtype"):
        if metadata[key] != own[key]:
            raise _Other(f"the checkpoint's network has {key} {metadata[key]}; the trainer's has {own[key]}")
    kind, slots = _slots(trainer, said["optimizer"])
    in_callbacks = {key: t for key, t in tensors.items() if key.startswith("callbacks.")}
    tensors = _with_weights_of_pieces(tensors, kind, slots, said, net.dtype)
    like = {"params": net.params, "state": net.state} | ({} if kind is None else {"optimizer": slots})
    host = rebuild(like, {key: t for key, t in tensors.items() if key not in in_callbacks}, net.dtype)
    here = net.to_device(host)
    seed, step, path = said["rng"]
    within_fit = said["within_fit"] is True
    attributes = {
        "epoch": check_count_of(said["epoch"]),
        "step": check_count_of(said["step"]),
        "resuming": within_fit,
        "progress": _progress(said["progress"]),
        "data_shape": None
        if said["data"] is None
        else [None if n is None else check_count_of(n) for n in said["data"]],
        "rng": Stream(seed, check_count_of(step), tuple(path)),
        "lr_factor": _number(said["lr_factor"]),
        "history": read_fields(History, said["history"]),
        "_slots": here.pop("optimizer", ()),
        "_slots_of": kind,
        "_optimizer_step": check_count_of(said["optimizer_step"]),
        # The steps draw from a stream.
        "_compiled_for": None,
        "trained_on": Network.trained_on_in(metadata),
    }
    if within_fit:
        _restore_callbacks(trainer, said["callbacks"], in_callbacks)
    return here, attributes


def _slots(trainer: Trainer, name: str | None) -> tuple[object, tuple[Tree, ...]]:
    """The kind of a file's slots, and some of their structure; (None, ()) where there are none."""
    optimizer = trainer.optimizer
    if name is None or not isinstance(optimizer, Optimizer):
        return None, ()
    own = _kind_name(optimizer.kind)
    if name != own:
        raise _Other(f"the checkpoint's optimizer is {name}; the trainer's is {own}")
    return optimizer.kind, optimizer.slots(trainer.network.params)


def _with_weights_of_pieces(
    tensors: dict[str, Array], kind: object, slots: tuple[Tree, ...], said: Any, dtype: str
) -> dict[str, Array]:
    """The tensors of a file of before `Accumulate` kept what its pieces weigh: all of them were taken to be alike."""
    weight, usual = (f"optimizer.{len(slots) - 1}.{i}" for i in range(2))
    if not isinstance(kind, tuple) or kind[0] is not Accumulate or weight in tensors or not slots[-1]:
        return tensors
    size = (said["data"] or [None, None])[1] or 1
    gathered = np.asarray(said["optimizer_step"] % kind[1] * size, dtype)
    sums = {path: t * size for path, t in tensors.items() if path.startswith("optimizer.0.")}
    return tensors | sums | {weight: gathered, usual: gathered}


def _remembering(trainer: Trainer) -> list[tuple[Callback, dict[str, Any]]]:
    """The callbacks that have something to remember of the call of `fit` under way, and what."""
    states = [(callback, callback.state()) for callback in trainer.callbacks]
    return [(callback, state) for callback, state in states if state is not None and trainer.within_fit]


def _restore_callbacks(trainer: Trainer, said: Any, tensors: dict[str, Array]) -> None:
    ours = [callback for callback in trainer.callbacks if callback.state() is not None]
    names, own = [str(name) for name, _ in said], [type(callback).__name__ for callback in ours]
    if names != own:
        raise _Other(f"the checkpoint has the state of the callbacks {names}; the trainer has {own}")
    for i, (callback, (_, values)) in enumerate(zip(ours, said, strict=True)):
        prefix = f"callbacks.{i}."
        callback.restore(
            trainer, values, {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        )
    unknown = [key for key in tensors if key.split(".")[1] not in map(str, range(len(ours)))]
    if unknown:
        raise ShapeError(f"not expected in the tree: {', '.join(sorted(unknown))}")


def _kind_name(kind: object) -> str:
    """What `Optimizer.kind` is called in a file."""
    if isinstance(kind, tuple):
        return f"({', '.join(map(_kind_name, kind))})"
    return kind.__name__ if isinstance(kind, type) else repr(kind)


def _progress(said: Any) -> Progress:
    progress = read_fields(Progress, said)
    for field in dataclasses.fields(progress):
        if field.type == "int":
            check_count_of(getattr(progress, field.name))
    if progress.skipped > progress.batches or progress.skipped_examples > progress.examples:
        raise DataError("it has skipped more than there was")
    if progress.batches and not 0 < progress.seconds < math.inf:
        raise DataError(f"{progress.batches} batches in {progress.seconds} seconds")
    return progress


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise DataError(f"{value!r} is no number")
    return float(value)
