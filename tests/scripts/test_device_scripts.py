"""compare_devices.py and gpu_check.py, as a person runs them where there is no GPU."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_on_host import COMPILER, launches, open_cupy_on_host
from lanes import STATUS
from places import ROOT
from programs import refused, script

from portnn.data import Dataset
from portnn.errors import PortnnError

no_gpu = pytest.mark.skipif(STATUS["cupy"].usable, reason="this machine has a GPU")


@pytest.mark.slow
def test_compare_devices(tmp_path):
    result, picture = tmp_path / "r.json", tmp_path / "p.png"
    done = script(
        *("benchmarks/compare_devices.py", "--data", "digits", "--devices", "cpu", "strict", "gpu"),
        *("--models", "small", "--batch-sizes", "8..16", "--steps", "3", "--json", result, "--picture", picture),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(result.read_text(encoding="utf-8"))
    runs = report["runs"]
    names = ["cpu", "strict"] + ([] if "gpu" in report["left_out"] else ["gpu"])
    assert [(run["batch_size"], run["name"]) for run in runs] == [(size, name) for size in (8, 16) for name in names]
    for run in runs:
        assert run["loss_difference"] < 1e-6
        assert len(run["losses"]) == 3
        assert run["steps"] == 12
        # 784-100-10 is 64-100-10 on the digits: 2 for the first layer, 3 for the second, 2 operations each.
        assert run["operations"] == 2 * run["batch_size"] * (2 * 64 * 100 + 3 * 100 * 10)
        assert run["samples_per_second"] == pytest.approx(1e6 * run["batch_size"] / run["step"])
        assert run["epoch"] == pytest.approx(60_000 / run["samples_per_second"])
        ceiling = report["devices"][run["name"]]["ceiling_gflops"]
        assert run["of_ceiling"] == pytest.approx(run["operations"] / run["step"] / 1e3 / ceiling)
        assert 0 < run["accuracy"] < 1
    first, second = runs[0], runs[1]
    assert (first["speed_up"], second["speed_up"]) == (1.0, pytest.approx(first["step"] / second["step"]))
    assert picture.read_bytes().startswith(b"\x89PNG")
    if not STATUS["cupy"].usable:
        assert report["left_out"]["gpu"] == STATUS["cupy"].message
        assert f"left out: gpu: {STATUS['cupy'].message}" in done.stdout


@pytest.mark.slow
def test_what_compare_devices_refuses(tmp_path):
    def sentence(*arguments):
        return refused(script("benchmarks/compare_devices.py", "--data", "digits", *arguments))

    assert "a batch size is a number, or a range such as 32..8192, not '32..'" in sentence("--batch-sizes", "32..")
    assert "the range 64..32 goes down" in sentence("--batch-sizes", "64..32")
    assert "steps must be a positive int, not 0" in sentence("--steps", "0")
    assert "there is no folder" in sentence("--json", tmp_path / "none" / "r.json")


@pytest.mark.slow
@no_gpu
def test_without_a_device_there_is_nothing_to_compare():
    done = script("benchmarks/compare_devices.py", "--data", "digits", "--devices", "gpu")
    assert done.returncode == 2
    assert done.stderr == f"error: gpu: {STATUS['cupy'].message}\n"


@pytest.mark.slow
def test_tf32_where_there_is_none():
    done = script(
        *("benchmarks/compare_devices.py", "--data", "digits", "--devices", "cpu", "--models", "small"),
        *("--batch-sizes", "8", "--steps", "2", "--precision", "tf32"),
    )
    assert done.returncode == 0, done.stderr
    assert "NOTE: cpu computes in float32: backend numpy:cpu cannot multiply in TF32" in done.stdout


def test_peers_that_know_no_such_precision(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from peers import PEERS
    from peers.process import _made

    with pytest.raises(PortnnError, match="^torch is not told about precision bf16 yet$"):
        _made(PEERS["torch eager"], "bf16")
    with pytest.raises(PortnnError, match="^keras is not told about precision tf32 yet$"):
        _made(next(peer for peer in PEERS.values() if peer.module == "with_keras"), "tf32")
    assert _made(PEERS["portnn numpy"], "bf16") == PEERS["portnn numpy"].make


@pytest.mark.slow
@no_gpu
def test_gpu_check_says_what_is_missing(tmp_path):
    sentence = refused(script("scripts/gpu_check.py", "--json", tmp_path / "r.json"))
    assert sentence == f"error: {STATUS['cupy'].message}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_check_holds_on_a_device_that_is_there(tmp_path):
    if not STATUS["torch"].usable:
        pytest.skip(STATUS["torch"].message)
    result = tmp_path / "r.json"
    done = script(
        *("scripts/gpu_check.py", "--device", "torch", "--data", "digits", "--steps", "10", "--json", result),
        *("--tests", "tests/backends/test_kernels.py", "--models", "small", "--batch-sizes", "32"),
        *("--checks", "tests", "kernels", "curve", "compiled", "precision", "memory", "comparison"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n7 of 7 checks held on torch, cpu\n" in done.stdout
    report = json.loads(result.read_text(encoding="utf-8"))
    assert report["held"] is True
    assert report["checks"]["tests"]["passed"] > 20
    assert "erf" in report["checks"]["kernels"]["kernels"]
    assert report["checks"]["compiled"]["difference"] == 0.0
    assert report["checks"]["precision"]["float32"] < 1e-5
    assert [run["name"] for run in report["checks"]["comparison"]["runs"]] == ["cpu", "torch"]


@pytest.mark.slow
def test_a_check_that_fails_is_told(tmp_path):
    """No test is left to run, and there is no such batch size: the page says so, and goes on."""
    result = tmp_path / "r.json"
    done = script(
        *("scripts/gpu_check.py", "--device", "strict", "--checks", "tests", "precision", "comparison"),
        *("--tests", "tests/none.py", "--batch-sizes", "none", "--data", "digits", "--json", result),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith(("held", "FAILED"))]
    assert lines == [["FAILED", "tests"], ["held", "precision"], ["FAILED", "comparison"]]
    assert "1 of 3 checks held on strict" in done.stdout
    assert json.loads(result.read_text(encoding="utf-8"))["held"] is False


@pytest.fixture
def checks(monkeypatch):
    """The modules of gpu_check.py, and how a check is made that has so many seconds."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import finding
    import gpu_bandwidth
    import gpu_check
    import gpu_speed
    import gpu_trials
    import peers.process

    def check(seconds=60, **options):
        given = {"data": "auto", "data_dir": None, "fills": 4} | options
        return gpu_check.Check("cpu", SimpleNamespace(seconds=seconds, **given))

    return SimpleNamespace(
        check=check, finding=finding, bandwidth=gpu_bandwidth, speed=gpu_speed, trials=gpu_trials, process=peers.process
    )


def with_precisions(monkeypatch, check, *precisions):
    """A device that has some precisions beside float32."""
    usual = check.backend.with_precision
    monkeypatch.setattr(check.backend, "with_precision", lambda p: check.backend if p in precisions else usual(p))
    return check


def test_speed_is_measured_in_turn(monkeypatch, checks):
    """A process for each run, round by round; what cannot be run is left out once, and said."""
    jobs = []

    def in_process(job, seconds):
        jobs.append(job)
        if job.peer == "torch CUDA graph":
            raise PortnnError("torch finds no CUDA GPU")
        return {"step": 10.0 * len(jobs)}

    monkeypatch.setattr(checks.process, "in_process", in_process)
    finding = with_precisions(monkeypatch, checks.check(), "tf32").speed()
    assert finding.held
    assert [job.peer for job in jobs[:4]] == ["cpu", *checks.speed.PEERS]
    assert len(jobs) == 3 * 16 - 2 * 4
    assert {job.data for job in jobs} == {"noise"}
    cases = [(job.model, job.batch_size, job.precision, job.steps) for job in jobs[:16:4]]
    assert cases == [tuple(case) for case in checks.speed.CASES if case.precision != "bf16"]
    assert {job.steps for job in jobs if job.model != "wide"} == {400}
    assert finding.more["us_per_step"]["mlp, 128, float32: cpu"] == [10.0, 170.0, 290.0]
    assert finding.more["median"]["mlp, 128, float32: cpu"] == 170.0
    lines = finding.line.splitlines()
    assert lines[1].split() == " ".join(["cpu", *checks.speed.PEERS]).split()
    # The first run of the peer that failed is the only one of it.
    assert lines[2].split() == ["mlp,", "128,", "float32", "170.0", "180.0", "-", "190.0"]
    assert finding.line.count("torch finds no CUDA GPU") == 1
    assert list(finding.more["left_out"].values()).count("torch finds no CUDA GPU") == 4
    assert [name for name in finding.more["left_out"] if "bf16" in name] == ["mlp, 128, bf16", "wide, 8192, bf16"]


def test_speed_in_every_precision_that_there_is(monkeypatch, checks):
    jobs = []
    monkeypatch.setattr(checks.process, "in_process", lambda job, seconds: jobs.append(job) or {"step": 1.0})
    finding = with_precisions(monkeypatch, checks.check(), "tf32", "bf16").speed()
    assert finding.held
    assert {job.precision for job in jobs} == {"float32", "tf32", "bf16"}
    assert finding.more["left_out"] == {}


def test_speed_without_time(monkeypatch, checks):
    """The device itself is measured all the same, once, if it is not too slow; a peer is given what is left."""
    jobs = []

    def in_process(job, seconds):
        jobs.append((job.peer, seconds))
        return {"step": 1.0}

    monkeypatch.setattr(checks.process, "in_process", in_process)
    check = with_precisions(monkeypatch, checks.check(seconds=0), "tf32")
    finding = check.speed()
    assert finding.held
    assert jobs == [("cpu", 30.0)] * 4
    assert list(finding.more["left_out"].values()).count("there was no time left") == 3 * 4
    monkeypatch.setattr(check.budget, "left", lambda: 11.0)
    jobs.clear()
    check.speed()
    assert set(jobs) == {("cpu", 30.0), ("cpu", 11.0), *((peer, 11.0) for peer in checks.speed.PEERS)}

    def too_slow(job, seconds):
        if (job.peer, job.model) == ("cpu", "cnn"):
            raise TimeoutError(f"it was not done after {seconds:.0f} s")
        return {"step": 1.0}

    monkeypatch.setattr(checks.process, "in_process", too_slow)
    finding = check.speed()
    assert finding.held
    assert "left out: cnn, 128, float32: cpu (it was not done after 30 s)" in finding.line


def test_a_device_that_fails_is_no_speed(monkeypatch, checks):
    def in_process(job, seconds):
        if (job.peer, job.model) == ("cpu", "cnn"):
            raise PortnnError("it fails")
        return {"step": 1.0}

    monkeypatch.setattr(checks.process, "in_process", in_process)
    finding = checks.check().speed()
    assert not finding.held
    assert "left out: cnn, 128, float32: cpu (it fails)" in finding.line


@pytest.mark.slow
def test_speed_in_processes_of_its_own(monkeypatch, checks):
    """Where there is no GPU, torch and JAX say so."""
    monkeypatch.setattr(checks.speed, "CASES", (checks.speed.Case("small", 16, "float32", 2),))
    monkeypatch.setattr(checks.speed, "_ROUNDS", 1)
    finding = checks.check(seconds=600).speed()
    assert finding.held, finding.line
    assert finding.more["median"]["small, 16, float32: cpu"] > 0
    assert finding.more["median"].keys() | finding.more["left_out"].keys() == {
        f"small, 16, float32: {peer}" for peer in ("cpu", *checks.speed.PEERS)
    }


def test_a_run_that_takes_too_long_is_ended(checks):
    job = checks.process.Job(peer="cpu", model="small", batch_size=16, steps=2, data="noise")
    with pytest.raises(TimeoutError, match="it was not done after 0 s"):
        checks.process.in_process(job, 0.01)


def few_images(n):
    """The class is the brightness."""
    labels = np.arange(n) % 10
    x = np.broadcast_to((labels * 28).astype(np.uint8)[:, None, None], (n, 28, 28)).copy()
    return Dataset("few", x, labels, x[:10], labels[:10], 10)


def test_mnist_by_every_seed(monkeypatch, checks):
    monkeypatch.setattr(checks.trials, "load_mnist", lambda folder: few_images(30))
    monkeypatch.setattr(checks.trials, "_SEEDS", 2)
    finding = checks.check().mnist()
    assert [run["seed"] for run in finding.more["runs"]] == [0, 1]
    worst = min(run["accuracy"] for run in finding.more["runs"])
    assert not finding.held  # after three steps
    assert f"{worst:.2%} to " in finding.line
    assert finding.line.endswith("2 of 2 seeds")
    monkeypatch.setattr(checks.trials, "_ACCURACY", worst)
    assert checks.check().mnist().held
    monkeypatch.setattr(checks.trials, "_SEEDS", 3)
    assert checks.check(seconds=0).mnist().line.endswith("1 of 3 seeds: there was no time for more")
    monkeypatch.setattr(checks.finding, "_LEAST", 0.0)
    assert checks.check(seconds=0).mnist().line == "not looked at: there was no time for one run"


def test_mnist_that_is_not_there(checks, tmp_path):
    finding = checks.check(data_dir=str(tmp_path)).mnist()
    assert finding.held
    assert finding.line.startswith(f"not looked at: no MNIST in {tmp_path}")
    assert checks.check(data="digits").mnist().line == "not looked at: the digits were asked for"


@pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")
def test_bandwidth(monkeypatch, checks):
    """Each function by the kernel that is meant, as often as is said; more than half of a copy holds."""
    assert checks.check().bandwidth().line.startswith("not looked at: the device has no memory of its own")
    monkeypatch.setattr(checks.bandwidth, "_SHAPE", (8, 16))
    monkeypatch.setattr(checks.bandwidth, "_REPEATS", 2)
    clock = itertools.count(0.0, 0.5)
    monkeypatch.setattr(checks.bandwidth.time, "perf_counter", lambda: next(clock))
    with open_cupy_on_host() as backend:
        with launches() as launched:
            finding = checks.bandwidth.measure_bandwidth(backend)
        # A copy moves 1,024 bytes in half a second, twice; sums of columns move half of it.
        assert finding.more["copy_gb_per_second"] == pytest.approx(1024 * 2 / 0.5 / 1e9)
        assert finding.held
        assert "sums of columns 50%, " in finding.line
        assert "adam 350%" in finding.line
        monkeypatch.setattr(checks.bandwidth, "_ENOUGH", 0.51)
        assert not checks.bandwidth.measure_bandwidth(backend).held
    expected = "relu_values relu_slopes column_sums divided_rows centred_sums moments normalise adam"
    assert {name: launched.count(name) for name in expected.split()} == {
        name: 3 + (name == "relu_values") for name in expected.split()
    }


def test_memory_that_is_filled(monkeypatch, checks):
    """On the first GPU of CuPy only. A wrong number is told; and where nothing is right, nothing was seen."""
    assert checks.check().filled().line == "not looked at: only the memory of CuPy's first GPU is filled"
    asked, outcomes = [], {"exp, twin": "right", "log, twin": "no memory is left"}

    def ran(command, env, **options):
        asked.append((int(command[-1]), env["CUDA_MODULE_LOADING"]))
        assert Path(command[1]).is_file()
        return SimpleNamespace(returncode=0, stdout=f"NOTE\n{json.dumps(outcomes)}\n", stderr="")

    def filled(fills, seconds=60):
        gpu = SimpleNamespace(name="cupy", device="0")
        return checks.trials.fill_memory(gpu, fills, checks.check(seconds).budget)

    monkeypatch.setattr(checks.trials.subprocess, "run", ran)
    finding = filled(20)
    assert finding.held
    assert finding.line == "20 ended with a sentence, 20 right, in 20 fresh processes"
    assert set(asked) == {(leave, loading) for leave in (0, 2**20, 2**21, 2**23) for loading in ("LAZY", "EAGER")}
    assert filled(2).line.endswith(", in 2 fresh processes; --fills 20 tries more")
    assert ", in 1 fresh process;" in filled(20, seconds=0).line
    outcomes["tanh, portable"] = "wrong"
    finding = filled(1)
    assert not finding.held
    assert finding.line.endswith("tanh, portable (0 bytes left, LAZY)")
    outcomes.clear()
    assert not filled(1).held
    failed = SimpleNamespace(returncode=1, stdout="", stderr="a\nb failed\n")
    monkeypatch.setattr(checks.trials.subprocess, "run", lambda *a, **k: failed)
    assert filled(1)[:2] == (False, "b failed")


@pytest.mark.slow
def test_functions_are_compared_before_memory_is_filled(checks):
    """The program itself needs a GPU, and says so."""
    if STATUS["cupy"].usable:
        pytest.skip("this machine has a GPU")
    outcomes, failure = checks.trials._filled(0, "LAZY")
    assert outcomes == {}
    assert failure.endswith(STATUS["cupy"].message)


@pytest.mark.slow
def test_what_the_host_does_is_measured_without_a_gpu():
    done = script("benchmarks/host_of_loop.py")
    assert done.returncode == 0, done.stderr
    assert "Loop.run" in done.stdout
