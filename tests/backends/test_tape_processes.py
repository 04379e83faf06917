"""Tapes in processes: forks before and after one was made, Ctrl-C, and code that cannot be kept on disk."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from places import ROOT
from tapes import needs_numba

pytestmark = [needs_numba, pytest.mark.slow]

BEGINNING = """
    import faulthandler, functools, hashlib, json, os, signal, sys, time
    import forked
    faulthandler.dump_traceback_later(100, exit=True)
    import numpy as np
    from portnn import Network, Trainer, losses, nn, optim, tree
    from portnn.training import Callback
    from tapes import step_by_step
    told = {}
    x, y = np.random.default_rng(1).normal(size=(512, 64)).astype("f"), np.arange(512) % 10

    def make(*callbacks, hidden=300):  # wide enough for its products to be split between the cores
        net = Network(nn.Sequential([nn.Affine(hidden), nn.ReLU(), nn.Affine(10)]), 64, rng=0, device="cpu")
        return Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=callbacks, rng=0)

    def fit(trainer, epochs=3):
        trainer.fit(x, y, epochs=epochs, batch_size=64)
        return trainer

    def told_of(trainer):
        leaves = tree.leaves((trainer.network.params, trainer.stepper.remembered()[1]))
        loop = trainer.stepper.loop
        bits = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
        return [getattr(loop, "reason", "plain"), len(getattr(loop, "tapes", [])), bits]

    in_child = functools.partial(forked.in_child, limit=40.0)
"""

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support")}


def code_of(program):
    return textwrap.dedent(BEGINNING) + textwrap.dedent(program) + "\nprint(json.dumps(told), flush=True)\n"


def run(program, **environment):
    """What a program puts into ``told``."""
    done = subprocess.run(
        [sys.executable, "-c", code_of(program)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_train_from_tapes():
    told = run("""
        with step_by_step():
            told["plain"], told["plain twice"] = told_of(fit(make())), told_of(fit(fit(make())))
        told["forked before"] = in_child(lambda: told_of(fit(make())))
        trainer = fit(make())
        told["here"] = told_of(trainer)
        told["forked after"] = in_child(lambda: told_of(fit(make())))
        told["goes on in a child"] = in_child(lambda: told_of(fit(trainer)))
        told["grandchild"] = in_child(lambda: in_child(lambda: told_of(fit(trainer))))
        told["goes on here"] = told_of(fit(trainer))

        class Fork(Callback):
            def on_epoch_end(self, trainer, record):
                if trainer.epoch == 2:
                    told["within a run"] = in_child(lambda: told_of(fit(make())))

        told["with a fork in it"] = told_of(fit(make(Fork())))
    """)
    once, twice = [None, 1, told["plain"][-1]], [None, 1, told["plain twice"][-1]]
    for name in ("forked before", "here", "forked after", "within a run", "with a fork in it"):
        assert told[name] == once, name
    for name in ("goes on in a child", "grandchild", "goes on here"):
        assert told[name] == twice, name


@pytest.mark.skipif(sys.platform == "win32", reason="another kind of signals")
@pytest.mark.parametrize("hidden", [8, 300])
def test_ctrl_c_is_answered_at_once(hidden):
    program = f"""
        class Ready(Callback):
            def on_epoch_end(self, trainer, record):
                if trainer.epoch == 20:
                    print("ready", flush=True)

        trainer = make(Ready(), hidden={hidden})
        try:
            trainer.fit(x, y, epochs=10**6, batch_size=64)
        except KeyboardInterrupt:
            told["answered"] = time.monotonic()
        step = trainer.step
        told["kept"] = len(trainer.stepper.loop.tapes)
        told["finite"] = bool(all(np.isfinite(leaf).all() for leaf in tree.leaves(trainer.network.params)))
        trainer.fit(x, y, batch_size=64)
        told["steps"] = trainer.step - step
    """
    with subprocess.Popen(
        [sys.executable, "-c", code_of(program)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.3)  # in the middle of an epoch, as likely as not
            began = time.monotonic()
            child.send_signal(signal.SIGINT)
            told = json.loads(child.stdout.readline())
        finally:
            child.kill()
    assert 0 < told["answered"] - began < 0.5
    assert told["finite"]
    assert told["kept"] >= 1
    assert 0 < told["steps"] <= 8


def test_code_that_cannot_be_kept(tmp_path):
    """Nowhere on disk: then it is compiled anew in each process."""
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    told = run(
        """
        trainer = fit(make())
        told["tape"] = told_of(trainer)
        with step_by_step():
            told["plain"] = told_of(fit(make()))
        from portnn_backends.on_numpy import kept
        told["kept"] = not kept.is_empty()
        """,
        NUMBA_CACHE_DIR=str(tmp_path / "file" / "folder"),
    )
    assert told["kept"] is False
    assert told["tape"] == [None, 1, told["plain"][-1]]


PREDICTING = """
    from portnn_backends.on_numpy import forward
    forward._FIRST = 5

    def ask(net, n):
        for _ in range(8):
            found = net.predict(x[:n])
        return [hashlib.sha256(found.tobytes()).hexdigest(), net.forward.replayed > 0, net.forward.reason]
"""


def predicting(program):
    return textwrap.dedent(PREDICTING) + textwrap.dedent(program)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("n", [1, 512])
def test_children_predict_from_tapes(n):
    told = run(
        predicting(f"""
        told["forked before"] = in_child(lambda: ask(make().network, {n}))
        net = make().network
        told["here"] = ask(net, {n})
        told["forked after"] = in_child(lambda: ask(make().network, {n}))
        told["goes on in a child"] = in_child(lambda: ask(net, {n}))
        told["grandchild"] = in_child(lambda: in_child(lambda: ask(net, {n})))
        (kept,) = net.forward._kept.values()
        with kept.lock:  # as another thread may hold it
            told["of a thread that the child has not"] = in_child(lambda: ask(net, {n}))
        told["here again"] = ask(net, {n})
    """)
    )
    assert told["here"][1:] == [True, None]
    assert [name for name, found in told.items() if found != told["here"]] == []


@pytest.mark.skipif(sys.platform == "win32", reason="another kind of signals")
def test_ctrl_c_ends_a_prediction():
    program = """
        net = make(hidden=2000).network
        ask(net, 512)
        many = np.tile(x, (3000, 1))
        try:
            print("ready", flush=True)
            net.predict(many, batch_size=512)
        except KeyboardInterrupt:
            told["answered"] = time.monotonic()
        told["goes on"] = ask(net, 512)[1:]
        told["in use"] = [kept.lock.locked() for kept in net.forward._kept.values()]
    """
    with subprocess.Popen(
        [sys.executable, "-c", code_of(predicting(program))], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.5)
            began = time.monotonic()
            child.send_signal(signal.SIGINT)
            told = json.loads(child.stdout.readline())
        finally:
            child.kill()
    assert 0 < told["answered"] - began < 0.5
    assert told["goes on"] == [True, None]
    assert told["in use"] == [False]
