"""An auto-encoder learns from images without labels; does what it learned help where only 100 images have labels?

    python scripts/lectures/autoencoder.py --device cpu

The auto-encoder has to reproduce its input, the 64 pixels of a digit, from a code of 16 numbers, and so must find out
what tells the 1,437 training images apart. Noise on its input keeps it from relying on single pixels. Its encoder, the
layers up to the code, then gets a new last layer, which scores the ten classes. Three classifiers of the same shape
learn for equally long from the same 100 labelled images: one starts from random weights; one starts from the encoder's
weights and trains them on (fine-tuned); one trains the last layer only (frozen). A seed determines which images have
labels, and all random weights; the line between two points of the picture joins what was reached with the same seed.
With 360 test images, differences of a point or two between single runs mean little: it is their mean that counts.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, functional, losses, metrics, nn, optim
from portnn.data import Dataset, load_digits
from portnn.random import Stream

CODE, LABELLED, SEEDS = 16, 100, 5
ENCODER = (nn.Affine(64, nn.GlorotNormal()), nn.Tanh(), nn.Affine(CODE, nn.GlorotNormal()), nn.Tanh())
DECODER = (nn.Affine(64, nn.GlorotNormal()), nn.Tanh(), nn.Affine(64, nn.GlorotNormal()))
ENCODER_PLACES = slice(1, 1 + len(ENCODER))  # in the auto-encoder, whose first layer is the noise


def autoencoder(lecture: Lecture, data: Dataset, seed: int) -> Network:
    """A trained auto-encoder. Its outputs are pixels before a sigmoid."""
    x = data.x_train.reshape(-1, 64)
    mlp = nn.Sequential([nn.GaussianNoise(0.3), *ENCODER, *DECODER])
    net = Network(mlp, 64, device=lecture.backend, rng=seed)
    Trainer(net, losses.SigmoidCrossEntropy(), optim.Adam(lr=0.003), rng=seed).fit(x, x, epochs=40, batch_size=64)
    return net


def classifier(lecture: Lecture, start: str, old: Network, seed: int) -> Network:
    """A network for ten classes, not trained, whose encoder may come from the auto-encoder."""
    encoder = map(nn.Frozen, ENCODER) if start == "frozen encoder" else ENCODER
    rng = Stream(seed).child("classifier")
    net = Network(nn.Sequential([*encoder, nn.Affine(10, nn.GlorotNormal())]), 64, device=lecture.backend, rng=rng)
    params, state = old.params[ENCODER_PLACES], old.state[ENCODER_PLACES]
    if start == "fine-tuned encoder":
        net.params = (*params, net.params[-1])
    elif start == "frozen encoder":
        net.state = (*map(nn.Frozen.hold, params, state), net.state[-1])
    return net


def main(lecture: Lecture) -> None:
    data = load_digits()
    x, x_test = data.x_train.reshape(-1, 64), data.x_test.reshape(-1, 64)
    shown = np.stack([x_test[data.y_test == digit][0] for digit in range(10)])
    accuracy: dict[str, list[float]] = {"random weights": [], "fine-tuned encoder": [], "frozen encoder": []}
    print(f"accuracy on {len(x_test)} test images, after training with {LABELLED} labels")
    print("seed  " + "".join(f"{start:>20}" for start in accuracy))
    for seed in range(lecture.seed, lecture.seed + SEEDS):
        old = autoencoder(lecture, data, seed)
        if seed == lecture.seed:
            reconstructed, _ = functional.sigmoid(old.predict(shown))
        chosen = Stream(seed).child("labelled").permutation(len(x))[:LABELLED]
        for start, found in accuracy.items():
            net = classifier(lecture, start, old, seed)
            trainer = Trainer(
                net,
                losses.SoftmaxCrossEntropy(),
                optim.Adam(lr=0.005),
                metrics={"accuracy": metrics.accuracy},
                rng=seed,
            )
            trainer.fit(x[chosen], data.y_train[chosen], epochs=200, batch_size=50)
            found.append(trainer.evaluate(x_test, data.y_test)["accuracy"])
        print(f"{seed:<6}" + "".join(f"{found[-1]:20.1%}" for found in accuracy.values()), flush=True)
    means = {start: float(np.mean(found)) for start, found in accuracy.items()}
    print("mean  " + "".join(f"{mean:20.1%}" for mean in means.values()))

    drawing, (top, bottom) = figure(2, 1, width=7.6, height=5.4)
    pairs = np.concatenate([shown, reconstructed]).reshape(2, 10, 8, 8)
    gap = ((0, 0), (0, 0), (1, 1), (1, 1))
    top.imshow(np.block([list(row) for row in np.pad(pairs, gap)]), cmap="gray_r", vmin=0, vmax=1)
    top.set(xticks=[], yticks=[4.5, 14.5], yticklabels=["test image", "reconstruction"], frame_on=False)
    top.tick_params(length=0)
    for values in zip(*accuracy.values(), strict=True):
        bottom.plot(range(len(values)), values, "o-", color="#56B4E9", linewidth=0.8, markersize=5)
    bottom.plot(range(len(means)), list(means.values()), "k_", markersize=40, markeredgewidth=2)
    names = [f"{start}\nmean {mean:.1%}" for start, mean in means.items()]
    bottom.set(xlim=(-0.4, 2.4), xticks=range(len(names)), xticklabels=names)
    bottom.set_ylabel(f"test accuracy with {LABELLED} labels")
    bottom.yaxis.set_major_formatter("{x:.0%}")
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
