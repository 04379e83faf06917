"""Training steps recorded as CUDA graphs with the twins in them: their kernels run on the CPU at each launch.

See `cupy_on_host` for the streams, the graphs and the kernels.
"""

import pytest

pytest.importorskip("cupy")

from cupy_on_host import COMPILER, CupyOnHost
from cupy_on_host.recorded import Recorded, open_recorded
from curves import CURVES, trained, trained_as_on_the_cpu
from recorded_runs import assert_same_run, steps_of

from portnn import optim
from portnn.optim import schedules

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")


@pytest.fixture(autouse=True)
def _imitation():
    with open_recorded(Recorded):
        yield


@pytest.mark.parametrize(
    "optimizer",
    [optim.AdamW(lr=schedules.Exponential(0.01, 0.98)), optim.NAdam(), optim.Nesterov(lr=0.02)],
    ids=["AdamW", "NAdam", "Nesterov"],
)
@pytest.mark.parametrize("case", CURVES)
def test_recorded_twins_train_as_on_the_cpu(case, optimizer):
    """Bit for bit as without recording, and as NumPy to rounding: rates and steps come from the device's memory."""
    run = {"examples": 40, "epochs": 5}
    captured, launched = trained_as_on_the_cpu(case, Recorded(), optimizer, {"column_sums"}, **run)
    (step,) = steps_of(captured)
    assert step.reason is None
    assert step.graphs == 2
    # All leaves at once: for each of the 3 steps of 5 epochs.
    assert launched.count(optimizer.rule.__name__) == 15
    assert_same_run(captured, trained(case, CupyOnHost(), optimizer, **run))
