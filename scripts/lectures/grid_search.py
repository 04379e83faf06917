"""How many layers, how much penalty, which learning rate? A grid search tries all combinations.

    python scripts/lectures/grid_search.py --device cpu

Three numbers have to be chosen before a network is trained: how many hidden layers it has, how strongly large weights
are punished (alpha), and how large the steps are (the learning rate). None of them can be told from the others, so
every combination is tried. The judge is cross-validation: the examples are cut into three parts, each part is
predicted by a network that was trained on the other two, and the accuracies are averaged. The handwritten digits held
out before all of this are looked at once, by the winner alone: the best of many numbers is too good an estimate.

The table has every combination. In the picture each number of layers has a map, and the same colour is the same
accuracy in all of them: too small a rate has not arrived when its epochs are over, too large a one never does, and deep
networks are more particular about it than shallow ones.
"""

from __future__ import annotations

import warnings

import numpy as np
from lecture import Lecture, figure, present

from portnn import MLPClassifier
from portnn.data import load_digits

LAYERS = (1, 2, 4)
ALPHAS = (0.001, 0.1, 1.0)
RATES = (0.0003, 0.003, 0.03, 0.3)


def main(lecture: Lecture) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV

    drawing, maps = figure(1, len(LAYERS), width=10.4, height=3.4)
    data = load_digits()
    # All networks are given the same few epochs, so that what is compared is how far they get.
    warnings.simplefilter("ignore", ConvergenceWarning)
    network = MLPClassifier(max_iter=10, batch_size=64, device=str(lecture.backend), random_state=lecture.seed)
    grid = {"hidden_layer_sizes": [(32,) * n for n in LAYERS], "alpha": ALPHAS, "learning_rate_init": RATES}
    search = GridSearchCV(network, grid, cv=3, error_score="raise")
    search.fit(data.x_train.reshape(-1, 64), data.y_train)

    accuracy = np.zeros((len(LAYERS), len(ALPHAS), len(RATES)))
    for tried, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        place = (
            LAYERS.index(len(tried["hidden_layer_sizes"])),
            ALPHAS.index(tried["alpha"]),
            RATES.index(tried["learning_rate_init"]),
        )
        accuracy[place] = score
    print(f"{'layers':>6}  {'alpha':>6}  " + "  ".join(f"rate {rate:<6g}" for rate in RATES))
    for i, layers in enumerate(LAYERS):
        for j, alpha in enumerate(ALPHAS):
            print(f"{layers:>6}  {alpha:>6g}  " + "  ".join(f"{a:>11.1%}" for a in accuracy[i, j]))
    best = search.best_params_
    print(
        f"best: hidden layers {len(best['hidden_layer_sizes'])}, alpha {best['alpha']:g}, "
        f"rate {best['learning_rate_init']:g}, accuracy {search.best_score_:.1%} in cross-validation"
    )
    print(
        f"its accuracy on digits that no network has seen: {search.score(data.x_test.reshape(-1, 64), data.y_test):.1%}"
    )

    for i, (ax, layers) in enumerate(zip(maps, LAYERS, strict=True)):
        image = ax.imshow(accuracy[i], vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for j, k in np.ndindex(accuracy[i].shape):
            ax.text(
                k,
                j,
                f"{accuracy[i, j, k]:.1%}",
                ha="center",
                va="center",
                color="w" if accuracy[i, j, k] < 0.6 else "k",
            )
        ax.set_xticks(range(len(RATES)), [f"{rate:g}" for rate in RATES])
        ax.set_yticks(range(len(ALPHAS)), [f"{alpha:g}" for alpha in ALPHAS])
        title = f"{layers} hidden layer{'s' if layers > 1 else ''}"
        ax.set(xlabel="learning rate", ylabel="alpha" if i == 0 else "", title=title)
    drawing.colorbar(image, ax=maps, label="accuracy")
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
