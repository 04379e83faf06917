"""Train a classifier of handwritten digits.

    python scripts/train_mnist.py --device cpu --epochs 5 --seed 0
    python scripts/train_mnist.py --device gpu --hidden 1024 1024 --save model.safetensors
    python scripts/train_mnist.py --backend torch --data mnist --data-dir path/to/data

Ctrl-C ends the run after the current step; the network trained so far is saved where --save asks for it.
"""

from __future__ import annotations

import argparse
import signal
import time

from common import INTERRUPTED, add_data_arguments, add_device_arguments, check_writable, load_images, run, write_json

from portnn import Network, Trainer, get_backend, losses, metrics, nn, optim
from portnn.environment import describe
from portnn.training import Callback, ProgressBar

OPTIMIZERS = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "nesterov": optim.Nesterov,
    "adagrad": optim.Adagrad,
    "rmsprop": optim.RMSProp,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_device_arguments(parser)
    parser.add_argument("--model", choices=["mlp"], default="mlp")
    parser.add_argument("--hidden", type=int, nargs="*", default=[512, 512], metavar="UNITS", help="default: 512 512")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="learning rate (default: the optimizer's own)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of parameters and batch order, on every backend alike")
    add_data_arguments(parser)
    parser.add_argument("--save", metavar="FILE", help="write the trained network (safetensors)")
    parser.add_argument("--json", metavar="FILE", help="write configuration, curves and environment")
    return parser.parse_args()


def mlp(hidden: list[int], classes: int, activation: nn.Layer | None = None) -> nn.Layer:
    """Hidden layers with an activation (default ReLU), and one score for each class."""
    layers: list[nn.Layer] = [nn.Flatten()]
    for units in hidden:
        layers += [nn.Affine(units), activation or nn.ReLU()]
    return nn.Sequential([*layers, nn.Affine(classes, weight_init=nn.GlorotNormal())])


class EpochLines(Callback):
    """One line of text an epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        print(
            f"epoch {record['epoch']:.0f}/{self.epochs}  train loss {record['loss']:.4f}  "
            f"test accuracy {record['val_accuracy']:.2%}  {record['samples_per_second']:,.0f} samples/s  "
            f"{record['seconds']:.2f} s",
            flush=True,
        )


def main() -> int:
    args = parse_arguments()
    for path in (args.save, args.json):
        check_writable(path)
    backend = get_backend(args.backend or args.device)
    optimizer = OPTIMIZERS[args.optimizer](**({} if args.lr is None else {"lr": args.lr}))
    data = load_images(args.data, args.data_dir)
    net = Network(mlp(args.hidden, data.classes), data.x_train.shape[1:], device=backend, rng=args.seed)
    print(f"{data.name}: {len(data.x_train):,} training and {len(data.x_test):,} test images, on {net.backend}")
    print(net.summary(), flush=True)

    trainer = Trainer(
        net,
        losses.SoftmaxCrossEntropy(),
        optimizer,
        metrics={"accuracy": metrics.accuracy},
        callbacks=[ProgressBar(), EpochLines(args.epochs)],
        rng=args.seed,
    )
    signal.signal(signal.SIGINT, lambda *_: trainer.stop())
    begin = time.perf_counter()
    history = trainer.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        batch_size=args.batch_size,
        validation_data=(data.x_test, data.y_test),
    )
    seconds = time.perf_counter() - begin
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
    print(f"test accuracy {result['accuracy']:.2%} on {data.name}, after {seconds:.1f} s of training")
    return INTERRUPTED if history.stopped else 0


if __name__ == "__main__":
    run(main)
