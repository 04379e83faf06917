"""The batch size: weights updated after every example (online), after 32 of them, or after all of them (full batch).

    python scripts/lectures/batch_sizes.py --device cpu

A full batch gives the exact gradient of the training loss, but only one update an epoch. A single example gives a rough
estimate of it, but as many updates an epoch as there are examples: so small batches need fewer epochs. Yet an epoch of
them takes longer, since many small operations keep a processor less busy than a few large ones. A mini-batch has much
of both advantages. What wins in seconds depends on the computer and on the data: so few examples as here make a full
batch cheap. Each batch size has a learning rate that suits it: with less noise in the gradient, longer steps are safe.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import load_digits

#: Batch size (None: all examples), learning rate, epochs.
RUNS: dict[str, tuple[int | None, float, int]] = {
    "online": (1, 0.02, 8),
    "mini-batch": (32, 0.2, 30),
    "full batch": (None, 1.0, 200),
}
GOAL = 0.1  # of the loss


def main(lecture: Lecture) -> None:
    data = load_digits()
    x, y = data.x_train, data.y_train
    mlp = nn.Sequential([nn.Flatten(), nn.Affine(32), nn.Tanh(), nn.Affine(data.classes)])
    drawing, axes = figure(1, 2, width=9.6, height=3.8)
    print(f"{len(x):,} images of digits")
    print(f"            batch    lr   epochs    steps  seconds    loss   loss below {GOAL}")
    for name, (batch_size, lr, epochs) in RUNS.items():
        size = batch_size or len(x)
        net = Network(mlp, x.shape[1:], device=lecture.backend, rng=lecture.seed)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(lr=lr), rng=lecture.seed)
        # As validation data, the training examples are measured after each epoch, all with the same weights.
        history = trainer.fit(x, y, epochs=epochs, batch_size=size, validation_data=(x, y))
        loss, seconds = history["val_loss"], np.cumsum(history["seconds"])
        below = [i for i, value in enumerate(loss) if value < GOAL]
        when = f"after {below[0] + 1} epochs, {seconds[below[0]]:.2f} s" if below else "not reached"
        result = f"{trainer.step:9,}{seconds[-1]:9.2f}{loss[-1]:8.4f}   {when}"
        print(f"{name:<11}{size:6,}{lr:6.2f}{epochs:9}{result}", flush=True)
        label = f"{name} (size {size:,}), learning rate {lr}"
        for axis, passed in zip(axes, (history["epoch"], seconds), strict=True):
            axis.plot(passed, loss, ".-", label=label, linewidth=1.2, markersize=3)
    for axis, passed in zip(axes, ("epochs", "seconds of training"), strict=True):
        axis.axhline(GOAL, color="#999999", linestyle=":")
        axis.set(xscale="log", yscale="log", xlabel=passed, ylabel="training loss after the epoch")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
