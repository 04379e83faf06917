"""Kill a training process at random moments, resume it each time, and compare with the run left alone, bit for bit.

    python scripts/kill_and_resume.py --kills 50
    python scripts/kill_and_resume.py --kills 5 --backend torch

The run has dropout, noise, batch normalisation, augmentation, Adam with a schedule, early stopping and a rate that
falls on a plateau. It saves so often that a good part of the kills falls into the writing of a file. After each kill,
every checkpoint that is there must be whole. A run that comes to its end between two kills is compared, and
another one begins.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Parser, add_device_arguments, add_seed_argument, run

from portnn import Network, Trainer, get_backend, losses, metrics, nn, optim
from portnn.data.augmentation import Shift
from portnn.errors import PortnnError
from portnn.random import Stream
from portnn.storage import read_tensors
from portnn.training import (
    Checkpoint,
    EarlyStopping,
    JSONLinesLog,
    ReduceOnPlateau,
    checkpoints,
    latest_checkpoint,
)

EPOCHS, BATCH, EXAMPLES = 30, 16, 200
READY = "ready"
#: What the process gives that was killed; on Windows it is 1.
KILLED = -getattr(signal, "SIGKILL", -1)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_device_arguments(parser)
    parser.add_count("--kills", default=50, help="default: 50")
    add_seed_argument(parser, "of the moments of the kills")
    parser.add_path("--child", metavar="DIR", help="be the process that is killed")
    return parser.parse_args()


def train(folder: Path, device: str) -> None:
    """Train, or go on training, in a folder; write the result there."""
    x = Stream(1).uniform((EXAMPLES, 8, 8, 1)).astype("float32")
    y = (Stream(2).uniform((EXAMPLES,)) * 4).astype("int64")
    layer = nn.Sequential(
        [
            *(nn.Flatten(), nn.Affine(1024), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.GaussianNoise(0.1), nn.Affine(64), nn.Tanh(), nn.Affine(4)),
        ]
    )
    steps = EPOCHS * -(-EXAMPLES // BATCH)
    trainer = Trainer(
        Network(layer, (8, 8, 1), device=device, rng=0),
        losses.SoftmaxCrossEntropy(),
        optim.Adam(lr=optim.schedules.OneCycle(0.01, steps)),
        metrics={"accuracy": metrics.accuracy},
        callbacks=[
            ReduceOnPlateau("loss", patience=3, factor=0.7),
            EarlyStopping("val_accuracy", larger_is_better=True, patience=EPOCHS // 2),
            JSONLinesLog(folder / "log.jsonl"),
            Checkpoint(folder, steps=2, keep=2, resume=True),
        ],
        augment=Shift(1),
        rng=0,
    )
    path = latest_checkpoint(folder)
    if path is not None:
        trainer.load(path)
    print(READY, flush=True)
    trainer.fit(x, y, epochs=EPOCHS - trainer.epoch, batch_size=BATCH, validation_data=(x[::2], y[::2]))
    trainer.save(folder / "final.safetensors")


class Child:
    """The process that trains in a folder."""

    def __init__(self, folder: Path, device: str) -> None:
        command = [sys.executable, __file__, "--backend", device, "--child", str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            raise PortnnError(f"the process in {folder} ended before its training, with {self._process.wait()}")

    def ended(self, within: float | None = None) -> bool:
        """Whether the process comes to its end within some seconds (None: wait for it)."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        if code != 0:
            raise PortnnError(f"the process failed, with {code}")
        return True

    def kill(self) -> bool:
        """Kill it, as by SIGKILL; False if it had ended just before."""
        self._process.kill()
        return self._process.wait() == KILLED


def result(folder: Path) -> dict[str, Any]:
    """All that a run leaves, but for its times: arrays as bytes, and the rest as JSON has it."""
    tensors, metadata = read_tensors(folder / "final.safetensors")
    training = json.loads(metadata.pop("training"))
    for record in training["history"]["records"]:
        del record["seconds"], record["samples_per_second"]
    arrays: dict[str, Any] = {name: array.tobytes() for name, array in tensors.items()}
    return arrays | metadata | {"training": training}


def check_folder_is_sound(folder: Path) -> bool:
    """Read every checkpoint and line of the log; whether the kill fell into the writing of a file."""
    for path in checkpoints(folder):
        Network.load(path)
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)
    return any(folder.glob(".portnn-*.tmp"))


def main() -> int:
    args = parse_arguments()
    device = str(get_backend(args.backend or args.device))
    if args.child:
        train(Path(args.child), device)
        return 0
    kills, moments = args.kills, random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / "alone"
        alone.mkdir()
        begin = time.perf_counter()
        Child(alone, device).ended()
        seconds = time.perf_counter() - begin
        expected = result(alone)
        epochs, steps = expected["training"]["epoch"], expected["training"]["step"]
        print(f"left alone: {epochs} epochs, {steps} steps, on {device}, {seconds:.1f} s", flush=True)
        done = writing = runs = 0
        differing: list[str] = []
        while done < kills or runs == 0:
            folder = Path(place) / f"run-{runs}"
            folder.mkdir()
            killed_here = 0
            while True:
                child = Child(folder, device)
                if child.ended(moments.uniform(0, seconds / 8) if done < kills else None):
                    break
                if not child.kill():
                    break
                done, killed_here = done + 1, killed_here + 1
                writing += check_folder_is_sound(folder)
            found = result(folder)
            differing += [key for key in expected if found.get(key) != expected[key]]
            differing += [key for key in found if key not in expected]
            runs += 1
            print(f"run {runs}: {killed_here} kills, {'DIFFERS' if differing else 'equal bit for bit'}", flush=True)
            if differing:
                print(f"different: {', '.join(differing)}")
                return 1
    print(f"{done} kills, {writing} of them while a file was written; {runs} runs, all equal to the one left alone")
    return 0


if __name__ == "__main__":
    run(main)
