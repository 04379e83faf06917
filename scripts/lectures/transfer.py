"""What a network learned about the digits 0 to 4 is used for the digits 5 to 9, of which only a few have labels.

    python scripts/lectures/transfer.py --device cpu

A network learns to tell the digits 0 to 4 apart, from all of their training images. All of its layers but the last then
go into networks for the digits 5 to 9, under a new last layer. Two of these start from the old weights: one keeps the
first layer as it is (frozen), which leaves fewer numbers to learn, the other one trains all layers (fine-tuned). The
third one starts from scratch, with random weights. All of them take about 100 steps.

This is done for two tasks. With the images as they are, few labels are enough, and the old weights do not help: a first
layer that was made for other digits rather is in the way. In the second task each image lies at a random place of a
larger field, and a network must find out how a digit looks at each of them. That is hard to learn from few labels, but
the features that came of many images of the old digits, at all places, help with the new ones. A frozen layer does best
where labels are fewest; where there are more of them, it is better to train it, too.
"""

from __future__ import annotations

import math

import numpy as np
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import load_digits
from portnn.random import Stream

BODY = (nn.Flatten(), nn.Affine(64), nn.ReLU(), nn.Affine(32), nn.ReLU())
FROZEN = 3  # layers of the body, with weights in one of them
LABELS, SEEDS, STEPS, BATCH_SIZE = (20, 50, 100, 200), 3, 100, 20
STARTS = ("first layer frozen", "fine-tuned", "from scratch")


def place(images: NDArray[np.float32], room: int, rng: Stream) -> NDArray[np.float32]:
    """Each image at a random place of a field that is larger by ``room`` pixels in height and width."""
    n, height, width = images.shape
    field = np.zeros((n, height + room, width + room), dtype=np.float32)
    for i, (top, left) in enumerate(rng.uniform((n, 2), 0, room + 1).astype(int)):
        field[i, top : top + height, left : left + width] = images[i]
    return field


def trainer_of(net: Network, seed: int) -> Trainer:
    """What trains and judges all networks here."""
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.003)
    return Trainer(net, loss, optimizer, metrics={"accuracy": metrics.accuracy}, rng=seed)


def new_network(start: str, old: Network, rng: Stream) -> Network:
    """A network for five other digits, not trained yet."""
    frozen = FROZEN if start == "first layer frozen" else 0
    layers = [*map(nn.Frozen, BODY[:frozen]), *BODY[frozen:], nn.Affine(5)]
    net = Network(nn.Sequential(layers), old.input_shape, device=old.backend, rng=rng)
    if start != "from scratch":
        net.params = (*net.params[:frozen], *old.params[frozen:-1], net.params[-1])
        net.state = (*map(nn.Frozen.hold, old.params[:frozen], old.state[:frozen]), *net.state[frozen:])
    return net


def accuracies(lecture: Lecture, room: int, seed: int) -> NDArray[np.float64]:
    """Test accuracy of each start with each number of labels; prints that of the old network on its own digits."""
    data, rng = load_digits(), Stream(seed)
    late, late_test = data.y_train > 4, data.y_test > 4
    copies = 10 if room else 1  # at different places
    x_old = np.concatenate([place(data.x_train[~late], room, rng.child("old", i)) for i in range(copies)])
    y_old = np.tile(data.y_train[~late], copies)
    x_new, y_new = place(data.x_train[late], room, rng.child("new")), data.y_train[late] - 5
    x_test = place(data.x_test, room, rng.child("test"))
    old = Network(nn.Sequential([*BODY, nn.Affine(5)]), x_old.shape[1:], device=lecture.backend, rng=rng)
    trainer = trainer_of(old, seed)
    trainer.fit(x_old, y_old, epochs=20 // copies, batch_size=25)
    result = trainer.evaluate(x_test[~late_test], data.y_test[~late_test])
    print(f"    seed {seed}: old network, {result['accuracy']:.1%} of the digits 0 to 4 right", flush=True)
    order = rng.child("labels").permutation(len(x_new))
    found = np.zeros((len(STARTS), len(LABELS)))
    for i, start in enumerate(STARTS):
        for j, n in enumerate(LABELS):
            trainer = trainer_of(new_network(start, old, rng.child("new")), seed)
            trainer.fit(
                x_new[order[:n]], y_new[order[:n]], epochs=STEPS // math.ceil(n / BATCH_SIZE), batch_size=BATCH_SIZE
            )
            found[i, j] = trainer.evaluate(x_test[late_test], data.y_test[late_test] - 5)["accuracy"]
    return found


def main(lecture: Lecture) -> None:
    drawing, axes = figure(1, 2, width=9.6, height=4.0)
    for axis, (task, room) in zip(axes, {"images as they are": 0, "images at random places": 4}.items(), strict=True):
        side = 8 + room
        print(f"{task}, {side} x {side} pixels")
        runs = [accuracies(lecture, room, seed) for seed in range(lecture.seed, lecture.seed + SEEDS)]
        print(f"  {'accuracy with labels':<24}" + "".join(f"{n:8}" for n in LABELS) + "   trained parameters")
        untrained = Network(nn.Sequential([*BODY, nn.Affine(5)]), (side, side), rng=0)
        for start, marker, mean in zip(STARTS, "osD", np.mean(runs, axis=0), strict=True):
            count = new_network(start, untrained, Stream(0)).parameter_count
            print(f"  {start:<24}" + "".join(f"{a:8.1%}" for a in mean) + f"{count:21,}")
            axis.plot(LABELS, mean, f"{marker}-", label=start)
        axis.set(xscale="log", xlabel="labelled images of the digits 5 to 9", title=f"{task}, {side} x {side} pixels")
        axis.set_xticks(LABELS, map(str, LABELS))
        axis.minorticks_off()
        axis.set_ylabel(f"test accuracy, mean of {SEEDS} runs")
        axis.yaxis.set_major_formatter("{x:.0%}")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
