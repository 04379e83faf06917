"""Processes that are forked while a network is trained: a child has none of the threads, and waits for none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
from places import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

BEGINNING = """
    import hashlib, json, multiprocessing, os, signal, sys, threading, time, warnings
    import numpy as np
    from forked import in_child
    from portnn import Network, Trainer, losses, nn, optim, tree
    from portnn.training import Callback, stop_on_signals
    warnings.simplefilter("ignore")
    device = "cpu"
    x, y = np.random.default_rng(1).normal(size=(1024, 256)).astype("f"), np.arange(1024) % 10
    told = {}

    def network():
        return Network(nn.Sequential([nn.Affine(512), nn.ReLU(), nn.Affine(10)]), 256, rng=0, device=device)

    def fit(net, *callbacks, epochs=1):
        Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=callbacks, rng=0).fit(
            x, y, epochs=epochs, batch_size=256)
        return net

    def digest(net):
        leaves = [net.backend.to_numpy(a) for a in tree.leaves((net.params, net.state))]
        return hashlib.sha256(b"".join(a.tobytes() for a in leaves)).hexdigest()

    class AtEpochEnd(Callback):
        def __init__(self, work):
            self.work = work

        def on_epoch_end(self, trainer, record):
            self.work(trainer)
"""


def run(program, limit=120, **environment):
    """What a program puts into ``told``."""
    code = (
        textwrap.dedent(BEGINNING) + textwrap.dedent(program) + "\nprint(json.dumps(told), flush=True)\nos._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support")} | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_a_child_of_a_callback_predicts_and_trains(device):
    if device == "torch":
        pytest.importorskip("torch")
    told = run(f"""
        device = {device!r}
        told["alone"] = digest(fit(network(), epochs=2))

        def work(trainer):
            told["predicted"] = digest_of(trainer.network.predict(x))
            told["child"] = in_child(lambda: digest_of(trainer.network.predict(x)))
            told["grandchild"] = in_child(lambda: in_child(lambda: digest_of(trainer.network.predict(x))))
            told["trained"] = in_child(lambda: len(digest(fit(network()))))
            children = []
            thread = threading.Thread(target=lambda: children.append(in_child(lambda: len(digest(fit(network()))))))
            thread.start()
            thread.join()
            told["from a thread"] = children[0]

        def digest_of(a):
            return hashlib.sha256(np.asarray(a).tobytes()).hexdigest()

        told["with children"] = digest(fit(network(), AtEpochEnd(work), epochs=2))
    """)
    assert told["with children"] == told["alone"], "the parent's run has other bits"
    assert told["trained"] == told["from a thread"] == 64
    if device == "cpu":  # torch computes on one thread in a child
        assert told["child"] == told["grandchild"] == told["predicted"]
    else:
        assert len(told["child"]) == len(told["grandchild"]) == 64


@pytest.mark.slow
def test_blas_has_its_threads_in_a_child_and_the_parent_keeps_the_cores():
    pytest.importorskip("numba")
    told = run("""
        from portnn_backends.on_numpy.blas import numbers_of_threads as blas

        told["before"] = blas()

        def child(trainer):
            before = blas()
            trainer.network.predict(x)
            return before, blas()

        def work(trainer):
            told["in the run"] = blas()
            told["in the child"], told["after the child has computed"] = in_child(lambda: child(trainer))
            told["in the run again"] = blas()

        fit(network(), AtEpochEnd(work))
        told["after"] = blas()
    """)
    assert told["before"] == told["after"] == told["in the child"] == told["after the child has computed"]
    assert told["in the run again"] == told["in the run"]


@pytest.mark.slow
def test_a_fork_waits_for_a_thread_that_loads_numba(tmp_path):
    pytest.importorskip("numba")
    told = run(
        """
        import sys
        thread = threading.Thread(target=lambda: fit(network()))
        thread.start()
        while "numba" not in sys.modules:  # it is being imported from then on
            time.sleep(0.001)
        told["child"] = in_child(lambda: len(digest(fit(network()))), limit=60.0)
        thread.join()
        """,
        NUMBA_CACHE_DIR=str(tmp_path),  # where nothing is kept, so that Numba is needed
    )
    assert told["child"] == 64


@pytest.mark.slow
def test_workers_of_a_pool_end_with_it_where_signals_stop_the_run():
    told = run("""
        import functools

        def predict(net):
            return float(np.asarray(net.predict(x), np.float64).sum())

        def work(trainer):
            pool = multiprocessing.get_context("fork").Pool(2)
            told["worker"] = pool.apply(predict, (trainer.network,))
            told["here"] = predict(trainer.network)
            pool.terminate()  # by SIGTERM, which the parent holds back
            pool.join()
            told["handlers"] = in_child(lambda: [signal.getsignal(s) is h for s, h in (
                (signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))])

        net = network()
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=[AtEpochEnd(work)], rng=0)
        with stop_on_signals(trainer) as stopped:
            trainer.fit(x, y, batch_size=256)
        told["code"] = stopped.exit_code
    """)
    assert told["worker"] == told["here"]
    assert told["handlers"] == [True, True]
    assert told["code"] == 0


@pytest.mark.slow
def test_jax_says_that_it_cannot_go_on_in_a_fork():
    pytest.importorskip("jax")
    told = run("""
        device = "jax"
        net = network()
        net.predict(x)
        told["child"] = in_child(lambda: net.predict(x) is None)
    """)
    assert "BackendError('JAX has computed in the process that this one was forked from" in told["child"]


def test_a_library_that_does_not_survive_a_fork():
    told = run("""
        from portnn_backends.forks import refuse_in_fork
        for _ in range(2):
            refuse_in_fork("one")
        told["child"] = in_child(lambda: refuse_in_fork("one"))
        told["another library"] = in_child(lambda: refuse_in_fork("two"))
        told["child of its child"] = in_child(lambda: in_child(lambda: refuse_in_fork("one")))
    """)
    assert "BackendError('one has computed in the process that this one was forked from" in told["child"]
    assert told["another library"] is None
    assert "BackendError('one has computed" in told["child of its child"]


@pytest.mark.slow
def test_a_child_that_another_thread_forks_within_a_step_has_whole_networks():
    told = run("""
        from portnn.training import Callback
        net, seen, over = network(), set(), threading.Event()

        class EveryStep(Callback):
            def due(self, trainer):
                self.on_pause(trainer)
                return False

            def on_pause(self, trainer):
                with net.trees.reading():
                    seen.add(digest(net))

        seen.add(digest(net))
        fit(net, EveryStep())  # whatever is compiled is there before the first fork

        def forks():
            told["children"] = [in_child(lambda: digest(net)) for _ in range(12)]
            over.set()

        thread = threading.Thread(target=forks)
        thread.start()
        while not over.is_set():
            fit(net, EveryStep())
        thread.join()
        told["whole"] = [child in seen for child in told["children"]]
        told["different"] = len(set(told["children"]))
    """)
    assert told["whole"] == [True] * 12, told["children"]
    assert told["different"] > 1


def test_reading_ahead_does_not_go_on_in_a_child():
    told = run("""
        from portnn.data import prefetch
        items = prefetch(iter(range(5)), depth=1)
        next(items)

        def child():
            try:
                return [next(items) for _ in range(5)]
            except ValueError as error:
                return str(error)

        told["goes on"] = in_child(child)
        told["ends"] = in_child(lambda: items.close())
        told["rest"] = list(items)
    """)
    assert "the thread that reads ahead is not in this process" in told["goes on"]
    assert told["ends"] is None
    assert told["rest"] == [1, 2, 3, 4]
