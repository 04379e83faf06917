"""Four functions from three units: how a sum of three tanh curves approximates x^2, sin, |x| and a step.

    python scripts/lectures/universal_approximation.py --device cpu

One hidden layer with enough units comes as near as one likes to any continuous function on a closed interval; three are
enough to see how. The network y = b + v1 tanh(w1 x + c1) + v2 tanh(w2 x + c2) + v3 tanh(w3 x + c3) learns from 50
points. Each unit adds a curve of the shape of tanh: w says how steep it is, c where it rises or falls, and v how high
it is. |x| has a kink, which these smooth curves can only round off; the step jumps, which they can only follow steeply.

Gradient descent may end in a local minimum, or be slow to leave a flat part of the error. So each function is learned
from several first weights, and the picture shows the network with the smallest error; the errors of all are printed.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.optim import schedules
from portnn.random import Stream

STARTS, STEPS = 4, 400
HIDDEN = nn.Sequential([nn.Affine(3, nn.Normal(std=4.0), nn.Uniform(low=-2.0, high=2.0)), nn.Tanh()])
# beta2 is small, so that the large gradients of the first steps are soon forgotten.
OPTIMIZER = optim.Adam(schedules.Cosine(0.1, steps=STEPS), beta2=0.95)
X = np.linspace(-1.0, 1.0, 50)[:, np.newaxis]
TARGETS = {"x^2": X**2, "sin(pi x)": np.sin(np.pi * X), "|x|": np.abs(X), "step": np.where(X > 0, 1.0, 0.0)}


def train(lecture: Lecture, target: NDArray[np.float64], start: int) -> tuple[float, Network]:
    """The mean squared error of a network after its training, and the network."""
    rng = Stream(lecture.seed).child(start)
    net = Network(nn.Sequential([HIDDEN, nn.Affine(1)]), 1, device=lecture.backend, rng=rng)
    trainer = Trainer(net, losses.MeanSquaredError(), OPTIMIZER, rng=rng)
    trainer.fit(X, target, epochs=STEPS, batch_size=len(X))
    return trainer.evaluate(X, target)["loss"], net


def main(lecture: Lecture) -> None:
    backend = lecture.backend
    drawing, axes = figure(2, 2, width=9.6, height=6.4)
    x = np.linspace(-1.0, 1.0, 401)[:, np.newaxis]
    print(f"mean squared errors after {STEPS} steps from {STARTS} different starts, the smallest first:")
    for axis, (name, target) in zip(axes, TARGETS.items(), strict=True):
        runs = sorted((train(lecture, target, start) for start in range(STARTS)), key=lambda run: run[0])
        print(f"  {name:<10}", *(f"{error:.1e}" for error, _ in runs))
        error, net = runs[0]
        activations = HIDDEN.apply(net.params[0], net.state[0], backend.asarray(x, net.dtype))
        summands = backend.to_numpy(activations * net.params[1]["w"][:, 0])
        b = float(net.params[1]["b"][0])
        axis.plot(X, target, ".", color="#999999", markersize=6, label="target")
        axis.plot(x, net.predict(x), color="black", linewidth=1.6, label="network: b + the three units")
        for j in range(3):
            axis.plot(x, summands[:, j], "--", color=f"C{j}", linewidth=1.2, label=f"unit {j + 1}")
        axis.set(xlabel="x", ylabel="y", title=f"{name}:  b = {b:.2f}, mean squared error {error:.0e}")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
