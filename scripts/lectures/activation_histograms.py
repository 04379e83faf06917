"""The first weights decide what the layers see: histograms of the activations of five hidden layers, before training.

    python scripts/lectures/activation_histograms.py --device cpu

1,000 random inputs of 100 numbers (normal, std 1) go through five layers of 100 units. With small weights every layer
shrinks the signal, until all units say nearly the same for all inputs. With large weights a ReLU makes it larger from
layer to layer, and tanh is driven to its ends, where its slope, and so the gradient, is nearly 0. Glorot's weights, of
variance 2 / (inputs + outputs), keep the size of a signal as long as the activation is nearly the identity, as tanh is
for small inputs: the signal shrinks slowly. A ReLU sets half of its inputs to 0, and with them half of the mean square:
He's weights have the variance 2 / inputs, the double here, which makes up for it. LeCun's variance 1 / inputs is
Glorot's where a layer has as many inputs as outputs.

The height of each panel is that of its second-highest bar, so that the zeros of a ReLU do not flatten the others.
"""

from __future__ import annotations

from lecture import Lecture, figure, present

from portnn import Network, nn
from portnn.random import Stream

UNITS, LAYERS, EXAMPLES = 100, 5, 1000

STARTS: list[tuple[str, nn.Layer, nn.Initializer]] = [
    ("tanh, std 0.01", nn.Tanh(), nn.Normal(std=0.01)),
    ("tanh, std 1", nn.Tanh(), nn.Normal(std=1.0)),
    ("tanh, Glorot", nn.Tanh(), nn.GlorotNormal()),
    ("tanh, He", nn.Tanh(), nn.HeNormal()),
    ("ReLU, std 0.01", nn.ReLU(), nn.Normal(std=0.01)),
    ("ReLU, std 1", nn.ReLU(), nn.Normal(std=1.0)),
    ("ReLU, Glorot", nn.ReLU(), nn.GlorotNormal()),
    ("ReLU, He", nn.ReLU(), nn.HeNormal()),
]


def main(lecture: Lecture) -> None:
    x = Stream(lecture.seed).child("x").normal((EXAMPLES, UNITS))
    drawing, axes = figure(len(STARTS), LAYERS, width=10.0, height=9.6)
    print("mean and std of the activations" + "".join(f"{f'layer {i + 1}':>18}" for i in range(LAYERS)))
    for row, (name, activation, weight_init) in enumerate(STARTS):
        mlp = nn.Sequential([nn.Affine(UNITS, weight_init=weight_init), activation] * LAYERS)
        net = Network(mlp, UNITS, device=lecture.backend, rng=lecture.seed)
        activations = nn.trace(net, x, bins=40)[1::2]  # the outputs between them are those before the activation
        print(f"{name:<31}" + "".join(f"{f'{a.mean:.1e} {a.std:.1e}':>18}" for a in activations))
        for layer, found in enumerate(activations):
            axis = axes[row * LAYERS + layer]
            axis.stairs(found.counts, found.edges, fill=True, edgecolor="#0072B2", linewidth=1.0)
            end = max(4.0, found.mean + 4 * found.std)  # of the axis under a ReLU
            axis.set(xlim=(-1.1, 1.1) if isinstance(activation, nn.Tanh) else (-0.05 * end, end), yticks=[])
            axis.set_ylim(0, 1.1 * sorted(found.counts)[-2])
            axis.set_title(f"std {found.std:.2g}", fontsize=8)
            if layer == 0:
                axis.set_ylabel(name)
            if row == len(STARTS) - 1:
                axis.set_xlabel(f"activation, layer {layer + 1}")
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
