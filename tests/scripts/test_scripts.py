"""The scripts, as a person runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from idx_files import idx_bytes, small_mnist
from places import ROOT
from programs import TRAIN, refused, script

from portnn import Network, nn, tree


def test_train_then_predict(tmp_path):
    model, result = tmp_path / "m.safetensors", tmp_path / "r.json"
    done = script(*TRAIN, "--data", "digits", "--save", model, "--json", result)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    first, second = (line for line in lines if line.startswith("epoch "))
    assert re.search(r" s, about \d+ s left$", first)
    assert second.endswith(" s")
    assert lines[-1].startswith("test accuracy ")
    accuracy = lines[-1].split()[2]

    report = json.loads(result.read_text(encoding="utf-8"))
    assert report["config"]["hidden"] == [16]
    assert len(report["epochs"]) == 2
    assert {"epoch", "loss", "seconds", "val_accuracy"} <= report["epochs"][0].keys()
    assert f"{report['test']['accuracy']:.2%}" == accuracy
    assert report["environment"]["blas"]["kernel"]
    assert report["environment"]["versions"]["numpy"] == np.__version__

    again = script("scripts/predict_mnist.py", "--model", model)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"test accuracy {accuracy} on digits: ")


def test_the_time_that_is_left(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import time_left

    clock = iter([0.0, 100.0, 110.0, 130.0, 140.0])
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: next(clock))
    left = time_left.TimeLeft()
    # After the first part there is nothing better than that one, which also compiles.
    assert [left.after_part(more) for more in (3, 2, 1, 0)] == [
        ", about 5 min left",
        ", about 20 s left",
        ", about 15 s left",
        "",
    ]
    seconds = {
        0.2: "1 s",
        59.4: "59 s",
        59.6: "1 min",
        3599.0: "1 h 00 min",
        11_100.0: "3 h 05 min",
        187_200.0: "2 d 4 h",
    }
    assert {number: time_left.duration(number) for number in seconds} == seconds


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers():
    outputs = [script(*TRAIN, "--data", "digits", "--seed", seed).stdout for seed in ("0", "0", "1")]
    curves = [[line.split("  ")[1:3] for line in text.splitlines() if line.startswith("epoch")] for text in outputs]
    assert curves[0] == curves[1] != curves[2]


def test_mnist_from_a_folder(tmp_path):
    small_mnist(tmp_path)
    for done in (
        script(*TRAIN, "--data", "mnist", "--data-dir", tmp_path, "--batch-size", "1000"),
        script(*TRAIN, PORTNN_DATA_DIR=str(tmp_path)),
    ):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("mnist: 20 training and 10 test images, on numpy:cpu")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_optimizers(optimizer):
    done = script(*TRAIN, "--data", "digits", "--optimizer", optimizer, "--lr", "0.01")
    assert done.returncode == 0, done.stderr


def report_of(path, *arguments):
    """What a run on the digits wrote as JSON."""
    done = script(TRAIN[0], "--data", "digits", "--json", path, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_cnn_learns(tmp_path):
    model = tmp_path / "m.safetensors"
    report = report_of(tmp_path / "r.json", "--model", "cnn", "--batch-size", "32", "--save", model)
    first, *_, last = (record["val_accuracy"] for record in report["epochs"])
    assert len(report["epochs"]) == 3
    assert first < last
    assert last > 0.85
    predicted = script("scripts/predict_mnist.py", "--model", model).stdout
    assert predicted.startswith(f"test accuracy {last:.2%} on digits: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "hidden", "batch_size", "epochs", "optimizer"),
    [
        ([], [512, 512], 128, 5, "Adam(lr=0.001, "),
        (["--model", "cnn-best", "--epochs", "1"], [128], 128, 1, "Adam(lr=OneCycle(lr=0.005, steps=12, "),
        (["--model", "cnn-fast", "--epochs", "1"], [128], 256, 1, "Adam(lr=OneCycle(lr=0.01, steps=6, "),
        (["--model", "cnn-fast", "--lr", "0.02"], [128], 256, 3, "Adam(lr=OneCycle(lr=0.02, steps=18, "),
        (
            ["--model", "cnn-fast", "--hidden", "--batch-size", "100", "--optimizer", "momentum"],
            *([], 100, 3, "Momentum(lr=OneCycle(lr=0.01, steps=45, "),
        ),
    ],
)
def test_recipes_and_what_overrides_them(tmp_path, arguments, hidden, batch_size, epochs, optimizer):
    report = report_of(tmp_path / "r.json", *arguments)
    config = report["config"]
    assert (config["hidden"], config["batch_size"], config["epochs"]) == (hidden, batch_size, epochs)
    assert len(report["epochs"]) == epochs
    assert report["optimizer"].startswith(optimizer)


@pytest.mark.slow
def test_augmentation_changes_what_is_learnt(tmp_path):
    plain, augmented = (report_of(tmp_path / "r.json", "--epochs", "1", *more) for more in ([], ["--augment"]))
    assert plain["epochs"][0]["loss"] < augmented["epochs"][0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_plots(tmp_path, model):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "pictures"
    done = script(TRAIN[0], "--data", "digits", "--epochs", "1", "--model", model, "--plots", folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "filters.png", "misclassified.png"]
    for path in folder.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        assert f"wrote {path}\n" in done.stdout


def test_plots_are_refused_before_the_training(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "filters.png").mkdir()
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "matplotlib.py").write_text("raise ImportError", encoding="utf-8")

    def plots(folder, **environment):
        done = script(*TRAIN, "--data", "digits", "--plots", folder, **environment)
        assert done.stdout == ""
        return refused(done)

    assert plots(tmp_path, PYTHONPATH=str(tmp_path / "without")).startswith("error: drawing needs matplotlib: pip")
    pytest.importorskip("matplotlib")
    assert "file is no folder" in plots(tmp_path / "file" / "pictures")
    assert "filters.png cannot be written: it is there, and no ordinary file" in plots(tmp_path)


def test_falls_back_to_the_digits_visibly(tmp_path):
    """With no network (a proxy that refuses) and no cache, one line says so."""
    nowhere = "http://127.0.0.1:9"
    environment = {"HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": ""}
    environment |= {key.lower(): value for key, value in environment.items() if "PROXY" in key}
    done = script(*TRAIN, **environment)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("NOTE: MNIST is not on this machine and cannot be downloaded")
    assert first.endswith("Training on the 1,797 digits of scikit-learn instead.")
    assert "cannot be downloaded" in refused(script(*TRAIN, "--data", "mnist", **environment))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--backend", "abacus"], "unknown device 'abacus'"),
        (["--batch-size", "0"], "batch_size must be a positive int, not 0"),
        (["--epochs", "0"], "epochs must be a positive int, not 0"),
        (["--hidden", "0"], "units must be a positive int, not 0"),
        (["--lr", "-1"], "lr must be a number in (0, inf), not -1.0"),
        (["--seed", "-1"], "seed must be an int in 0 .. 2**64 - 1, not -1"),
        (["--lr", "1e38", "--optimizer", "sgd"], "the loss is"),
        (["--save", "no/such/folder/m.safetensors"], "cannot be written: there is no folder"),
        (["--json", "."], "cannot be written: it is there, and no ordinary file"),
        (["--data-dir", "nowhere"], "no MNIST in nowhere"),
    ],
)
def test_bad_arguments(arguments, sentence):
    data = [] if "--data-dir" in arguments else ["--data", "digits"]
    assert sentence in refused(script(*TRAIN, *data, *arguments))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_labels": idx_bytes(np.zeros(19, np.uint8))}, "has 20 images, but"),
        ({"train_labels": idx_bytes(np.full(20, 11, np.uint8))}, "holds the label 11"),
        ({"t10k_images": idx_bytes(np.zeros((10, 28, 28), np.uint8))[:-1]}, "is truncated"),
        ({"t10k_images": b"\0\0\1\1" + b"\0" * 40}, "is no idx file: it begins with 00 00 01 01"),
    ],
)
def test_damaged_data_are_an_error_and_not_replaced(tmp_path, changes, sentence):
    small_mnist(tmp_path / "mnist", **changes)
    assert sentence in refused(script(*TRAIN, PORTNN_DATA_DIR=str(tmp_path)))


def test_corrupt_gzip(tmp_path):
    small_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "is a corrupt gzip file" in refused(script(*TRAIN, "--data-dir", tmp_path))
    path.write_bytes(content[:1000])
    assert "train-images-idx3-ubyte.gz is" in refused(script(*TRAIN, "--data-dir", tmp_path))


def test_predict_refuses_what_does_not_fit(tmp_path):
    def predict(*arguments):
        return refused(script("scripts/predict_mnist.py", "--model", *arguments))

    assert "there is no such model file" in predict(tmp_path / "none")
    (tmp_path / "text").write_text("text", encoding="utf-8")
    assert "no safetensors file" in predict(tmp_path / "text")
    Network(nn.Affine(3), 4).save(tmp_path / "other")
    assert "takes rows of shape (4,); known images are" in predict(tmp_path / "other")
    Network(nn.Affine(10), 4).save(tmp_path / "ten")
    assert "x has shape (360, 8, 8); the network takes (n, 4)" in predict(tmp_path / "ten", "--data", "digits")
    Network(nn.Sequential([nn.Flatten(), nn.Affine(3)]), (8, 8)).save(tmp_path / "three")
    assert "has outputs of shape (3,); digits has 10 classes" in predict(tmp_path / "three")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for other processes")
def test_ctrl_c_saves_and_ends(tmp_path):
    model = tmp_path / "m.safetensors"
    command = [sys.executable, "-u", *TRAIN[:1], "--epochs", "100000", "--data", "digits", "--save", str(model)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == ""
    assert "interrupted in epoch" in output
    accuracy = output.splitlines()[-1].split()[2]
    assert f"test accuracy {accuracy}" in script("scripts/predict_mnist.py", "--model", model).stdout


@contextmanager
def started(*arguments, until):
    """The process of a script that has just printed a line that begins so."""
    command = [sys.executable, "-u", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any(line.startswith(until) for line in process.stdout), process.stderr.read()
            yield process
        finally:
            process.kill()


def curves(path):
    """What a run recorded, but for its times."""
    records = json.loads(path.read_text(encoding="utf-8"))["epochs"]
    return [{k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")} for record in records]


RUN = [
    "scripts/train_mnist.py",
    "--data",
    "digits",
    "--hidden",
    "64",
    "--augment",
    "--batch-size",
    "16",
    "--epochs",
    "3",
]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for other processes")
def test_a_run_that_was_ended_is_resumed(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log.jsonl"
    saving = [*RUN, "--checkpoint", folder, "--log", log, "--resume"]
    with started(*saving, until="epoch 1/") as process:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 143, errors
    assert "interrupted in epoch 2, after" in output
    done = script(*saving, "--json", tmp_path / "resumed.json", "--save", tmp_path / "resumed")
    assert done.returncode == 0, done.stderr
    assert f"resumed {folder}/checkpoint-" in done.stdout
    alone = script(*RUN, "--json", tmp_path / "alone.json", "--save", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert curves(tmp_path / "resumed.json") == curves(tmp_path / "alone.json")
    nets = [Network.load(tmp_path / name) for name in ("resumed", "alone")]
    tree.map(np.testing.assert_array_equal, *(net.params for net in nets))
    assert [json.loads(line)["epoch"] for line in log.read_text(encoding="utf-8").splitlines()] == [1, 2, 3]


@pytest.mark.slow
def test_a_run_that_had_ended_is_resumed_to_its_result(tmp_path):
    saving = [*RUN, "--checkpoint", tmp_path / "run"]
    done = script(*saving, "--resume")
    assert f"no checkpoint in {tmp_path}/run yet: the run begins anew" in done.stdout
    assert f"{tmp_path}/run has checkpoints of another run, up to checkpoint-" in refused(script(*saving))
    again = script(*saving, "--resume")
    assert again.returncode == 0, again.stderr
    assert "epoch 3/" not in again.stdout
    assert again.stdout.splitlines()[-1].split()[2] == done.stdout.splitlines()[-1].split()[2]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for other processes")
def test_a_second_signal_ends_at_once(tmp_path):
    """Without waiting for what the first one waits for."""
    code = """
import time
import numpy as np
from portnn import Network, Trainer, losses, nn, optim
from portnn.training import Callback, stop_on_signals
class Endless(Callback):
    def on_epoch_end(self, trainer, record):
        print("here", flush=True)
        time.sleep(60)
trainer = Trainer(Network(nn.Affine(1), 1), losses.HalfSquaredError(), optim.SGD(), callbacks=[Endless()])
with stop_on_signals(trainer):
    trainer.fit(np.ones((4, 1)), np.ones((4, 1)))
"""
    with started("-c", code, until="here") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.slow
def test_resume_needs_a_folder():
    assert "--resume needs --checkpoint DIR" in refused(script(*TRAIN, "--data", "digits", "--resume"))


@pytest.mark.slow
def test_kills_at_random_moments():
    done = script("scripts/kill_and_resume.py", "--kills", "5")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1].startswith("5 kills, ")
    assert done.stdout.splitlines()[-1].endswith("all equal to the one left alone")


@pytest.mark.slow
def test_damaged_files_are_read_or_refused():
    pytest.importorskip("pandas")
    done = script("scripts/fuzz_readers.py", "--count", "200", "--seed", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    rows = [line.split() for line in done.stdout.splitlines()[:-1]]
    readers = ["idx", "idx.gz", "network", "checkpoint", "jsonl", "csv", "songs", "songs.gz", "songs.zip"]
    assert [row[0] for row in rows] == [*readers, "table", "table.gz"]
    assert all(int(row[1]) + int(row[3]) == 200 and int(row[3]) > 50 for row in rows)


@pytest.mark.slow
def test_compare_backends():
    done = script("benchmarks/compare_backends.py", "--data", "digits", "--steps", "5", "--backends", "numpy", "numpy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" equal ") == 4
    assert done.stdout.endswith("all promises hold\n")


def test_import_time_prints_its_table():
    done = script("benchmarks/import_time.py", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["import", "numpy", "portnn", "portnn,"]


def test_random_expressions_are_differentiated():
    done = script("scripts/fuzz_autodiff.py", "--count", "20", "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 expressions, whose derivatives are ")
