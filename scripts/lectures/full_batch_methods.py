"""
Methods that look at all examples
=================================

Adam and its relatives go a short way along a rough gradient, very often. There is another family: take the exact
gradient of all examples, choose a good direction, and search along it for a good step. Conjugate gradients, BFGS and
L-BFGS are of this kind. On a small task they meet Adam here.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# The task
# --------
#
# A network of 20 tanh units learns :math:`y = \sin(3 x_1) \cos(2 x_2)` from 400 points. Few parameters, few examples,
# no noise in the data, and float64: this is what full-batch methods are good at.

import numpy as np

from portnn import nn
from portnn.random import Stream

EXAMPLES = 400
X = Stream(SEED).child("x").uniform((EXAMPLES, 2), -1.0, 1.0)
Y = np.sin(3.0 * X[:, :1]) * np.cos(2.0 * X[:, 1:])
MLP = nn.Sequential([nn.Affine(20, weight_init=nn.GlorotNormal()), nn.Tanh(), nn.Affine(1)])

# %%
# Direction and step
# ------------------
#
# All of them go from :math:`w` to :math:`w + s d`. The direction :math:`d` is where they differ:
#
# - Conjugate gradients add the last direction to the gradient, :math:`d = -g + \beta d_\text{last}`, so that a step
#   does not undo what the earlier ones reached.
# - BFGS learns the curvature of the loss, as a matrix :math:`H \approx (\nabla^2 L)^{-1}`, from how the gradient
#   changes from step to step, and goes along :math:`d = -H g`.
# - L-BFGS does so with the latest 10 steps, without a matrix, so that it suits larger networks, too.
#
# The step :math:`s` comes from a search along the line, which takes one that lowers the loss enough. So there is no
# learning rate, and the loss never rises. Adam needs a learning rate, here 0.01, and runs twice: with batches of 32,
# and with all examples in one.

from portnn import optim

METHODS: dict[str, tuple[optim.Optimizer | optim.FullBatch, int, int]] = {  # with batch size, and epochs or iterations
    "Adam, batches of 32": (optim.Adam(lr=0.01), 32, 250),
    "Adam, all examples": (optim.Adam(lr=0.01), EXAMPLES, 1000),
    "conjugate gradients": (optim.ConjugateGradient(gtol=1e-9), EXAMPLES, 250),
    "L-BFGS": (optim.LBFGS(gtol=1e-9, ftol=0.0), EXAMPLES, 250),
    "BFGS": (optim.BFGS(gtol=1e-9), EXAMPLES, 250),
}

# %%
# Two clocks
# ----------
#
# A *pass* evaluates the loss and its gradient once for every example: one epoch of Adam, whatever its batches. The
# search along a line may need several passes for one step. We count them, and the seconds. The loss is that of all
# examples after the epoch or iteration, measured as validation data.

import matplotlib.pyplot as plt

from portnn import Network, Trainer, losses

figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
print("                      epochs  passes   steps  seconds  final loss")
for name, (method, batch_size, epochs) in METHODS.items():
    net = Network(MLP, 2, device=DEVICE, rng=SEED, dtype="float64")
    trainer = Trainer(net, losses.MeanSquaredError(), method, rng=SEED)
    history = trainer.fit(X, Y, epochs=epochs, batch_size=batch_size, validation_data=(X, Y))
    passes = np.cumsum([record.get("evaluations", 1.0) for record in history.records])
    loss, seconds = history["val_loss"], np.cumsum(history["seconds"])
    numbers = f"{len(history):6} {passes[-1]:7.0f} {trainer.step:7,} {seconds[-1]:8.2f} {loss[-1]:11.1e}"
    print(f"{name:<21} {numbers}  {history.message}".rstrip(), flush=True)
    for axis, spent in zip(axes, (passes, seconds), strict=True):
        axis.plot(spent, loss, label=name, linewidth=1.3)
for axis, label in zip(axes, ("passes over the data", "seconds of training"), strict=True):
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="mean squared error of all examples")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
show()

# %%
# Small batches make many steps in a pass, and at first their loss falls as fast as that of the best; then their noise,
# at this constant learning rate, keeps it from falling further. BFGS, which has learned the curvature, gets furthest.
# The seconds are those of the computer that made this page; in the first curve they begin late where code has to be
# compiled first.
#
# What to try
# -----------
#
# - Give Adam ``schedules.Cosine(0.01, steps=3250)`` for a learning rate. Does its loss catch up?
# - Add noise to ``Y``, of standard deviation 0.1. Is it still worth it to go to the very bottom?
# - Take 400 hidden units. BFGS now learns a matrix of 1,601 rows: what does an iteration cost?
