"""The loop of CuPy: the host launches a graph again and again, and passes nothing. No GPU: see `cupy_on_host`."""

import sys

import numpy as np
import pytest

pytest.importorskip("cupy")

from convolutions import recipes
from cupy_on_host import COMPILER, CupyOnHost, launches
from cupy_on_host.arrays import reductions_recorded
from cupy_on_host.recorded import Plain, Portable, Recorded, nodes, open_recorded
from cupy_on_host.streams import Graph
from families import LAYERS, LOSSES, OPTIMIZERS
from recorded_runs import LAYERS as USUAL
from recorded_runs import assert_same_run, both, fit, in_chunks_of, make

from portnn import Network, Trainer, losses, nn, optim, regularizers
from portnn.training.batch import Examples, Piece
from portnn.training.recipe import Recipe

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")

N = 20
LABELS = losses.SoftmaxCrossEntropy()
DENSE = nn.Sequential([nn.Affine(5), nn.Tanh(), nn.Affine(3)])

#: What is not recorded, and the reason: normal numbers are drawn by the host, and so are the weights of classes held.
_FROM_THE_HOST = "cudaMemcpyAsync: the current stream is capturing"
NOT_RECORDED = {
    "layer GaussianNoise": "random numbers that the host draws cannot be recorded",
    "loss SoftmaxCrossEntropy-weights": _FROM_THE_HOST,
    "weights and classes": _FROM_THE_HOST,
}


def case(layer, shape, loss=LABELS, optimizer=None, *, y=None, weighted=False, **options):
    return layer, shape, loss, optimizer or optim.Adam(lr=0.01), y, weighted, options


def given_by(loss):
    """A case in whose network the loss is given what its table says."""
    rng = np.random.default_rng(3)
    prediction, target = loss.prediction(rng, N)[0], loss.target(rng, N)[0]
    shape = prediction.shape[1:]
    layers = [nn.Flatten(), nn.Affine(int(np.prod(shape))), nn.Reshape(shape)]
    if np.all(prediction > 0):
        layers.append(nn.Softmax())
    return case(nn.Sequential(layers), (4,), loss.loss, optim.SGD(lr=1e-3), y=target)


CASES = {f"layer {name}": case(c.layer, c.input_shape, losses.MeanSquaredError()) for name, c in LAYERS.items()}
CASES |= {f"loss {name}": given_by(c) for name, c in LOSSES.items()}
CASES |= {f"optimizer {name}": case(DENSE, (4,), optimizer=o) for name, o in OPTIMIZERS.items()}
CASES |= {
    # Products of numbers of the step are rounded on the device: these are powers of 2.
    "optimizer WeightDecay": case(DENSE, (4,), optimizer=optim.WeightDecay(0.5, optim.Nesterov(lr=0.125))),
    "regularizer": case(DENSE, (4,), regularizer=regularizers.ElasticNet(0.1, l1_ratio=0.3)),
    "clip by norm": case(DENSE, (4,), optimizer=optim.chain(optim.ClipByNorm(0.01), optim.Adam())),
    "weights and classes": case(DENSE, (4,), losses.SoftmaxCrossEntropy(class_weight=(1.0, 0.0, 2.0)), weighted=True),
    "sums of batches": case(DENSE, (4,), optimizer=optim.Accumulate(3, optim.Adam(lr=0.01)), weighted=True),
    "a step that skips": case(DENSE, (4,), on_nonfinite="skip"),
}


def trained(backend, layer, shape, loss, optimizer, y, weighted, options):
    rng = np.random.default_rng(1)
    network = Network(layer, shape, device=backend, rng=0)
    x = rng.uniform(0.1, 1.0, size=(N, *shape)).astype(np.float32)
    if y is None:
        labels = isinstance(loss, losses.SoftmaxCrossEntropy)
        y = rng.integers(0, 3, N) if labels else rng.normal(size=(N, *network.output_shape)).astype(np.float32)
    weight = rng.choice([0.0, 0.5, 1.0, 2.0], size=N) if weighted else None
    trainer = Trainer(network, loss, optimizer, rng=0, **options)
    trainer.fit(x, y, sample_weight=weight, epochs=2, batch_size=6)
    return trainer


#: Tried by every run of the suite; the others, each of which takes half a second, by the slow one.
QUICK = {"layer Sequential-nested", "layer GaussianNoise", "loss SoftmaxCrossEntropy", "optimizer Adam", "clip by norm"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_the_bits_of_the_plain_step(name):
    """Of every member of the families; and nothing that is recorded is reduced by CUB."""
    with open_recorded(Portable), reductions_recorded() as reduced:
        captured = trained(Portable(), *CASES[name])
        assert_same_run(captured, trained(Plain(), *CASES[name]))
        loop = captured.stepper.loop
        if name in NOT_RECORDED:
            assert NOT_RECORDED[name] in loop.reason
            return
        assert loop.reason is None
        assert loop.graphs >= 1
        assert reduced or not name.startswith("loss")  # the portable forms do: so it is seen
    with open_recorded(Recorded) as backend, reductions_recorded() as reduced:
        assert trained(backend, *CASES[name]).stepper.loop.reason is None
        assert reduced == []


IMAGES = nn.Sequential(
    [
        *(nn.Conv2D(4), nn.ReLU(), nn.MaxPool2D(), nn.Conv2D(4, 2), nn.MaxPool2D((1, 2)), nn.ReLU()),
        *(nn.Flatten(), nn.Affine(3)),
    ]
)
HIDDEN = nn.Sequential([nn.Affine(9), nn.Tanh(), nn.Sequential([nn.Affine(8), nn.ReLU()]), nn.Affine(3)])

#: Trainings whose steps are made of groups.
GROUPED = {
    "one after the other": (case(HIDDEN, (4,)), {"activated", "activated_slopes", "head_rows", "head_columns"}),
    "images": (case(IMAGES, (6, 5, 2)), {"convolved_values", "convolved_slopes", "convolved_weights"}),
    "weights": (case(HIDDEN, (4,), optimizer=optim.Accumulate(3, optim.Adam()), weighted=True), {"head_rows"}),
    "penalties": (case(HIDDEN, (4,), regularizer=regularizers.ElasticNet(0.1), on_nonfinite="skip"), {"head_rows"}),
    "noise between": (
        case(nn.Sequential([nn.Affine(5), nn.GELU(), nn.Dropout(0.5), nn.Affine(2)]), (4,), losses.HalfSquaredError()),
        {"activated", "activated_slopes", "head_rows", "head_columns"},
    ),
}


@pytest.mark.parametrize("name", GROUPED)
def test_groups_have_the_bits_of_the_plain_step(name):
    arguments, kernels = GROUPED[name]
    with open_recorded(Recorded) as backend:
        with launches() as launched:
            captured = trained(backend, *arguments)
        assert captured.stepper.loop.reason is None
        assert kernels <= {*launched}
        assert_same_run(captured, trained(CupyOnHost(), *arguments))


@pytest.mark.parametrize("optimizer", [None, optim.Accumulate(3, optim.Adam())], ids=["one step", "steps in turn"])
def test_bits_do_not_depend_on_where_chunks_end(monkeypatch, optimizer):
    with open_recorded(Portable):
        in_chunks_of(monkeypatch, 1)
        alone = make(optimizer=optimizer)
        fit(alone)
        for sizes in ((2,), (3, 1), (100,)):
            in_chunks_of(monkeypatch, *sizes)
            again = make(optimizer=optimizer)
            fit(again)
            assert again.stepper.loop.reason is None
            assert_same_run(alone, again)


def test_chunks_that_are_longer_than_there_is_room_for(monkeypatch):
    from portnn_backends.on_cupy import loop as cupy_loop

    with open_recorded(Portable):
        monkeypatch.setattr(cupy_loop, "_MOST", 2)
        in_chunks_of(monkeypatch, 7)
        assert both(fit).stepper.loop.graphs == 2


def test_rows_of_steps_that_are_too_long_for_one_block(monkeypatch):
    from portnn_backends.on_cupy import chunk as cupy_chunk

    monkeypatch.setattr(cupy_chunk, "_BY_ONE_BLOCK", 40)
    with open_recorded(Portable), launches() as launched:
        in_chunks_of(monkeypatch, 3)
        both(fit)  # batches of 16 and of 2
    assert launched.count("take_turn") == 3 * launched.count("end_turn") / 4


def graphs_of(layers, shape, batch, optimizer=None):
    """The graphs of a training on pictures."""
    rng = np.random.default_rng(0)
    with open_recorded(Recorded) as backend:
        network = Network(nn.Sequential(layers), shape, device=backend, rng=0)
        trainer = Trainer(network, LABELS, optimizer or optim.Adam(), rng=0)
        trainer.fit(
            rng.integers(0, 256, (2 * batch, *shape), np.uint8), rng.integers(0, 3, 2 * batch), batch_size=batch
        )
        assert trainer.stepper.loop.reason is None
        return [graph for form in trainer.stepper.loop._forms.values() for graph in form.graphs.values()]


def test_how_many_launches_a_step_has():
    """Of the perceptron of scripts/models.py; 30 without groups."""
    hidden = [part for _ in range(2) for part in (nn.Affine(512), nn.ReLU())]
    (graph,) = graphs_of([nn.Flatten(), *hidden, nn.Affine(10)], (28, 28), 128)
    found = nodes(graph)
    forward = ["take", "divided_rows", *["product", "activated"] * 2, "head_rows", "head_columns"]
    assert found == [*forward, *["product"] * 2, "activated_slopes", "product", "adam", "end_turn"]
    assert len(found) == 14


def test_how_many_launches_a_step_of_a_convolutional_network_has():
    """Of the one of scripts/models.py; 46 without groups."""
    recipe = recipes()["cnn"]
    (graph,) = graphs_of(recipe.network((28, 28), 10, recipe.hidden).layers, (28, 28), 128)
    found = nodes(graph)
    affine = ["product", "activated", "head_rows", "head_columns", *["product"] * 2]
    back = ["convolved_slopes", "column_sums", "convolved_weights", "column_sums"]
    assert found == ["take", "divided_rows", *["convolved_values"] * 2, *affine, *back, "adam", "end_turn"]
    assert len(found) == 16


def stepped(counts):
    """A loop whose graphs do nothing, and what a chunk of some steps calls in it, by length."""
    trainer = make(layers=USUAL)
    data = Examples(trainer.network.backend.asarray(np.zeros((64, 6), np.uint8)),
                    trainer.network.backend.asarray(np.zeros(64, np.int64)))  # fmt: skip
    trainer.stepper.prepare(Recipe.of(trainer))
    loop = trainer.stepper.loop
    pieces = [Piece(data, np.arange(16)) for _ in range(max(counts))]
    for _ in range(2):
        trainer.stepper.advance(pieces[:2])
    seen, args, run = {}, [], loop.run

    def noted(*given):
        args.append(given)
        return run(*given)

    loop.run = noted
    for count in counts:
        trainer.stepper.advance(pieces[:count])
        calls = []
        sys.setprofile(lambda frame, event, arg, calls=calls: calls.append(event) if "call" in event else None)
        try:
            run(*args[-1])
        finally:
            sys.setprofile(None)
        seen[count] = len(calls)
    return seen


def test_a_step_takes_few_calls_of_the_host(monkeypatch):
    """One launch; and what is written into the row of the step is written for all of a chunk at once."""
    with open_recorded(Portable):
        monkeypatch.setattr(Graph, "launch", lambda self, stream=None: None)
        seen = stepped([64, 128])
    assert (seen[128] - seen[64]) / 64 <= 3
