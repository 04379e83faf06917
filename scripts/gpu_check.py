"""For a person with a GPU: does everything hold here that is promised? One page, and an exit code.

    python scripts/gpu_check.py --json gpu.json
    python scripts/gpu_check.py --device cupy:1 --checks kernels curve
    python scripts/gpu_check.py --device torch --batch-sizes 32 --models small

The checks, of which each can be asked for alone:

    tests       the test suite, on this device only
    kernels     of that suite: every kernel of this device gives what the portable form gives
    curve       same seed, same curve: against the CPU, with benchmarks/compare_backends.py
    compiled    a step that the backend compiles gives the curve of one that it does not
    precision   products in TF32 are rounded as they should be, and products in float32 are not
    memory      a batch that does not fit is met with a sentence
    mnist       a convolutional network learns 99 % of the test images in three epochs, from six seeds
    bandwidth   functions that wait for memory alone reach half of the bandwidth of a copy, or more
    filled      where the memory of the GPU is used up, every function is right or ends with a sentence
    speed       microseconds a step beside torch and JAX on the same GPU, each run a process of its own, in turn
    comparison  speed against the CPU, with benchmarks/compare_devices.py

Without --checks it does all but the tests, the kernels and the comparison, which take longer, within --seconds: less
than four minutes on a fresh machine. It needs no data, but for MNIST, which is fetched or left out; speed is measured
on noise.

Exit code 0 if all held, 1 if not, 2 if the device cannot be used. It works on every device that portnn knows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Parser, add_data_arguments, check_writable, run, write_json
from curve import Watch
from finding import Finding, TimeBudget
from gpu_bandwidth import measure_bandwidth
from gpu_speed import measure_speed
from gpu_trials import fill_memory, train_mnist
from models import RECIPES, bn_dropout

from portnn import Network, Trainer, get_backend, losses, nn, optim
from portnn.backend import Backend, first_line
from portnn.environment import backend_table, describe
from portnn.errors import DeviceMemoryError
from portnn.loop import Loop
from portnn.random import Stream

ROOT = Path(__file__).parent.parent


class Check:
    """The checks of one device. Each method is one of them."""

    def __init__(self, device: str, args: argparse.Namespace) -> None:
        self.device, self.backend, self._args = device, get_backend(device), args
        self.budget = TimeBudget(args.seconds)
        self._cases: list[tuple[str, str]] | None = None

    # ---- the suite

    def tests(self) -> Finding:
        cases = self._tested()
        counts = {outcome: sum(o == outcome for _, o in cases) for outcome in ("passed", "failed", "skipped")}
        failed = [name for name, outcome in cases if outcome == "failed"]
        line = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        held = counts["passed"] > 0 and not failed
        return Finding(held, line if held else f"{line}: {' '.join(failed[:5])}", counts | {"failures": failed})

    def kernels(self) -> Finding:
        outcomes: dict[str, list[str]] = {name: [] for name in self.backend.kernels()}
        for test, outcome in self._tested():
            parameters = test.partition("[")[2].rstrip("]").split("-")
            if "test_kernels" in test and self.lane in parameters:
                for name in outcomes.keys() & set(parameters):
                    outcomes[name].append(outcome)
        bad = [name for name, seen in outcomes.items() if "passed" not in seen or "failed" in seen]
        if not outcomes:
            return Finding(True, "the device has no kernels of its own", {})
        line = f"{len(outcomes) - len(bad)} of {len(outcomes)} give what the portable forms give"
        return Finding(not bad, f"{line}; not {', '.join(bad)}" if bad else line, {"kernels": outcomes})

    @property
    def lane(self) -> str:
        """The name of the device in the tests."""
        return ":".join([self.backend.name, *self.device.split(":")[1:]])

    def _tested(self) -> list[tuple[str, str]]:
        """Every test with its outcome. The suite runs once for all checks."""
        if self._cases is None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "tests.xml"
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}"]
                done = _ran([*command, *self._args.tests], PORTNN_LANES=self.lane)
                self._cases = _outcomes(file) if file.exists() else []
            if not self._cases:
                self._cases = [(f"pytest: {(done.stderr or done.stdout).strip()[-300:]}", "failed")]
        return self._cases

    # ---- results

    def curve(self) -> Finding:
        command = [sys.executable, "benchmarks/compare_backends.py", "--backends", "numpy", self.lane]
        data = ["--data", "noise"] if self._args.data == "auto" and not self._args.data_dir else self._data()
        done = _ran([*command, "--steps", str(self._args.steps), *data])
        lines = done.stdout.splitlines()
        line = lines[-1] if lines and not done.stderr else done.stderr.strip()[-300:]
        return Finding(done.returncode == 0, f"{self._args.steps} steps: {line}", {"output": lines})

    def compiled(self) -> Finding:
        curves, note, graphs = [], None, None
        for compiled in (True, False):
            backend = get_backend(self.device)
            if not compiled:
                backend.compile = lambda step: step  # type: ignore[method-assign]
                backend.loop = lambda *steps, b=backend: Loop(b, steps)  # type: ignore[method-assign]
            net = Network(bn_dropout([64, 64], 10), (8, 8), device=backend, rng=0)
            watch = Watch(30)
            trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=[watch], rng=0)
            x, y = Stream(1).uniform((200, 8, 8)), Stream(2).permutation(200) % 10
            trainer.fit(x, y, epochs=5, batch_size=32)
            curves.append(np.asarray(watch.losses[:30]))
            if compiled:
                loop = trainer.stepper.loop
                note, graphs = getattr(loop, "reason", None), getattr(loop, "graphs", None)
        apart = float(np.max(np.abs(curves[0] - curves[1])))
        line = f"{len(curves[0])} steps, " + ("equal bits" if apart == 0.0 else f"losses differ by up to {apart:.1e}")
        line += "" if graphs is None else f", {graphs} graphs"
        line += f"; not compiled: {note}" if note else ""
        return Finding(apart <= 1e-4 and note is None, line, {"difference": apart, "reason": note, "graphs": graphs})

    def precision(self) -> Finding:
        exact = self._product_error(self.backend)
        reason = self.backend.without_tf32()
        line = f"relative error {exact:.0e} in float32"
        if reason is not None:
            return Finding(exact < 1e-5, f"{line}; no TF32: {reason}", {"float32": exact})
        rounded = self._product_error(self.backend.with_precision("tf32"))
        held = exact < 1e-5 < rounded < 1e-2
        return Finding(held, f"{line}, {rounded:.0e} in TF32", {"float32": exact, "tf32": rounded})

    @staticmethod
    def _product_error(backend: Backend) -> float:
        a, b = (Stream(seed).normal((512, 512)).astype(np.float32) for seed in (0, 1))
        with backend.context():
            made = backend.to_numpy(backend.asarray(a) @ backend.asarray(b))
        expected = a.astype(np.float64) @ b.astype(np.float64)
        return float(np.max(np.abs(made - expected)) / np.max(np.abs(expected)))

    def memory(self) -> Finding:
        total = self.backend.memory().total
        if total is None:
            return Finding(True, "not looked at: the device does not tell how much it has", {})
        rows = 2**16
        net = Network(nn.Affine(2 * total // 4 // rows), 1, device=self.device, rng=0)
        try:
            net.predict(np.zeros((rows, 1), np.float32), batch_size=rows)
        except DeviceMemoryError as error:
            return Finding(
                f"{rows:,}" in str(error), "a batch that does not fit is met with a sentence", {"says": str(error)}
            )
        return Finding(False, f"an array of {2 * total:,} bytes was made on a device of {total:,}", {})

    # ---- speed

    def comparison(self) -> Finding:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "devices.json"
            command = [
                sys.executable,
                "benchmarks/compare_devices.py",
                "--devices",
                "cpu",
                self.device,
                "--json",
                str(file),
            ]
            command += ["--models", *self._args.models, "--batch-sizes", *self._args.batch_sizes, *self._data()]
            command += ["--peers"] if self._args.peers else []
            done = _ran(command)
            if not file.exists():
                return Finding(False, (done.stderr or done.stdout).strip()[-300:], {})
            found = json.loads(file.read_text(encoding="utf-8"))
        runs = [row for row in found["runs"] if row["name"] == self.device]
        missing = [f"{name}: {why}" for name, why in found["left_out"].items() if name.startswith(self.device)]
        if not runs or missing:
            return Finding(False, "; ".join(missing) or "no run ended well", found)
        best = max(runs, key=lambda row: float(row["speed_up"]))
        fastest = max(runs, key=lambda row: float(row["of_ceiling"]))
        line = (
            f"up to {best['speed_up']:.1f} times the CPU ({best['model']}, batch {best['batch_size']}), "
            f"{fastest['of_ceiling']:.0%} of the ceiling ({fastest['model']}, batch {fastest['batch_size']})"
        )
        return Finding(True, line, found)

    def speed(self) -> Finding:
        return measure_speed(self.device, self.backend, self.budget)

    # ---- data, and memory

    def mnist(self) -> Finding:
        if self._args.data == "digits":
            return Finding(True, "not looked at: the digits were asked for", {})
        return train_mnist(self.backend, self._args.data_dir, self.budget)

    def bandwidth(self) -> Finding:
        return measure_bandwidth(self.backend)

    def filled(self) -> Finding:
        return fill_memory(self.backend, self._args.fills, self.budget)

    def _data(self) -> list[str]:
        folder = ["--data-dir", self._args.data_dir] if self._args.data_dir else []
        return ["--data", self._args.data, *folder]


_LONG = ("tests", "kernels", "comparison")
_QUICK = ("curve", "compiled", "precision", "memory", "bandwidth", "mnist", "filled", "speed")
CHECKS: dict[str, Callable[[Check], Finding]] = {name: getattr(Check, name) for name in (*_LONG, *_QUICK)}


def _ran(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def _outcomes(file: Path) -> list[tuple[str, str]]:
    """The tests in a report in JUnit's format, each with passed, failed or skipped."""
    found = []
    for case in ElementTree.parse(file).iter("testcase"):
        kinds = {part.tag for part in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found.append((f"{case.get('classname')}::{case.get('name')}", outcome))
    return found


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--device", default="gpu", help="any device that portnn knows (default: gpu)")
    parser.add_argument(
        "--checks",
        nargs="+",
        choices=CHECKS,
        default=_QUICK,
        help=f"default: all but {' '.join(_LONG)}",
    )
    parser.add_argument("--tests", nargs="+", default=["tests"], help="what of the suite (default: all)")
    parser.add_count("--steps", default=100, help="whose losses are compared (default: 100)")
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=["small", "mlp", "cnn"])
    parser.add_argument("--batch-sizes", nargs="+", default=["128"], metavar="SIZE", help="default: 128")
    parser.add_count(
        "--seconds", default=220, help="no run of mnist, filled or speed begins that would end later (default: 220)"
    )
    parser.add_count("--fills", default=4, help="fresh processes whose memory is filled, as time allows (default: 4)")
    parser.add_argument("--peers", action="store_true", help="measure torch and JAX on the same device, too")
    add_data_arguments(parser)
    parser.add_path("--json", metavar="FILE", help="write everything that was found")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_writable(args.json)
    check = Check(args.device, args)
    environment = describe(check.backend)
    print(f"{backend_table()}\n\n{args.device}: {environment['device']}\n", flush=True)
    results: dict[str, dict[str, Any]] = {}
    for name in args.checks:
        begin = time.perf_counter()
        try:
            finding = CHECKS[name](check)
        except Exception as error:  # whatever a device comes up with: the other checks go on
            finding = Finding(False, first_line(error), {"traceback": traceback.format_exc()})
        seconds = time.perf_counter() - begin
        results[name] = {"held": finding.held, "line": finding.line, "seconds": seconds, **finding.more}
        print(f"{'held' if finding.held else 'FAILED':<7} {name:<11} {finding.line} ({seconds:.0f} s)", flush=True)
    held = sum(result["held"] for result in results.values())
    print(f"{held} of {len(results)} checks held on {args.device}, {environment['device']}")
    if args.json:
        content = {"device": args.device, "held": held == len(results), "checks": results, "environment": environment}
        write_json(args.json, content)
        print(f"wrote {args.json}")
    return 0 if held == len(results) else 1


if __name__ == "__main__":
    run(main)
