"""Which iris is it? The accuracy of a small network over five folds, and over which species it errs.

    python scripts/train_iris.py
    python scripts/train_iris.py --backend torch --data-dir path/to/data

The flowers are those that scikit-learn bundles; with --data-dir they are read from UCI's iris.data there: four sizes in
cm and the species on each line, without a header. scripts/lectures/iris.py draws what such a network learns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import run
from tables import as_float32, find_file, parser

from portnn import MLPClassifier
from portnn.errors import DataError


def load(data_dir: str | None) -> tuple[Any, Any]:
    """Sizes in cm, shape (n, 4), and the names of the species, shape (n,)."""
    if data_dir is None:
        from sklearn.datasets import load_iris

        bunch = load_iris()
        return bunch.data, bunch.target_names[bunch.target]
    path = find_file(data_dir, "iris", ["iris.data"])
    rows = [line.split(",") for line in Path(path).read_text().splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 5:
            raise DataError(f"{path}: row {number} has {len(row)} columns, and not four sizes and a species")
    try:
        sizes = np.asarray([row[:4] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a size is no number: {error}") from None
    species = np.asarray([row[4].strip() for row in rows])
    if len(rows) == 0 or np.unique(species, return_counts=True)[1].min() < 5:
        raise DataError(f"{path} has fewer than five flowers of a species, and five folds are to be made")
    return sizes, species


def main() -> None:
    args = parser(__doc__, "iris.data").parse_args()
    x, y = load(args.data_dir)

    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    network = MLPClassifier(
        (8,),
        "tanh",
        solver="lbfgs",
        alpha=1.0,
        max_iter=500,
        device=args.backend or args.device,
        random_state=args.seed,
    )
    model = make_pipeline(StandardScaler(), FunctionTransformer(as_float32), network)
    folds = StratifiedKFold(5, shuffle=True, random_state=args.seed)
    predicted = cross_val_predict(model, x, y, cv=folds)
    names = np.unique(y)
    width = max(map(len, names))
    print(f"{len(y)} flowers, each predicted by a network that was trained without it")
    print(f"{'':<{width}}  " + "  ".join(names) + "   <- predicted")
    for name, row in zip(names, confusion_matrix(y, predicted, labels=names), strict=True):
        print(f"{name:<{width}}  " + "  ".join(f"{n:>{len(other)}}" for other, n in zip(names, row, strict=True)))
    print(f"mean accuracy {np.mean(predicted == y):.1%}")


if __name__ == "__main__":
    run(main)
