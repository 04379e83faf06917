"""compare_devices.py and gpu_check.py, as a person runs them where there is no GPU."""

import json
from types import SimpleNamespace

import pytest
from lanes import STATUS
from places import ROOT
from programs import refused, script

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


def test_speed_is_measured_in_turn(monkeypatch):
    """A process for each run, round by round; what cannot be run is left out once, and said."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_check
    import peers.process

    jobs = []

    def in_process(job):
        jobs.append(job)
        if job.peer == "torch CUDA graph":
            raise PortnnError("torch finds no CUDA GPU")
        return {"step": 10.0 * len(jobs)}

    monkeypatch.setattr(peers.process, "in_process", in_process)
    check = gpu_check.Check("cpu", SimpleNamespace(seconds=60))
    finding = check.speed()
    assert finding.held
    assert [job.peer for job in jobs[:4]] == ["cpu", *gpu_check.PEERS]
    assert len(jobs) == 3 * 16 - 2 * 4
    assert {job.data for job in jobs} == {"noise"}
    assert [(job.model, job.batch_size, job.precision) for job in jobs[:16:4]] == list(gpu_check.SPEED)
    assert finding.more["us_per_step"]["mlp, 128, float32: cpu"] == [10.0, 170.0, 290.0]
    assert finding.more["median"]["mlp, 128, float32: cpu"] == 170.0
    assert "mlp, 128, float32: cpu 170 us" in finding.line
    assert finding.line.count("torch finds no CUDA GPU") == 4


@pytest.mark.slow
def test_what_the_host_does_is_measured_without_a_gpu():
    done = script("benchmarks/host_of_loop.py")
    assert done.returncode == 0, done.stderr
    assert "Loop.run" in done.stdout
