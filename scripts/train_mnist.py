"""Train a classifier of handwritten digits.

    python scripts/train_mnist.py --device cpu --epochs 5 --seed 0
    python scripts/train_mnist.py --device gpu --hidden 1024 1024 --save model.safetensors
    python scripts/train_mnist.py --model cnn --plots pictures
    python scripts/train_mnist.py --model cnn-best --augment
    python scripts/train_mnist.py --backend torch --data mnist --data-dir path/to/data
    python scripts/train_mnist.py --checkpoint run --resume --log run.jsonl

Each model has a recipe of its own: epochs, batch size, optimizer and learning rate, which the options override.
Ctrl-C or SIGTERM ends the run after the current step, a second one at once; the network trained so far is saved where
--save asks for it, and the state of the run where --checkpoint does.
"""

from __future__ import annotations

import argparse
import math
import time

import mnist_plots
from common import (
    Parser,
    add_checkpoint_arguments,
    add_data_arguments,
    add_device_arguments,
    add_precision_argument,
    add_seed_argument,
    check_writable,
    go_on,
    load_images,
    logs_of,
    run,
    write_json,
)
from models import OPTIMIZERS, RECIPES, augmentation
from time_left import TimeLeft

from portnn import Network, Trainer, get_backend, metrics
from portnn.checks import check_batch_size, check_count
from portnn.environment import describe
from portnn.training import Callback, ProgressBar, Training, stop_on_signals


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_device_arguments(parser)
    add_precision_argument(parser)
    parser.add_argument("--model", choices=RECIPES, default="mlp", help="default: mlp")
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="*",
        metavar="UNITS",
        help=f"of the hidden affine layers; default: {_of_recipes('hidden')}",
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, help="default: the recipe's")
    parser.add_argument(
        "--lr", type=float, help="largest learning rate (default: the recipe's, or the optimizer's own)"
    )
    parser.add_count("--epochs", help=f"default: {_of_recipes('epochs')}")
    parser.add_count("--batch-size", help=f"default: {_of_recipes('batch_size')}")
    parser.add_argument("--augment", action="store_true", help="shift, turn and zoom the training images at random")
    add_seed_argument(parser, "of parameters and batch order, on every backend alike")
    add_data_arguments(parser)
    parser.add_path("--save", metavar="FILE", help="write the trained network (safetensors)")
    parser.add_path("--json", metavar="FILE", help="write configuration, curves and environment")
    add_checkpoint_arguments(parser)
    parser.add_path("--plots", metavar="DIR", help="draw wrongly classified digits, filters and a confusion matrix")
    args = parser.parse_args()
    for name in ("hidden", "optimizer", "epochs", "batch_size"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(RECIPES[args.model], name))
    return args


def _of_recipes(field: str) -> str:
    """The values that the recipes have for a field, such as ``mlp 5, cnn 3``."""
    values = {model: getattr(recipe, field) for model, recipe in RECIPES.items()}
    return ", ".join(f"{model} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for model, v in values.items())


class EpochLines(Callback):
    """One line of text an epoch, with an estimate of the time that is left."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        self._left = TimeLeft()

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        print(
            f"epoch {record['epoch']:.0f}/{self.epochs}  train loss {record['loss']:.4f}  "
            f"test accuracy {record['val_accuracy']:.2%}  {record['samples_per_second']:,.0f} samples/s  "
            f"{record['seconds']:.2f} s{self._left.after_part(self.epochs - trainer.epoch)}",
            flush=True,
        )


def main() -> int:
    args = parse_arguments()
    for path in (args.save, args.json):
        check_writable(path)
    logs = logs_of(args)
    if args.plots:
        mnist_plots.check(args.plots)
    backend = get_backend(args.backend or args.device, args.precision)
    recipe = RECIPES[args.model]
    data = load_images(args.data, args.data_dir)
    image_shape = data.x_train.shape[1:]
    n = len(data.x_train)
    steps = check_count("epochs", args.epochs) * math.ceil(n / check_batch_size(args.batch_size, n))
    optimizer = recipe.make_optimizer(steps, args.optimizer, args.lr)
    layer = recipe.network(image_shape, data.classes, args.hidden)
    net = Network(layer, image_shape, device=backend, rng=args.seed)
    print(f"{data.name}: {n:,} training and {len(data.x_test):,} test images, on {net.backend}")
    print(net.summary(), flush=True)

    trainer = Trainer(
        net,
        recipe.loss,
        optimizer,
        metrics={"accuracy": metrics.accuracy},
        callbacks=[ProgressBar(), EpochLines(args.epochs), *logs],
        augment=augmentation(image_shape) if args.augment else None,
        rng=args.seed,
    )
    go_on(trainer, args)
    begin = time.perf_counter()
    with stop_on_signals(trainer) as stopped:
        trainer.fit(
            data.x_train,
            data.y_train,
            epochs=max(0, args.epochs - trainer.epoch) if trainer.resuming else args.epochs,
            batch_size=args.batch_size,
            validation_data=(data.x_test, data.y_test),
        )
    seconds, history = time.perf_counter() - begin, trainer.history
    if history.stopped:
        print(f"interrupted in epoch {trainer.epoch + 1}, after {trainer.step} steps", flush=True)
    if args.save:
        net.save(args.save)
        print(f"saved {args.save}", flush=True)
    result = trainer.evaluate(data.x_test, data.y_test)
    if args.json:
        write_json(
            args.json,
            {
                "config": vars(args),
                "data": data.name,
                "optimizer": repr(optimizer),
                "parameters": net.parameter_count,
                "epochs": history.records,
                "stopped": history.stopped,
                "seconds": seconds,
                "test": result,
                "environment": describe(net.backend),
            },
        )
        print(f"wrote {args.json}")
    if args.plots:
        mnist_plots.draw(args.plots, net, data)
    print(f"test accuracy {result['accuracy']:.2%} on {data.name}, after {seconds:.1f} s of training")
    return stopped.exit_code


if __name__ == "__main__":
    run(main)
