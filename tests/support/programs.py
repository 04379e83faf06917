"""Programs of the repository, as a person starts them."""

import os
import subprocess
import sys

from places import ROOT

#: A run of few seconds, but for its data.
TRAIN = ["scripts/train_mnist.py", "--hidden", "16", "--epochs", "2"]


def script(*arguments, cwd=ROOT, **environment):
    """Run a script without a terminal; PORTNN_DATA_DIR is unset unless given."""
    env = {key: value for key, value in os.environ.items() if key != "PORTNN_DATA_DIR"} | environment
    arguments = [ROOT / arguments[0], *arguments[1:]]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(done):
    """The one sentence of a script that refused its input."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
