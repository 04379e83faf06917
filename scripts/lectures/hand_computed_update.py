"""One update of a tiny network by hand: every number of forward, backward and update, from its formula and by portnn.

    python scripts/lectures/hand_computed_update.py --device cpu

Two inputs, two hidden sigmoid units, two linear outputs, one example, half squared error. Backpropagation is the chain
rule, followed from the loss back to the weights; gradient descent subtracts the gradient g times the learning rate lr.
To first order such a step changes the loss by -lr |g|^2: the tangent in the picture. The smaller the learning rate,
the better this holds; a step that is too large even raises the loss. Nothing is drawn at random here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, losses, nn, optim, tree

X, T = np.asarray([[1.0, 2.0]]), np.asarray([[1.0, 0.0]])  # the input and the target
W1, B1 = np.asarray([[0.5, 1.0], [0.5, -1.0]]), np.asarray([-0.5, 0.0])
W2, B2 = np.asarray([[1.0, 0.5], [-1.0, 1.0]]), np.asarray([0.0, 0.0])
LOSS = losses.HalfSquaredError()
RATE = 0.1
RATES = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0)


def by_hand() -> tuple[dict[str, Any], float, float]:
    """Each number under its formula; the loss before the update; the squared length of the gradient."""
    numbers = {
        "z = x W1 + b1": (z := X @ W1 + B1),
        "h = 1 / (1 + exp(-z))": (h := 1 / (1 + np.exp(-z))),
        "y = h W2 + b2": (y := h @ W2 + B2),
        "loss = |y - t|^2 / 2": (loss := float(np.sum((y - T) ** 2) / 2)),
        "dy = y - t": (dy := y - T),
        "dW2 = h^T dy": (dw2 := h.T @ dy),
        "db2 = dy": (db2 := dy[0]),
        "dh = dy W2^T": (dh := dy @ W2.T),
        "dz = dh h (1 - h)": (dz := dh * h * (1 - h)),
        "dW1 = x^T dz": (dw1 := X.T @ dz),
        "db1 = dz": (db1 := dz[0]),
        "W1 - lr dW1": (w1 := W1 - RATE * dw1),
        "b1 - lr db1": (b1 := B1 - RATE * db1),
        "W2 - lr dW2": (w2 := W2 - RATE * dw2),
        "b2 - lr db2": (b2 := B2 - RATE * db2),
        "loss after the update": np.sum((1 / (1 + np.exp(-(X @ w1 + b1))) @ w2 + b2 - T) ** 2) / 2,
    }
    return numbers, loss, sum(float(np.sum(g**2)) for g in (dw1, db1, dw2, db2))


def network(lecture: Lecture) -> Network:
    """The network before its update."""
    net = Network(nn.Sequential([nn.Affine(2), nn.Sigmoid(), nn.Affine(2)]), 2, device=lecture.backend, rng=0)
    net.params = tree.map(
        lambda array: net.backend.asarray(array, "float32"), ({"w": W1, "b": B1}, {}, {"w": W2, "b": B2})
    )
    return net


def update(lecture: Lecture, lr: float) -> tuple[Network, float]:
    """The network after one step of gradient descent, and its loss there."""
    trainer = Trainer(network(lecture), LOSS, optim.SGD(lr=lr), rng=0)
    trainer.partial_fit(X, T)
    return trainer.network, trainer.evaluate(X, T)["loss"]


def by_portnn(lecture: Lecture) -> list[Any]:
    """The numbers of `by_hand`, in its order. Each layer gives its output and the way back through it."""
    net = network(lecture)
    hidden, sigmoid, output = net.layer.children()
    x, t = (net.backend.asarray(array, "float32") for array in (X, T))
    z, _, back_through_hidden = hidden.forward(net.params[0], (), x)
    h, _, back_through_sigmoid = sigmoid.forward({}, (), z)
    y, _, back_through_output = output.forward(net.params[2], (), h)
    loss, back_through_loss = LOSS(y, t)
    dy = back_through_loss()
    dh, d2 = back_through_output(dy)
    dz, _ = back_through_sigmoid(dh)
    _, d1 = back_through_hidden(dz)
    net, loss_after = update(lecture, RATE)
    (new1, _, new2), back = net.params, [dy, d2["w"], d2["b"], dh, dz, d1["w"], d1["b"]]
    arrays = [z, h, y, loss, *back, new1["w"], new1["b"], new2["w"], new2["b"]]
    return [*(net.backend.to_numpy(array) for array in arrays), loss_after]


def row(numbers: Any) -> str:
    """The entries of an array, row by row."""
    return " ".join(f"{number:8.4f}" for number in np.ravel(numbers))


def main(lecture: Lecture) -> None:
    numbers, before, squared_length = by_hand()
    print(f"{f'lr = {RATE}':<24}{'by hand':<38}by portnn")
    difference = 0.0
    for (formula, hand), value in zip(numbers.items(), by_portnn(lecture), strict=True):
        print(f"{formula:<22}{row(hand):<36}  {row(value)}")
        difference = max(difference, float(np.max(np.abs(hand - value))))
    print(f"largest difference: {difference:.1e}; by hand in float64, by portnn in float32\n")

    print("   lr   loss after      change   -lr |g|^2   change / (-lr |g|^2)")
    for lr in RATES:
        change, expected = update(lecture, lr)[1] - before, -lr * squared_length
        print(f"{lr:5.3f} {before + change:12.6f} {change:11.6f} {expected:11.6f} {change / expected:10.3f}")

    rates = np.linspace(0.02, 1.2, 30)
    drawing, (axis,) = figure(width=7.0, height=4.0)
    axis.plot([0, *rates], [before, *(update(lecture, float(lr))[1] for lr in rates)], label="loss after the update")
    axis.plot([0, 0.3], [before, before - 0.3 * squared_length], "--", label=r"tangent: loss before $-$ lr $|g|^2$")
    axis.axhline(before, color="#999999", linestyle=":", label="loss before the update")
    axis.set(xlim=(0, 1.2), ylim=(0, 0.6), xlabel="learning rate lr of the one step", ylabel="loss, $|y - t|^2 / 2$")
    axis.legend(loc="upper center")
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
