"""
The first weights decide what the layers see
============================================

Before a network has learned anything, its weights are random numbers. How large should they be? We send 1,000 random
inputs through five layers of 100 units, and look at the histograms of what comes out of each layer.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# What a layer does to the size of a signal
# -----------------------------------------
#
# A unit adds up :math:`n` inputs :math:`x_i` times weights :math:`w_i`. If both are independent and the weights have
# the mean 0,
#
# .. math:: \operatorname{Var}\Big(\sum_{i=1}^n w_i x_i\Big) = n \operatorname{Var}(w) \operatorname{E}(x^2).
#
# So the signal keeps its size if the variance of the weights is about :math:`1 / n`. The inputs here are normal, with
# the standard deviation 1. For each kind of weights, the function below draws one row of histograms, a layer each. The
# height of a panel is that of its second-highest bar, so that the zeros of a ReLU do not flatten the others.

import matplotlib.pyplot as plt

from portnn import Network, nn
from portnn.random import Stream

UNITS, LAYERS, EXAMPLES = 100, 5, 1000
X = Stream(SEED).child("x").normal((EXAMPLES, UNITS))


def look(activation: nn.Layer, weights: dict[str, nn.Initializer]) -> None:
    """Print and draw the activations of all layers, for each kind of weights."""
    print("mean and std of the activations" + "".join(f"{f'layer {i + 1}':>18}" for i in range(LAYERS)))
    size = {"figsize": (9.6, 1.5 * len(weights)), "layout": "constrained", "squeeze": False}
    _, axes = plt.subplots(len(weights), LAYERS, **size)
    for row, (name, weight_init) in zip(axes, weights.items(), strict=True):
        mlp = nn.Sequential([nn.Affine(UNITS, weight_init=weight_init), activation] * LAYERS)
        net = Network(mlp, UNITS, device=DEVICE, rng=SEED)
        activations = nn.trace(net, X, bins=40)[1::2]  # the outputs between them are those before the activation
        print(f"{name:<31}" + "".join(f"{f'{a.mean:.1e} {a.std:.1e}':>18}" for a in activations))
        row[0].set_ylabel(name)
        for layer, (axis, found) in enumerate(zip(row, activations, strict=True), start=1):
            axis.stairs(found.counts, found.edges, fill=True, edgecolor="#0072B2", linewidth=1.0)
            end = max(4.0, found.mean + 4 * found.std)  # of the axis under a ReLU
            axis.set(xlim=(-1.1, 1.1) if isinstance(activation, nn.Tanh) else (-0.05 * end, end), yticks=[])
            axis.set_ylim(0, 1.1 * sorted(found.counts)[-2])
            axis.set_title(f"layer {layer}, std {found.std:.2g}", fontsize=10)
    show()


# %%
# Too small and too large
# -----------------------
#
# With a standard deviation of 0.01, every layer multiplies the signal by about :math:`0.01 \sqrt{100} = 0.1`, until all
# units say nearly the same for all inputs. With 1, tanh is driven to its ends, where its slope :math:`1 - y^2`, and
# with it the gradient, is nearly 0.

look(nn.Tanh(), {"std 0.01": nn.Normal(std=0.01), "std 1": nn.Normal(std=1.0)})

# %%
# A ReLU has no ends: large weights make the signal larger from layer to layer.

look(nn.ReLU(), {"std 0.01": nn.Normal(std=0.01), "std 1": nn.Normal(std=1.0)})

# %%
# Glorot's weights, for tanh
# --------------------------
#
# Glorot proposed the variance :math:`2 / (\text{inputs} + \text{outputs})`, a compromise between the signal on its way
# forward and the gradient on its way back. It keeps the size of a signal as long as the activation is nearly the
# identity, as tanh is for small inputs; here the signal shrinks slowly. He's variance, twice as large, is a little too
# much for tanh: more units come near its ends.

look(nn.Tanh(), {"Glorot": nn.GlorotNormal(), "He": nn.HeNormal()})

# %%
# He's weights, for a ReLU
# ------------------------
#
# A ReLU sets half of its inputs to 0, and with them half of the mean square: with Glorot's weights the signal shrinks
# by :math:`1 / \sqrt 2` a layer. He's variance is :math:`2 / \text{inputs}`, the double here, which makes up for it.

look(nn.ReLU(), {"Glorot": nn.GlorotNormal(), "He": nn.HeNormal()})

# %%
# LeCun's variance :math:`1 / \text{inputs}` is Glorot's where a layer has as many inputs as outputs, as here. What all
# of this does to training is the topic of :doc:`depth`.
#
# What to try
# -----------
#
# - Send inputs of standard deviation 10 through the layers. Whose histograms do not care?
# - Put `nn.Sigmoid` in the place of tanh. Around which value do the activations gather, and why is that bad for the
#   next layer?
# - Set ``LAYERS`` to 20, and read the standard deviations of the last layer off the table. Which weights survive?
