"""The table of a tape: its instructions are those of the step, and measuring them changes nothing that they compute."""

import json

import numpy as np
import pytest
from places import ROOT
from programs import script

from portnn import Network, losses, nn, optim, tree

SIZE = 32


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tape_of_step

    return tape_of_step


@pytest.fixture
def recorded(table):
    if not table.HAS_NUMBA:
        pytest.skip("without Numba there are no tapes")
    return table


def examples(n=100):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 12)).astype(np.float32), rng.integers(0, 3, n)


def looked_at(table, *layers, device="numpy"):
    net = Network(nn.Sequential([*layers, nn.Affine(3)]), 12, device=device, rng=0)
    return table.taped(net, losses.SoftmaxCrossEntropy(), optim.Adam(), *examples(), SIZE, 25)


def test_the_products_of_a_tape_are_those_of_the_layers(recorded):
    from flops import by_layer

    layers = nn.Affine(16), nn.ReLU()
    profile, python = looked_at(recorded, *layers)
    net = Network(nn.Sequential([*layers, nn.Affine(3)]), 12)
    # Sums over a batch may be products, too: with a row of ones, for the gradient of b.
    products = sum(line.operations for line in profile.lines if 1 not in line.sizes)
    assert products == sum(by_layer(net, SIZE))
    assert profile.alone > 0
    assert profile.replayed > 0
    assert python > 0
    assert sum(count for count, _ in profile.by_name().values()) == len(profile.lines)
    assert sum(spent for _, spent in profile.by_name().values()) == pytest.approx(profile.alone)


def test_who_waits_for_whom(recorded):
    from portnn_backends.on_numpy.tape.profile import Line, Profile

    lines = [Line(0, 0, "a", (), 1.0, 8, 0), Line(0, 1, "b", (), 5.0, 8, 0), Line(1, 1, "b", (), 2.0, 8, 0)]
    profile = Profile(2, lines, 9.0)
    assert profile.waits() == {0: [0.0, 1.0], 1: [0.0, 3.0]}
    assert profile.by_name() == {"b": (2, 7.0), "a": (1, 1.0)}
    printed = [" ".join(line.split()) for line in recorded.table((profile, 20.0))]
    assert "-- the cores meet: core 1 waits 1.0" in printed
    assert "1 0 a 1.00 8 0.0" in printed


def test_timed_steps_are_the_steps(recorded):
    """A look at the clock between two instructions changes no bit."""
    from portnn_backends.on_numpy.tape.loop import TapeLoop
    from portnn_backends.on_numpy.tape.tape import arrays_of

    from portnn.random import as_stream
    from portnn.training.batch import Examples
    from portnn.training.steps import training_step

    net = Network(nn.Sequential([nn.Affine(16), nn.Tanh(), nn.Dropout(0.2), nn.Affine(3)]), 12, rng=0)
    optimizer = optim.Adam()
    loop = TapeLoop(
        net.backend, (training_step(net, losses.SoftmaxCrossEntropy(), optimizer, None, None, as_stream(0)),)
    )
    data = Examples(*examples())
    rows = [np.arange(i, i + SIZE) for i in range(20)]
    hyper = [{"step": i + 1, "optimizer": optimizer.hyper(i + 1)} for i in range(20)]
    carry = tree.map(np.array, (net.params, net.state, optimizer.slots(net.params)))
    with net.backend.context():
        for some in (slice(0, 8), slice(8, 12)):
            carry, _ = loop.run(carry, data, rows[some], [0] * len(rows[some]), hyper[some])
        (tape,) = loop.tapes
        ours = tree.map(np.array, carry)
        carry, _ = loop.run(carry, data, rows[12:], [0] * 8, hyper[12:])
        tape.bind(arrays_of(ours, data))
        spent, look = tape.timed(np.array(rows[12:]), hyper[12:])
    assert all(np.array_equal(a, b) for a, b in zip(tree.leaves(ours), tree.leaves(carry), strict=True))
    places = {(one.part, one.place) for one in tape.instructions}
    assert places == set(zip(*np.nonzero(spent.max(axis=0)), strict=True))
    assert look >= 0


def test_a_step_that_is_not_recorded_says_why(recorded):
    reason = looked_at(recorded, nn.GaussianNoise(0.1))
    assert isinstance(reason, str)
    assert list(recorded.table(reason)) == [f"no tape: {reason}"]
    assert recorded.figures(reason) == {"reason": reason}


def test_other_backends_and_no_numba_say_so(table, monkeypatch):
    assert "not those of strict" in looked_at(table, device="strict")
    monkeypatch.setattr(table, "HAS_NUMBA", False)
    assert "Numba" in looked_at(table)


@pytest.mark.slow
@pytest.mark.parametrize("numba", [True, False])
def test_the_program_shows_the_tape_and_the_layers(numba, tmp_path, table):
    if numba and not table.HAS_NUMBA:
        pytest.skip("without Numba there are no tapes")
    file = tmp_path / "p.json"
    done = script(
        *("benchmarks/profile_step.py", "--model", "small", "--data", "digits", "--steps", "5", "--json", file),
        NUMBA_DISABLE_JIT="0" if numba else "1",
    )
    assert done.returncode == 0, done.stderr
    first, report = done.stdout.splitlines()[0], json.loads(file.read_text(encoding="utf-8"))
    assert first.startswith("the tape; microseconds" if numba else "no tape: steps are recorded where Numba")
    assert "of ceiling" in done.stdout
    assert set(report["tape"]) == ({"instructions", "waits", "alone", "replayed", "python"} if numba else {"reason"})
