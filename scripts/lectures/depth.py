"""How deep a plain network can be trained, from small or from He's initial weights, with and without BatchNorm.

    python scripts/lectures/depth.py --device cpu

On its way back to the first layer, the gradient is multiplied by the weights of every layer in between. Where they are
too small it shrinks with each of them, until the first layers learn nothing. He's initial weights have the variance
2 / inputs, which on average keeps the size of signals and gradients from one ReLU layer to the next. BatchNorm brings
every unit to variance 1 over the batch, whatever the weights are. Both help; but in as few steps as here, very deep
networks still learn less than shallow ones. Every network trains once, on the same batches of digits.
"""

from __future__ import annotations

import math

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import Dataset, load_digits

DEPTHS = (2, 5, 10, 15, 20)
WIDTH = 32
EPOCHS, BATCH_SIZE = 10, 128
LOSS = losses.SoftmaxCrossEntropy()
SMALL, HE = nn.Normal(std=0.01), nn.HeNormal()

STARTS = {
    "normal, std 0.01": (SMALL, False),
    "He": (HE, False),
    "normal, std 0.01, BatchNorm": (SMALL, True),
    "He, BatchNorm": (HE, True),
}


def mlp(depth: int, weight_init: nn.Initializer, batch_norm: bool) -> nn.Layer:
    """``depth`` hidden layers of ReLU units, and ten outputs."""
    layers: list[nn.Layer] = [nn.Flatten()]
    for _ in range(depth):
        layers.append(nn.Affine(WIDTH, weight_init=weight_init))
        if batch_norm:
            layers.append(nn.BatchNorm())
        layers.append(nn.ReLU())
    return nn.Sequential([*layers, nn.Affine(10, weight_init=weight_init)])


def first_gradient(net: Network, data: Dataset) -> float:
    """The length of the gradient of the first layer's weights, over all examples."""
    backend = net.backend
    scores, _, backward = net.layer.forward(net.params, net.state, backend.asarray(data.x_train), train=True)
    _, loss_backward = LOSS(scores, backend.asarray(data.y_train))
    _, grads = backward(loss_backward(), input_grad=False)
    # In float64: the squares of very small numbers would be 0 in float32.
    return float(np.linalg.norm(np.asarray(backend.to_numpy(grads[1]["w"]), dtype=np.float64)))


def main(lecture: Lecture) -> None:
    data = load_digits()
    drawing, (left, right) = figure(1, 2, width=9.6, height=4.0)
    print(f"{'hidden layers':<29}" + "".join(f"{depth:10}" for depth in DEPTHS))
    for marker, (name, start) in zip("osD^", STARTS.items(), strict=True):
        gradients, final = [], []
        for depth in DEPTHS:
            net = Network(mlp(depth, *start), data.x_train.shape[1:], device=lecture.backend, rng=lecture.seed)
            gradients.append(first_gradient(net, data))
            trainer = Trainer(net, LOSS, optim.Momentum(lr=0.01), rng=lecture.seed)
            history = trainer.fit(data.x_train, data.y_train, epochs=EPOCHS, batch_size=BATCH_SIZE)
            final.append(history["loss"][-1])
        print(f"{name:<29}" + "".join(f"{gradient:10.1e}" for gradient in gradients) + "  first gradient")
        print(
            f"{'':<29}" + "".join(f"{loss:10.3f}" for loss in final) + f"  loss after {trainer.step} steps", flush=True
        )
        left.plot(DEPTHS, gradients, f"{marker}-", label=name)
        right.plot(DEPTHS, final, f"{marker}-", label=name)
    left.set(yscale="log", title="before training", ylabel="length of the gradient of the first weights")
    chance = math.log(data.classes)
    right.text(DEPTHS[-1], chance - 0.06, f"equal scores for all classes: log {data.classes}", ha="right", va="top")
    right.set(
        title=f"after {EPOCHS} epochs of training",
        ylim=(0, chance + 0.1),
        ylabel="mean training loss in the last epoch",
    )
    for axis in (left, right):
        axis.set(xlabel="hidden layers", xticks=DEPTHS)
    drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
