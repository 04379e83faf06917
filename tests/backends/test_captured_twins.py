"""Training steps recorded as CUDA graphs with the twins in them: their kernels run on the CPU at each launch.

See `fake_cupy` for the streams and the graphs, and `cupy_on_host` for the kernels.
"""

import numpy as np
import pytest

pytest.importorskip("cupy")

import fake_cupy
from cupy_on_host import COMPILER, launches
from test_captured_step import Plain, assert_same_run, steps_of
from test_cupy_on_host import CURVES

from portnn import Network, Trainer, losses, optim
from portnn.optim import schedules

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")


@pytest.fixture(autouse=True)
def _imitation():
    with fake_cupy.installed(twins=True):
        yield


@pytest.mark.parametrize(
    "optimizer",
    [optim.AdamW(lr=schedules.Exponential(0.01, 0.98)), optim.NAdam(), optim.Nesterov(lr=0.02)],
    ids=["AdamW", "NAdam", "Nesterov"],
)
@pytest.mark.parametrize("case", CURVES)
def test_recorded_twins_train_as_on_the_cpu(case, optimizer):
    """Bit for bit as without recording, and as NumPy to rounding: rates and steps come from the device's memory."""
    layer, shape = CURVES[case]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, *shape), np.uint8), rng.integers(0, 3, 40)

    def train(device):
        net = Network(layer, shape, device=device, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optimizer, rng=0)
        trainer.fit(x, y, epochs=5, batch_size=16)
        return trainer

    with launches() as launched:
        captured = train(fake_cupy.FakeCupyBackend())
    (step,) = steps_of(captured)
    assert step.reason is None
    assert step.graphs == 2
    assert {"relu_values", "class_slopes", "divided_rows", "uniform32", "normalise", "column_sums"} <= set(launched)
    # All leaves at once: for each of the 3 steps of 5 epochs.
    assert launched.count(optimizer.rule.__name__) == 15
    assert_same_run(captured, train(Plain()))
    np.testing.assert_allclose(captured.history["loss"], train("cpu").history["loss"], rtol=1e-4)
