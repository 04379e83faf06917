"""Many threads predict with one network, while another thread trains a copy of it."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from lanes import USABLE, open_lane

from portnn import Network, Trainer, losses, nn, optim

THREADS, ROUNDS = 20, 4
LAYERS = [nn.Conv2D(4), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.Flatten(), nn.Dropout(0.5), nn.Affine(3)]
X = np.random.default_rng(0).normal(size=(THREADS, 6, 6, 6, 1)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, size=THREADS * 6)


SLOW = {"jax": [pytest.mark.slow]}


# Flags of array-api-strict are one for all threads; its arrays are NumPy's anyway.
@pytest.mark.parametrize(
    "lane",
    [pytest.param(n, marks=SLOW.get(n, [])) for n in USABLE if n in ("numpy", "torch", "jax", "cupy")],
)
def test_threads_predict_while_another_trains(lane):
    with open_lane(lane) as backend:
        net = Network(nn.Sequential(LAYERS), (6, 6, 1), device=backend, rng=0)
        images = X.reshape(-1, 6, 6, 1)
        net.state = trained(net, images).state  # running statistics that are not those of the beginning
        serial = [net.predict(x) for x in X]
        expected = trained(net.to(backend), images).predict(images)
        began, done = threading.Barrier(THREADS + 1), threading.Event()

        def train():
            began.wait()
            try:
                return trained(net.to(backend), images).predict(images)
            finally:
                done.set()

        def predict(number):
            began.wait()
            found, rounds = [], 0
            while rounds < ROUNDS or not done.is_set():
                found.append(net.predict(X[number], batch_size=4 + rounds % 2 * 2))
                rounds += 1
            return found

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)  # threads take turns often
        try:
            with ThreadPoolExecutor(THREADS + 1) as pool:
                copy = pool.submit(train)
                answers = list(pool.map(predict, range(THREADS)))
        finally:
            sys.setswitchinterval(before)
        np.testing.assert_array_equal(copy.result(), expected)
        for number, rounds in enumerate(answers):
            assert len(rounds) >= ROUNDS
            np.testing.assert_array_equal(rounds[1], serial[number])  # in one batch, as the serial ones
            for found in rounds:
                np.testing.assert_allclose(found, serial[number], rtol=1e-5, atol=1e-6)


def trained(net, images):
    """The network after some epochs, the same every time."""
    Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(images, Y, epochs=1, batch_size=16)
    return net
