"""What shows progress ends no run."""

import io
import sys

import numpy as np
import pytest

from portnn import MLPClassifier, Network, Trainer, losses, nn, optim, tree
from portnn.training import Callback, ProgressBar

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 2


class Gone:
    """A terminal that goes away after so many writes."""

    encoding = "utf-8"

    def __init__(self, error, writes=0):
        self.error, self.left, self.tries = error, writes, 0

    def write(self, text):
        self.tries += 1
        self.left -= 1
        if self.left < 0:
            raise self.error
        return len(text)

    def flush(self):
        if self.left < 0:
            raise self.error

    def isatty(self):
        return True


class LooksOften(Callback):
    def due(self, trainer):
        return True


def fit(callbacks=()):
    net = Network(nn.Sequential([nn.Affine(4), nn.Tanh(), nn.Affine(2)]), 5, rng=0)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0, callbacks=[LooksOften(), *callbacks])
    trainer.fit(X, Y, epochs=3, batch_size=4)
    return net.params


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "broken pipe": lambda: Gone(BrokenPipeError(32, "Broken pipe")),
    "broken later": lambda: Gone(BrokenPipeError(32, "Broken pipe"), writes=5),
    "no terminal": lambda: Gone(OSError(5, "Input/output error")),
    "no space": lambda: Gone(OSError(28, "No space left on device"), writes=1),
    "closed": closed,
    "none": lambda: None,
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_bar_whose_terminal_has_gone_changes_nothing(stream, monkeypatch):
    expected = fit()
    terminal = stream()
    monkeypatch.setattr(sys, "stderr", terminal)
    found = fit([ProgressBar()])
    monkeypatch.undo()
    tree.map(np.testing.assert_array_equal, found, expected)
    if isinstance(terminal, Gone):
        assert terminal.left < 0  # it was tried
        assert terminal.tries < 40  # and given up


def test_a_bar_is_shown_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit([ProgressBar()])
    assert "epoch 3/3" in terminal.getvalue()


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_estimators(stream, monkeypatch):
    def fitted(**options):
        m = MLPClassifier((4,), max_iter=3, random_state=0, early_stopping=True, **options)
        return m.fit(X, Y).coefs_

    with pytest.warns(UserWarning, match="Maximum iterations"):
        expected = fitted()
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(sys, "stdout", stream())
    with pytest.warns(UserWarning, match="Maximum iterations"):
        found = fitted(progress=True, verbose=True)
    monkeypatch.undo()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_verbose_estimators_still_speak(capsys):
    with pytest.warns(UserWarning, match="Maximum iterations"):
        MLPClassifier((4,), max_iter=2, random_state=0, verbose=True).fit(X, Y)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")
