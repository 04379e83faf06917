"""Which iris is it? A small network tells three species apart by the sizes of their sepals and petals.

    python scripts/lectures/iris.py --device cpu

The data are 150 flowers (Fisher 1936), as scikit-learn bundles them: length and width of sepal and petal in cm, and the
species. Half of the flowers, drawn at random, are trained on; the others judge the network. The features are
standardised first: from each its mean is taken away, and it is divided by its standard deviation, so that all are of
one size and a single learning rate suits all weights. Both numbers come from the training flowers alone, as the test
flowers stand for those that nobody has seen yet.

One network gets all four features, and another one those of the petals only. Two features span a plane: the picture
shows which species the second network names at each of its points, and which flowers it names wrongly. Few flowers make
a rough judge: another --seed draws another half, and changes the test accuracy by several in a hundred.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import Scaling
from portnn.errors import MissingDataError
from portnn.random import Stream

FEATURES = {"all four features": [0, 1, 2, 3], "petals only": [2, 3]}


def load_iris() -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Features in cm, shape (150, 4); numbers of the species, shape (150,); their names."""
    try:
        from sklearn.datasets import load_iris
    except ImportError:
        raise MissingDataError(
            "the irises come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    bunch = load_iris()
    return bunch.data, bunch.target, [str(name) for name in bunch.target_names]


def main(lecture: Lecture) -> None:
    drawing, (curves, plane) = figure(1, 2, width=10.4, height=4.6)
    features, species, names = load_iris()
    order = Stream(lecture.seed).child("split").permutation(len(features))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    for i, (title, columns) in enumerate(FEATURES.items()):
        scaling = Scaling.standard(features[train][:, columns])
        x = scaling(features[:, columns])
        layer = nn.Sequential([nn.Affine(8, nn.GlorotNormal()), nn.Tanh(), nn.Affine(len(names), nn.GlorotNormal())])
        net = Network(layer, len(columns), device=lecture.backend, rng=lecture.seed)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(0.02), rng=lecture.seed)
        history = trainer.fit(
            x[train], species[train], epochs=50, batch_size=15, validation_data=(x[test], species[test])
        )
        right = np.argmax(net.predict(x), axis=1) == species
        print(f"{title:<17}  right: {right[train].mean():.1%} of {len(train)} training flowers,", end=" ")
        print(f"{right[test].mean():.1%} of {len(test)} test flowers")
        curves.plot(history["epoch"], history["loss"], f"C{i}--", label=f"{title}, training")
        curves.plot(history["epoch"], history["val_loss"], f"C{i}", label=f"{title}, test")
    curves.set(ylim=0, xlabel="epoch", ylabel="cross-entropy", title="loss")
    curves.legend()

    # The second network, in its plane.
    length, width = np.meshgrid(np.linspace(0.6, 7.3, 400), np.linspace(-0.1, 2.8, 400))
    points = np.stack([length, width], axis=-1).reshape(-1, 2)
    regions = np.argmax(net.predict(scaling(points)), axis=1).reshape(length.shape)
    plane.contourf(length, width, regions, levels=[-0.5, 0.5, 1.5, 2.5], colors=["C0", "C1", "C2"], alpha=0.2)
    for k, name in enumerate(names):
        for part, flowers, marker in (("training", train, "o"), ("test", test, "s")):
            mine = features[flowers[species[flowers] == k]][:, columns]
            plane.plot(mine[:, 0], mine[:, 1], f"C{k}{marker}", markersize=4, label=f"{name}, {part}")
    wrong = features[~right][:, columns]
    plane.plot(wrong[:, 0], wrong[:, 1], "ko", markersize=9, fillstyle="none", label="named wrongly")
    plane.set(
        xlabel="length of the petal in cm", ylabel="width of the petal in cm", title="what the second network says"
    )
    plane.legend(loc="upper left", fontsize=8)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
