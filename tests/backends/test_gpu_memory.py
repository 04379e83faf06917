"""A GPU whose memory is used up: every function is right, or ends with a sentence. Each run is a process of its own."""

import json
import os
import subprocess
import sys

import pytest
from lanes import STATUS
from places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STATUS["cupy"].usable, reason=STATUS["cupy"].message),
]


@pytest.mark.parametrize("loading", ["LAZY", "EAGER"])
@pytest.mark.parametrize("leave", [0, 2**20, 2**21, 2**23])
def test_right_or_a_sentence(leave, loading):
    support = ROOT / "tests" / "support"
    done = subprocess.run(
        [sys.executable, str(support / "filled_gpu.py"), str(leave)],
        env=os.environ | {"CUDA_MODULE_LOADING": loading, "PYTHONPATH": str(support)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, outcome in found.items() if outcome == "wrong"] == []
    assert all("\n" not in outcome for outcome in found.values())
