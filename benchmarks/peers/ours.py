"""portnn itself."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import shared
from numpy.typing import NDArray

from portnn import Network, Trainer, kernels
from portnn.loop import Loop
from portnn.training.batch import Examples, Piece
from portnn.training.chunks import in_chunks
from portnn.training.recipe import Recipe


class Ours:
    """The trainer's own step, in one go: `Trainer.fit` takes whole epochs."""

    def __init__(
        self,
        net: Network,
        recipe: shared.Recipe,
        images: Any,
        labels: Any,
        *,
        portable: bool = False,
        compiled: bool = True,
    ) -> None:
        self.net, self.portable = net, portable
        if not compiled:
            net.backend.compile = lambda step: step  # type: ignore[method-assign]
            net.backend.loop = lambda *steps: Loop(net.backend, steps)  # type: ignore[method-assign]
        trainer = Trainer(net, recipe.loss, recipe.make_optimizer(1, recipe.optimizer, None), rng=0)
        self.stepper, self.data = trainer.stepper, Examples(net.backend.asarray(images), net.backend.asarray(labels))
        self.stepper.prepare(Recipe.of(trainer))

    def train(self, batches: NDArray[Any]) -> list[float]:
        backend = self.net.backend
        with backend.context(), kernels.portable() if self.portable else nullcontext():
            pieces = iter([Piece(self.data, index) for index in batches])
            for chunk in in_chunks(pieces, lambda: self.stepper.loop.most(batches.shape[1])):
                self.stepper.advance(chunk)
            return self.stepper.take_losses()

    @property
    def note(self) -> str | None:
        """Why the step is not compiled, where the backend meant to."""
        return getattr(self.stepper.loop, "reason", None)

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        predicted: NDArray[Any] = self.net.predict(images).argmax(axis=1)
        return predicted
