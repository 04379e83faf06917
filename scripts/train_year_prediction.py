"""In which year was a song released? 515,345 songs, streamed: the file is never in memory as a whole.

    python scripts/train_year_prediction.py --data-dir path/to/data
    python scripts/train_year_prediction.py --device gpu --epochs 20

The features are scaled by a first pass over the file; each epoch is one more pass, in which every block of songs is
one call of ``partial_fit``. --data-dir holds YearPredictionMSD.txt (plain, .gz or .zip), itself or in a folder
yearprediction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import run
from tables import parser
from time_left import TimeLeft

from portnn import MLPRegressor, get_backend
from portnn.data import YEAR_PREDICTION_TRAIN_ROWS, stream_year_prediction


def main() -> None:
    arguments = parser(__doc__, "YearPredictionMSD.txt")
    arguments.add_count("--epochs", default=10, help="passes over the training songs (default: 10)")
    arguments.add_count("--train-rows", default=YEAR_PREDICTION_TRAIN_ROWS, help="default: 463,715")
    args = arguments.parse_args()
    get_backend(args.backend or args.device)  # before any work, not after it

    from sklearn.preprocessing import StandardScaler

    def songs(part: Any) -> Iterator[tuple[Any, Any]]:
        return stream_year_prediction(args.data_dir, part, train_rows=args.train_rows)

    x_scale, y_scale = StandardScaler(), StandardScaler()
    for x, y in songs("train"):
        x_scale.partial_fit(x)
        y_scale.partial_fit(y[:, None])
    print(f"{x_scale.n_samples_seen_:,.0f} songs to learn from, the mean year is {y_scale.mean_[0]:.1f}")

    network = MLPRegressor(
        hidden_layer_sizes=(128, 64),
        dropout=0.1,
        batch_size=128,
        device=args.backend or args.device,
        random_state=args.seed,
    )
    left = TimeLeft()
    for epoch in range(1, args.epochs + 1):
        begin = time.perf_counter()
        for x, y in songs("train"):
            network.set_params(batch_size=min(128, len(x)))
            network.partial_fit(x_scale.transform(x), y_scale.transform(y[:, None])[:, 0])
        error, count = 0.0, 0
        for x, y in songs("test"):
            predicted = y_scale.inverse_transform(network.predict(x_scale.transform(x))[:, None])[:, 0]
            error, count = error + float(np.sum((predicted - y) ** 2)), count + len(y)
        print(
            f"epoch {epoch}/{args.epochs}  RMSE {(error / count) ** 0.5:.3f} years on {count:,} test songs  "
            f"{time.perf_counter() - begin:.1f} s{left.after_part(args.epochs - epoch)}",
            flush=True,
        )
    print(f"always naming the mean year has an RMSE of {y_scale.scale_[0]:.3f} years on the training songs")


if __name__ == "__main__":
    run(main)
