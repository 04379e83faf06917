"""What is a house worth? Districts of California in 1990: R^2 and RMSE on a fifth held out, and a plot of the errors.

    python scripts/train_housing.py --data-dir path/to/data
    python scripts/train_housing.py --device gpu --plot housing.png

Gaps are filled, the place by the ocean becomes columns of zeros and ones, and the numbers are brought to a normal
distribution; the network learns the logarithm of the value. --data-dir holds housing.csv (or housing.csv.gz), itself
or in a folder housing.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import run
from drawing import check_picture, figure, save
from tables import as_float32, demand, find_file, parser, read_table

from portnn import LossCurveDisplay, MLPRegressor, get_backend, optim
from portnn.errors import DataError

if TYPE_CHECKING:
    from sklearn.compose import TransformedTargetRegressor

TARGET, PLACE = "median_house_value", "ocean_proximity"
NUMBERS = [
    *("longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms"),
    *("population", "households", "median_income"),
]
EPOCHS, BATCH_SIZE = 40, 128


def build(device: str, seed: int, samples: int) -> TransformedTargetRegressor:
    """The pipeline from a table to values in dollars."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer, StandardScaler

    quantiles = QuantileTransformer(output_distribution="normal", n_quantiles=min(100, samples))
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), quantiles), NUMBERS),
            ("place", OneHotEncoder(handle_unknown="ignore"), [PLACE]),
        ],
        sparse_threshold=0,
    )
    steps = EPOCHS * math.ceil(samples / BATCH_SIZE)
    network = MLPRegressor(
        hidden_layer_sizes=(256, 128, 64),
        alpha=0.01,
        batch_size=min(BATCH_SIZE, samples),
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        optimizer=optim.Adam(optim.schedules.OneCycle(0.01, steps)),
        device=device,
        random_state=seed,
    )
    logarithm = make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())
    return TransformedTargetRegressor(
        make_pipeline(columns, FunctionTransformer(as_float32), network), transformer=logarithm
    )


def draw(picture: Path, model: Any, true: Any, predicted: Any) -> None:
    """The loss, and predicted against true values."""
    drawing, (curve, scatter) = figure(1, 2, height=4.2)
    LossCurveDisplay.from_estimator(model.regressor_, ax=curve, name="").ax_.set(yscale="log", title="loss")
    scatter.plot(true / 1e3, predicted / 1e3, ".", markersize=2, alpha=0.4)
    low, high = true.min() / 1e3, true.max() / 1e3
    scatter.plot([low, high], [low, high], "k", linewidth=0.8)
    scatter.set(xlabel="true value in $1,000", ylabel="predicted value in $1,000", title="districts held out")
    save(drawing, picture)


def main() -> None:
    arguments = parser(__doc__, "housing.csv")
    arguments.add_path("--plot", metavar="FILE", help="draw the loss and the errors of prediction (PNG)")
    args = arguments.parse_args()
    if args.plot:
        check_picture(args.plot)
    get_backend(args.backend or args.device)
    path = find_file(args.data_dir, "housing", ["housing.csv", "housing.csv.gz"])
    table = read_table(path, [*NUMBERS, PLACE, TARGET], [PLACE])
    y = table[TARGET].to_numpy()
    demand(path, table, TARGET, y > 0, "above 0")
    if len(y) < 10:
        raise DataError(f"{path} has {len(y)} districts, and ten or more are needed")

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import r2_score, root_mean_squared_error
    from sklearn.model_selection import train_test_split

    # The learning rate goes through one cycle in the planned epochs: they are not to be fewer or more.
    warnings.simplefilter("ignore", ConvergenceWarning)
    x_train, x_test, y_train, y_test = train_test_split(table, y, test_size=0.2, random_state=args.seed)
    model = build(args.backend or args.device, args.seed, len(y_train)).fit(x_train, y_train)
    predicted = model.predict(x_test)
    print(f"{len(y_train):,} districts to learn from, {len(y_test):,} held out")
    r2, rmse = r2_score(y_test, predicted), root_mean_squared_error(y_test, predicted)
    print(f"R^2 {r2:.3f}, RMSE ${rmse:,.0f} on those held out")
    if args.plot:
        draw(Path(args.plot), model, y_test, predicted)


if __name__ == "__main__":
    run(main)
