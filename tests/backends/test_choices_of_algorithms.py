"""What a clock chose stays: for the process, for the machine and for the run. No GPU: see `cupy_on_host`."""

import copy
import json
import logging
import pickle

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import fake_cupy
from cupy_on_host.cublaslt import CublasLtImitation
from cupy_on_host.recorded import Portable, forget_choices, open_recorded
from portnn_backends.on_cupy import choices as cupy_choices
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy import plans as cupy_plans
from portnn_backends.on_cupy.choices import Choices, Machine
from portnn_backends.on_cupy.loop import GraphLoop
from portnn_backends.on_cupy.recording import Recorder
from recorded_runs import X, Y, bits, in_chunks_of, make

from portnn import losses, optim
from portnn.errors import ModelFileError
from portnn.functional.linear import matmul
from portnn.loop import Loop
from portnn.storage import read_tensors, write_tensors

folder_of_users = cupy_choices._folder
HERE = "the CPU, in CuPy's place, 1 multiprocessors, cuBLASLt 130100, CUDA 13000 of the driver"
FIRST, SECOND, THIRD = (0.02, 0.05, 0.05), (0.05, 0.02, 0.05), (0.05, 0.05, 0.02)  # which one is the fastest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every algorithm rounds otherwise, and choices are kept in a folder, which does not exist yet."""
    with open_recorded(Portable):
        monkeypatch.setattr(cupy_choices, "_folder", lambda: tmp_path / "kept")
        monkeypatch.setattr(cupy_plans, "_SMALL", 0)  # all of these products are
        monkeypatch.setattr(CublasLtImitation, "rounding", True)
        monkeypatch.setattr(CublasLtImitation, "needs", (4, 4, 4))
        the_fastest_is(FIRST, monkeypatch)
        yield tmp_path / "kept"


def the_fastest_is(durations, monkeypatch):
    monkeypatch.setattr(CublasLtImitation, "durations", durations)


def in_a_new_process():
    """Nothing is known but what is on disk."""
    forget_choices()


def product(columns=4, choices=None):
    """The number of the algorithm that a product is computed by, and how many were asked for."""
    recorder = Recorder(False, choices)
    a, b = (fake_cupy.asarray(np.ones(shape, np.float32)) for shape in ((8, 16), (16, columns)))
    recorder.compute(lambda: matmul(a, b))
    functions = recorder._products.lt._library._functions
    return functions.launched[-1][0], functions.asked - 4  # those were compared


# ---- for the machine


def test_a_choice_stays_in_the_process(monkeypatch):
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    assert product() == (0, 1)
    the_fastest_is(SECOND, monkeypatch)
    assert product() == (0, 0)
    assert product(5) == (1, 1)
    in_a_new_process()
    assert product() == (1, 1)


def test_a_choice_stays_on_disk(folder, monkeypatch):
    assert product() == (0, 1)
    in_a_new_process()
    the_fastest_is(SECOND, monkeypatch)
    assert product() == (0, 0)
    (file,) = folder.iterdir()
    said = json.loads(file.read_text(encoding="utf-8"))
    assert said["machine"] == HERE
    ((problem, algorithm),) = said["algorithms"].items()
    assert problem == "float32 1 x 8 16 4 N16+0 N4+0, at 256"
    assert len(bytes.fromhex(algorithm)) == 64


@pytest.mark.parametrize("changed", ["version", "device", "driver"])
def test_another_machine_chooses_for_itself(folder, monkeypatch, changed):
    assert product() == (0, 1)
    in_a_new_process()
    the_fastest_is(SECOND, monkeypatch)
    runtime = fake_cupy.cuda.runtime
    if changed == "version":
        monkeypatch.setattr(CublasLtImitation, "version", 130200)
    elif changed == "driver":
        monkeypatch.setattr(runtime, "driverGetVersion", lambda: 13010)
    else:
        other = {"name": b"the CPU, in CuPy's place", "multiProcessorCount": 2}
        monkeypatch.setattr(runtime, "getDeviceProperties", lambda number: other)
    assert product() == (1, 1)
    assert len(list(folder.iterdir())) == 2


def test_processes_side_by_side(folder, monkeypatch):
    """What each of them has chosen is kept; what another one has chosen meanwhile is taken over."""
    ours, theirs = Machine("m"), Machine("m")
    ours.put("a", "0" * 128)
    ours.write()
    assert theirs.get("a") == "0" * 128
    theirs.put("b", "1" * 128)
    ours.put("c", "2" * 128)
    theirs.write()
    ours.write()
    assert [Machine("m").get(name) for name in "abcd"] == ["0" * 128, "1" * 128, "2" * 128, None]
    assert ours.get("b") == "1" * 128
    assert theirs.get("c") == "2" * 128
    (file,) = folder.iterdir()
    before = file.stat().st_mtime_ns, file.stat().st_ino
    ours.write()  # nothing is new
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_a_folder_that_cannot_be_written_to(folder, caplog, monkeypatch):
    folder.write_text("a file", encoding="utf-8")
    assert product() == (0, 1)
    assert product(5) == (0, 1)
    the_fastest_is(SECOND, monkeypatch)
    assert product() == (0, 0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "cannot be kept on disk, so each process times them: FileExistsError" in record.getMessage()


def damage(text):
    said = json.loads(text)
    ((problem, algorithm),) = said["algorithms"].items()
    yield text[: len(text) // 2]
    yield ""
    yield "[]"
    yield "\x00" * 100
    yield json.dumps(said | {"machine": "another one"})
    yield json.dumps(said | {"algorithms": [algorithm]})
    yield json.dumps(said | {"algorithms": {problem: 3}})
    yield json.dumps(said | {"algorithms": {problem: algorithm[:-2]}})
    yield json.dumps(said | {"algorithms": {problem: algorithm.replace("6e", "6f", 1)}})
    yield json.dumps({"machine": said["machine"], "algorithms": said["algorithms"]})


@pytest.mark.parametrize("number", range(10))
def test_a_damaged_file_is_read_as_empty(folder, monkeypatch, caplog, number):
    product()
    (file,) = folder.iterdir()
    whole = file.read_text(encoding="utf-8")
    file.write_text(list(damage(whole))[number], encoding="utf-8")
    in_a_new_process()
    the_fastest_is(SECOND, monkeypatch)
    assert product() == (1, 1)
    (record,) = caplog.records
    assert f"{file} cannot be read, and products are timed anew: " in record.getMessage()
    assert json.loads(file.read_text(encoding="utf-8"))["machine"] == HERE
    in_a_new_process()
    assert product() == (1, 0)


def test_a_file_that_is_none_of_text(folder, caplog):
    product()
    (file,) = folder.iterdir()
    file.write_bytes(b"\xff\xfe\xfd")
    in_a_new_process()
    assert product() == (0, 1)
    assert "cannot be read" in caplog.text


def test_an_algorithm_that_is_of_no_use_any_more(folder, monkeypatch, caplog):
    """It is checked before it is used; and chosen anew for everybody."""
    the_fastest_is(THIRD, monkeypatch)
    assert product() == (2, 1)
    in_a_new_process()
    the_fastest_is(FIRST[:2], monkeypatch)  # there is no third one now
    assert product() == (0, 1)
    (record,) = caplog.records
    assert "cannot be used, and one is chosen anew (cublasLtMatmulAlgoCheck of cuBLASLt failed" in record.getMessage()
    in_a_new_process()
    the_fastest_is(THIRD, monkeypatch)
    assert product() == (0, 0)
    in_a_new_process()
    monkeypatch.setattr(CublasLtImitation, "space", (2**26, 0, 0))  # it needs more room than there is
    assert product() == (2, 1)
    assert "it needs 67,108,864 bytes to work in, and there are 65,536" in caplog.text


def test_an_algorithm_that_is_checked_and_fails(monkeypatch, caplog):
    """NVIDIA does not promise that what its check lets pass can be launched."""
    assert product() == (0, 1)
    in_a_new_process()
    real = CublasLtImitation.cublasLtMatmul

    def the_first_one_fails(self, *args):
        compared = len(self.launched) < 4
        return 13 if args[-4]._obj.data[1] == 0 and not compared else real(self, *args)

    monkeypatch.setattr(CublasLtImitation, "cublasLtMatmul", the_first_one_fails)
    the_fastest_is(THIRD, monkeypatch)
    assert product() == (2, 1)
    (record,) = caplog.records
    assert "one is chosen anew (cublasLtMatmul of cuBLASLt failed with status 13" in record.getMessage()


def test_where_choices_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cupy"))
    assert folder_of_users() == tmp_path / "cupy"
    monkeypatch.delenv("CUPY_CACHE_DIR")
    monkeypatch.setattr(cupy_choices.os, "name", "posix")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of_users() == tmp_path / "portnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(cupy_choices.Path, "home", lambda: tmp_path / "somebody")
    assert folder_of_users() == tmp_path / "somebody" / ".cache" / "portnn"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cupy_choices.Path, "home", homeless)
    assert folder_of_users() is None


# ---- for the run


def test_choices_go_along_with_a_run(monkeypatch, caplog):
    first = Choices()
    assert product(choices=first) == (0, 1)
    told = json.loads(json.dumps(first.told()))
    assert told["machine"] == HERE
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(SECOND, monkeypatch)
    again = Choices()
    again.adopt(told)
    assert again.told() == told  # before the first product
    assert product(choices=again) == (0, 0)
    assert product(5, choices=again) == (1, 1)
    assert again.told()["algorithms"].items() > told["algorithms"].items()
    assert not caplog.records


def test_the_run_goes_before_the_machine(monkeypatch):
    first = Choices()
    product(choices=first)
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(SECOND, monkeypatch)
    assert product() == (1, 1)  # the machine's
    again = Choices()
    again.adopt(first.told())
    assert product(choices=again) == (0, 0)
    assert product() == (1, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"machine": "another one", "algorithms": {"a": "0" * 128}},
        {"machine": HERE, "algorithms": {"a": "0"}},
        {"machine": HERE, "algorithms": 3},
        {"something": "else"},
    ],
)
def test_choices_of_elsewhere_are_made_anew(said, caplog):
    choices = Choices()
    choices.adopt(said)
    assert product(choices=choices) == (0, 1)
    (record,) = caplog.records
    where = said.get("machine")
    reason = "what it brought along is damaged" if where == HERE else f"they were chosen on {where}, not on the CPU"
    assert f"are chosen anew, so results differ by rounding: {reason}" in record.getMessage()
    assert choices.told()["machine"] == HERE
    assert "a" not in choices.told()["algorithms"]


def trained(epochs=2, **options):
    trainer = make(optimizer=optim.Adam(lr=0.01), **options)
    trainer.fit(X, Y, epochs=epochs, batch_size=16)
    assert trainer.stepper.loop.reason is None
    return trainer


def test_the_first_step_goes_by_the_same_algorithms(monkeypatch):
    """It is computed at once: a run all of whose steps are has the bits of one that is recorded."""
    the_fastest_is(SECOND, monkeypatch)
    recorded = trained()
    assert recorded.stepper.loop.graphs == 2
    real = GraphLoop._rehearse

    def rehearse(self, recorder, form, chunk, data, turn):
        real(self, recorder, form, chunk, data, turn)
        form.rehearsed.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphLoop, "_rehearse", rehearse)
        at_once = trained()
        assert at_once.stepper.loop.graphs == 0
    assert bits(at_once) == bits(recorded)
    # So that this can fail: another algorithm has other bits.
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(FIRST, monkeypatch)
    assert bits(trained()) != bits(recorded)


def test_two_runs_on_one_machine_have_the_same_bits(monkeypatch):
    first = trained()
    in_a_new_process()
    the_fastest_is(SECOND, monkeypatch)
    assert bits(trained()) == bits(first)


@pytest.mark.parametrize("how", ["saved", "pickled", "copied"])
def test_a_run_that_goes_on_keeps_its_algorithms(tmp_path, monkeypatch, how):
    """On a machine that has forgotten everything, and whose clock says otherwise."""
    whole = trained(4)
    half = trained(2)
    assert half.stepper.choices["algorithms"]
    path = tmp_path / "run.safetensors"
    keep = {"saved": lambda trainer: trainer.save(path), "pickled": pickle.dumps, "copied": copy.deepcopy}[how]
    kept = keep(half)
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(SECOND, monkeypatch)
    if how == "saved":
        rest = make(optimizer=optim.Adam(lr=0.01))
        rest.load(path)
        assert rest.stepper.choices == half.stepper.choices
        rest.save(path)  # before a step was done
        rest.load(path)
    else:
        rest = pickle.loads(kept) if how == "pickled" else kept
    rest.fit(X, Y, epochs=2, batch_size=16)
    assert bits(rest) == bits(whole)
    assert rest.stepper.choices == half.stepper.choices
    # So that this can fail: without the choices, the bits are others.
    in_a_new_process()
    rest = make(optimizer=optim.Adam(lr=0.01))
    half.stepper.loop._choices.adopt({})
    half.stepper.loop._choices._taken.clear()
    half.save(path)
    rest.load(path)
    rest.fit(X, Y, epochs=2, batch_size=16)
    assert bits(rest) != bits(whole)


def test_new_steps_of_the_same_run(monkeypatch):
    """As where somebody changes the loss: the loop is another one, and the run is the same."""
    trainer = trained(1)
    before = trainer.stepper.choices
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(SECOND, monkeypatch)
    loop = trainer.stepper.loop
    trainer.loss = losses.SoftmaxCrossEntropy(label_smoothing=0.1)
    trainer.fit(X, Y, epochs=1, batch_size=16)
    assert trainer.stepper.loop is not loop
    assert trainer.stepper.choices == before


def test_another_file_brings_other_choices(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    trained(1).save(path)
    in_a_new_process()
    monkeypatch.setattr(cupy_choices, "_folder", lambda: None)
    the_fastest_is(SECOND, monkeypatch)
    trainer = trained(1)
    own = trainer.stepper.choices
    trainer.load(path)
    assert trainer.stepper.choices != own
    trainer.fit(X, Y, epochs=1, batch_size=16)
    assert trainer.stepper.choices["algorithms"].keys() == own["algorithms"].keys()
    assert trainer.stepper.choices != own


@pytest.mark.parametrize("said", [None, 3, "text", [1]])
def test_choices_in_a_file_that_are_none(tmp_path, said):
    path = tmp_path / "run.safetensors"
    trainer = trained(1)
    trainer.save(path)
    tensors, metadata = read_tensors(path)
    training = json.loads(metadata["training"])
    write_tensors(path, tensors, metadata | {"training": json.dumps(training | {"choices": said})})
    with pytest.raises(ModelFileError, match=r"does not fit its own description: the choices of its training are"):
        trainer.load(path)


def test_a_file_without_choices(tmp_path):
    """Of another device, or an older version."""
    path = tmp_path / "run.safetensors"
    trainer = trained(1)
    trainer.save(path)
    tensors, metadata = read_tensors(path)
    training = json.loads(metadata["training"])
    del training["choices"]
    write_tensors(path, tensors, metadata | {"training": json.dumps(training)})
    trainer.load(path)
    assert trainer.stepper.choices == {}


def test_other_loops_have_nothing_to_choose():
    loop = Loop(Portable(), ())
    loop.adopt({"machine": "another one"})
    assert loop.choices == {}


def test_bits_do_not_depend_on_where_chunks_end(monkeypatch):
    the_fastest_is(SECOND, monkeypatch)
    in_chunks_of(monkeypatch, 1)
    alone = trained()
    in_chunks_of(monkeypatch, 3, 1)
    assert bits(trained()) == bits(alone)


def test_nothing_is_done_when_a_graph_is_launched(monkeypatch):
    """After the steps are recorded, cuBLASLt is not called any more."""
    made = []

    class Seen(CublasLtImitation):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(cupy_lt, "_load", Seen)
    trainers = trained(2), trained(6)
    assert [trainer.stepper.loop.graphs for trainer in trainers] == [2, 2]
    short, long = (len([how for _, how in functions.launched if how == "captured"]) for functions in made)
    timed = 2 * 3 * 2 * 5  # in a row, of three algorithms, for the products of two shapes of batches
    assert (short, long) == (timed + 2 * 5, 2 * 5)
    assert cupy_plans.tell.cache_info().currsize == 0
