"""Methods that look at all examples before each step: conjugate gradients, BFGS and L-BFGS against Adam.

    python scripts/lectures/full_batch_methods.py --device cpu

Adam goes a short way along an average of the latest gradients, here those of 32 or of all 400 examples, and needs a
learning rate. The other methods take the exact gradient of all examples, choose a direction, and search along it for a
step that lowers the loss enough: they need no learning rate, and the loss never rises. Conjugate gradients choose
directions that do not undo what the earlier ones reached. BFGS learns the curvature of the loss, as a matrix, from how
the gradient changes from step to step; L-BFGS does with the latest 10 steps, so that it suits larger networks, too.

A pass evaluates the loss and its gradient once for every example: one epoch of Adam, whatever its batches. The search
along a line may need several. Small batches make many steps in a pass, and at first their loss falls as fast as that of
the best; then their noise, at this constant learning rate, keeps it from falling further. Few parameters, few examples,
no noise in the data, and float64: this task is of the kind that full-batch methods are good at. The seconds are those
of this computer; the loss is that of all examples after the epoch or iteration.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, losses, nn, optim
from portnn.random import Stream

EXAMPLES = 400

#: Method, examples in a batch, epochs or iterations. The last three methods need all examples at once.
METHODS: dict[str, tuple[optim.Optimizer | optim.FullBatch, int, int]] = {
    "Adam, batches of 32": (optim.Adam(lr=0.01), 32, 250),
    "Adam, all examples": (optim.Adam(lr=0.01), EXAMPLES, 1000),
    "conjugate gradients": (optim.ConjugateGradient(gtol=1e-9), EXAMPLES, 250),
    "L-BFGS": (optim.LBFGS(gtol=1e-9, ftol=0.0), EXAMPLES, 250),
    "BFGS": (optim.BFGS(gtol=1e-9), EXAMPLES, 250),
}


def main(lecture: Lecture) -> None:
    x = Stream(lecture.seed).child("x").uniform((EXAMPLES, 2), -1.0, 1.0)
    y = np.sin(3.0 * x[:, :1]) * np.cos(2.0 * x[:, 1:])
    tanh = nn.Sequential([nn.Affine(20, weight_init=nn.GlorotNormal()), nn.Tanh(), nn.Affine(1)])
    drawing, axes = figure(1, 2, width=9.6, height=4.0)
    print("                      epochs  passes   steps  seconds  final loss")
    for name, (method, batch_size, epochs) in METHODS.items():
        net = Network(tanh, 2, device=lecture.backend, rng=lecture.seed, dtype="float64")
        trainer = Trainer(net, losses.MeanSquaredError(), method, rng=lecture.seed)
        # As validation data, the examples are measured after each epoch, all with the same weights.
        history = trainer.fit(x, y, epochs=epochs, batch_size=batch_size, validation_data=(x, y))
        passes = np.cumsum([record.get("evaluations", 1.0) for record in history.records])
        loss, seconds = history["val_loss"], np.cumsum(history["seconds"])
        numbers = f"{len(history):6} {passes[-1]:7.0f} {trainer.step:7,} {seconds[-1]:8.2f} {loss[-1]:11.1e}"
        print(f"{name:<21} {numbers}  {history.message}".rstrip(), flush=True)
        for axis, spent in zip(axes, (passes, seconds), strict=True):
            axis.plot(spent, loss, label=name, linewidth=1.3)
    for axis, label in zip(axes, ("passes over the data", "seconds of training"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="mean squared error of all examples")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
