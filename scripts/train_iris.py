"""Which iris is it? The accuracy of a small network over five folds, and over which species it errs.

    python scripts/train_iris.py
    python scripts/train_iris.py --backend torch --data-dir path/to/data

The flowers are those that scikit-learn bundles; with --data-dir they are read from UCI's iris.data there: four sizes in
cm and the species on each line, without a header. scripts/lectures/iris.py draws what such a network learns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import run
from tables import as_float32, find_file, number_at, parser, read_rows

from portnn import MLPClassifier
from portnn.data.cells import is_unknown
from portnn.errors import DataError

COLUMNS = ("sepal length", "sepal width", "petal length", "petal width", "species")


def load(data_dir: str | None) -> tuple[Any, Any]:
    """Sizes in cm, shape (n, 4), and the names of the species, shape (n,)."""
    if data_dir is None:
        from sklearn.datasets import load_iris

        bunch = load_iris()
        return bunch.data, bunch.target_names[bunch.target]
    path = find_file(data_dir, "iris", ["iris.data"])
    numbers, rows = read_rows(path, lambda first: len(first) == len(COLUMNS))
    sizes = np.empty((len(rows), 4))
    for i, (number, row) in enumerate(zip(numbers, rows, strict=True)):
        if len(row) != len(COLUMNS):
            raise DataError(f"{path}: row {number} has {len(row)} columns, and not four sizes and a species")
        sizes[i] = [number_at(path, number, column, cell) for column, cell in zip(COLUMNS[:4], row, strict=False)]
        unknown = [column for column, cell in zip(COLUMNS, row, strict=True) if is_unknown(cell)]
        if unknown:
            raise DataError(f"{path}: row {number} has no value in column {unknown[0]}")
    species = np.asarray([row[4] for row in rows])
    counts = np.unique(species, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 5:
        raise DataError(
            f"{path} has fewer than five flowers of a species, and five folds are to be made of two or more"
        )
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
