"""Compare portnn's estimators with scikit-learn's: scores on small data sets, and the time of a fit on MNIST.

    python benchmarks/compare_sklearn.py
    python benchmarks/compare_sklearn.py --mnist --epochs 3 --json comparison.json

Both get the same parameters, folds and random states. Scores are accuracies, or R^2 for diabetes, on the folds left
out; what should be told from chance is measured by the standard error of portnn's five. With --mnist both also fit
(512, 512) hidden units to all of MNIST, in turn, in the float type of --dtype; the first call of each is left out,
for what it loads and compiles. --device moves portnn's part.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

from shared import Parser, add_device_arguments, add_seed_argument, check_writable, run, write_json

import portnn
from portnn.data import load_mnist
from portnn.environment import describe

TASKS = {
    "digits": ("load_digits", "MLPClassifier"),
    "iris": ("load_iris", "MLPClassifier"),
    "breast cancer": ("load_breast_cancer", "MLPClassifier"),
    "wine": ("load_wine", "MLPClassifier"),
    "diabetes": ("load_diabetes", "MLPRegressor"),
}


def compare_scores(device: str, seed: int) -> dict[str, dict[str, float]]:
    """Mean scores over five folds, and the standard error of portnn's."""
    from sklearn import datasets, neural_network
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    results = {}
    print(f"{'':<14}{'scikit-learn':>14}{'portnn':>14}{'standard error':>16}")
    for task, (loader, name) in TASKS.items():
        x, y = getattr(datasets, loader)(return_X_y=True)
        scores = []
        for module, options in ((neural_network, {}), (portnn, {"device": device})):
            model: Any = make_pipeline(StandardScaler(), getattr(module, name)(random_state=seed, **options))
            if name == "MLPRegressor":
                model = TransformedTargetRegressor(model, transformer=StandardScaler())
            folds = (KFold if name == "MLPRegressor" else StratifiedKFold)(5, shuffle=True, random_state=seed)
            scores.append(cross_val_score(model, x, y, cv=folds, error_score="raise"))
        theirs, ours = (float(s.mean()) for s in scores)
        error = float(scores[1].std(ddof=1) / 5**0.5)
        results[task] = {"scikit-learn": theirs, "portnn": ours, "standard error": error}
        print(f"{task:<14}{theirs:>14.4f}{ours:>14.4f}{error:>16.4f}", flush=True)
    return results


def compare_times(args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each fit on MNIST."""
    from sklearn import neural_network

    data = load_mnist(args.data_dir)
    x = (data.x_train.reshape(-1, 784) / 255.0).astype(args.dtype)
    settings = {"max_iter": args.epochs, "random_state": args.seed}
    makers: dict[str, Any] = {
        "scikit-learn": lambda: neural_network.MLPClassifier((512, 512), **settings),
        "portnn": lambda: portnn.MLPClassifier((512, 512), **settings, device=args.backend or args.device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for make in makers.values():
        make().set_params(max_iter=1).fit(x[:2000], data.y_train[:2000])
    for _ in range(args.rounds):
        for name, make in makers.items():
            begin = time.perf_counter()
            model = make().fit(x, data.y_train)
            seconds[name].append(time.perf_counter() - begin)
            print(f"{name:<13} {seconds[name][-1]:.2f} s, loss {model.loss_:.6f}", flush=True)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"MNIST, {args.epochs} epochs, {args.dtype}: {middle['portnn']:.2f} s against {middle['scikit-learn']:.2f} s, "
        f"ratio {middle['portnn'] / middle['scikit-learn']:.2f}"
    )
    return seconds


def main() -> None:
    parser = Parser(__doc__)
    add_device_arguments(parser)
    add_seed_argument(parser, "of folds and networks", bits=32)  # as scikit-learn takes them
    parser.add_argument("--mnist", action="store_true", help="compare the time of a fit on MNIST, too")
    parser.add_path("--data-dir", help="folder with the files of MNIST (default: $PORTNN_DATA_DIR)")
    parser.add_count("--epochs", default=2, help="of each fit on MNIST (default: 2)")
    parser.add_count("--rounds", default=3, help="fits of each on MNIST (default: 3)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="default: float32")
    parser.add_path("--json", metavar="FILE", help="write what was measured, and the environment")
    args = parser.parse_args()
    check_writable(args.json)
    device = args.backend or args.device
    portnn.get_backend(device)  # before any work, not after it
    if args.mnist:
        load_mnist(args.data_dir)

    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)  # of both alike
    report: dict[str, Any] = {"config": vars(args), "scores": compare_scores(device, args.seed)}
    if args.mnist:
        report["seconds"] = compare_times(args)
    if args.json:
        write_json(args.json, report | {"environment": describe(portnn.get_backend(device))})


if __name__ == "__main__":
    run(main)
