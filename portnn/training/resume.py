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
from typing import Any

import numpy as np

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_number
from portnn.errors import BackendError, ConfigError, DataError, DivergenceError, ModelFileError, PortnnError, ShapeError
from portnn.nn.network import Network
from portnn.optim import Accumulate, Optimizer
from portnn.random import Stream
from portnn.scale import TrainedOn
from portnn.storage import local, rebuild, write_tensors
from portnn.training.callback import CallbackList
from portnn.training.checkpoint import whole_before
from portnn.training.divergence import advice
from portnn.training.epochs import settled
from portnn.training.history import History
from portnn.training.progress import Progress
from portnn.training.recipe import Recipe
from portnn.training.records import as_plain, check_count_of, read_fields, tidy, write_fields
from portnn.training.run import Run
from portnn.training.stepper import Stepper

__all__ = ["load_training", "save_training"]

_VERSION = 1

#: What reading a description can raise that does not say what it should.
_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, PortnnError)


class _Other(Exception):
    """The file is whole, and of another network, optimizer or list of callbacks."""


def save_training(recipe: Recipe, stepper: Stepper, callbacks: CallbackList, path: str | os.PathLike[str]) -> None:
    """See `Trainer.save`."""
    with recipe.network.trees.turn():
        tensors, metadata = _gathered(recipe, stepper, callbacks)
    write_tensors(path, tensors, metadata)
    stepper.run.last_checkpoint = local(path)


def _gathered(recipe: Recipe, stepper: Stepper, callbacks: CallbackList) -> tuple[dict[str, Array], dict[str, str]]:
    """All arrays, in memory of their own on the host, and the description, while no step is under way."""
    net, run = recipe.network, stepper.run
    for record in run.history.records:
        tidy(record)
    tensors, metadata = net.to_tensors()
    kind, slots = stepper.remembered() if isinstance(recipe.optimizer, Optimizer) else (None, ())
    tensors |= tree.flatten(tree.map(net.backend.to_numpy, {"optimizer": slots}))
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise DivergenceError(
                f"{name} is not finite after step {run.step}, so no checkpoint is written: {advice(recipe, run)}"
            )
    remembering = []
    for i, (callback, values) in enumerate(callbacks.states() if run.within_fit else []):
        name = type(callback).__name__
        remembering.append([name, as_plain(values, f"{name}.state()")])
        arrays = tree.flatten(tree.map(lambda a: np.array(net.backend.to_numpy(a)), callback.arrays()))
        tensors |= {f"callbacks.{i}.{path}": array for path, array in arrays.items()}
    training = {
        "version": _VERSION,
        "epoch": run.epoch,
        "step": run.step,
        "within_fit": run.within_fit,
        "progress": write_fields(settled(recipe, stepper)),
        "data": run.data_shape,
        "rng": [recipe.rng.seed, recipe.rng.step, recipe.rng.path],
        "lr_factor": check_number("lr_factor", run.lr_factor, -math.inf, open_low=True),
        "optimizer": None if kind is None else _kind_name(kind),
        "optimizer_step": run.optimizer_step,
        "callbacks": remembering,
        "history": write_fields(copy.copy(run.history)),
    }
    if stepper.choices:
        training["choices"] = stepper.choices
    return tensors, metadata | {"training": json.dumps(as_plain(training, "the trainer"))}


@dataclasses.dataclass
class _Read:
    """What a file says, on the device and checked; only callbacks have been changed after it."""

    params: Tree
    state: Tree
    trained_on: TrainedOn | None
    run: Run
    rng: Stream
    kind: object
    slots: tuple[Tree, ...]
    choices: dict[str, Any]


def load_training(recipe: Recipe, stepper: Stepper, callbacks: CallbackList, path: str | os.PathLike[str]) -> Stream:
    """See `Trainer.load`; the source of random numbers."""
    name = local(path)
    try:
        read = _read(recipe, callbacks, name)
    except ModelFileError as error:
        whole = whole_before(path)
        if whole is None:
            raise
        raise ModelFileError(f"{error}; the latest whole checkpoint before it is {whole}") from None
    recipe.network.trained_on = read.trained_on
    recipe.network.trees.take(read.params, read.state)
    stepper.remember(read.kind, read.slots, read.choices)
    run = stepper.run
    vars(run).update(vars(read.run), columns=run.columns, within_fit=run.within_fit)
    return read.rng


def _read(recipe: Recipe, callbacks: CallbackList, name: str) -> _Read:
    tensors, metadata = Network.read(name)
    if "training" not in metadata:
        raise ModelFileError(f"{name} holds a network, but no training to go on with: Network.load reads it")
    try:
        return _checked(recipe, callbacks, name, tensors, metadata)
    except BackendError:  # not the fault of the file
        raise
    except _Other as error:
        raise ConfigError(str(error)) from None
    except _DAMAGE as error:
        raise ModelFileError(f"{name} does not fit its own description: {error}") from None


def _checked(
    recipe: Recipe, callbacks: CallbackList, name: str, tensors: dict[str, Array], metadata: dict[str, str]
) -> _Read:
    net, said = recipe.network, json.loads(metadata["training"])
    if said["version"] != _VERSION:
        raise DataError(f"the version of its training part is {said['version']}; this portnn reads {_VERSION}")
    _, own = net.to_tensors()
    for key in ("layer", "input_shape", "dtype"):
        if metadata[key] != own[key]:
            raise _Other(f"the checkpoint's network has {key} {metadata[key]}; the trainer's has {own[key]}")
    kind, slots = _slots(recipe, said["optimizer"])
    in_callbacks = {key: t for key, t in tensors.items() if key.startswith("callbacks.")}
    tensors = _with_weights_of_pieces(tensors, kind, slots, said, net.dtype)
    like = {"params": net.params, "state": net.state} | ({} if kind is None else {"optimizer": slots})
    host = rebuild(like, {key: t for key, t in tensors.items() if key not in in_callbacks}, net.dtype)
    here = net.to_device(host)
    seed, step, path = said["rng"]
    run = Run(
        epoch=check_count_of(said["epoch"]),
        step=check_count_of(said["step"]),
        optimizer_step=check_count_of(said["optimizer_step"]),
        lr_factor=_number(said["lr_factor"]),
        resuming=said["within_fit"] is True,
        data_shape=None if said["data"] is None else [None if n is None else check_count_of(n) for n in said["data"]],
        last_checkpoint=name,
        progress=_progress(said["progress"]),
        history=read_fields(History, said["history"]),
    )
    choices = said.get("choices", {})
    if not isinstance(choices, dict):
        raise DataError(f"the choices of its training are {choices!r}")
    rng, trained_on = Stream(seed, check_count_of(step), tuple(path)), Network.trained_on_in(metadata)
    if run.resuming:
        _restore_callbacks(callbacks, said["callbacks"], in_callbacks)
    return _Read(here["params"], here["state"], trained_on, run, rng, kind, here.get("optimizer", ()), choices)


def _slots(recipe: Recipe, name: str | None) -> tuple[object, tuple[Tree, ...]]:
    """The kind of a file's slots, and some of their structure; (None, ()) where there are none."""
    optimizer = recipe.optimizer
    if name is None or not isinstance(optimizer, Optimizer):
        return None, ()
    own = _kind_name(optimizer.kind)
    if name != own:
        raise _Other(f"the checkpoint's optimizer is {name}; the trainer's is {own}")
    return optimizer.kind, optimizer.slots(recipe.network.params)


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


def _restore_callbacks(callbacks: CallbackList, said: Any, tensors: dict[str, Array]) -> None:
    ours = [callback for callback, _ in callbacks.states()]
    names, own = [str(name) for name, _ in said], [type(callback).__name__ for callback in ours]
    if names != own:
        raise _Other(f"the checkpoint has the state of the callbacks {names}; the trainer has {own}")
    for i, (callback, (_, values)) in enumerate(zip(ours, said, strict=True)):
        prefix = f"callbacks.{i}."
        arrays = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        callback.restore(callbacks.training, values, arrays)
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
