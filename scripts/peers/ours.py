"""portnn itself."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from models import Recipe
from numpy.typing import NDArray

from portnn import Network, Trainer, kernels


class Ours:
    """The trainer's own step, in one go: `Trainer.fit` takes whole epochs."""

    def __init__(
        self,
        net: Network,
        recipe: Recipe,
        images: Any,
        labels: Any,
        *,
        portable: bool = False,
        compiled: bool = True,
    ) -> None:
        self.net, self.portable = net, portable
        if not compiled:
            net.backend.compile = lambda step: step  # type: ignore[method-assign]
        self.trainer = Trainer(net, recipe.loss, recipe.make_optimizer(1, recipe.optimizer, None), rng=0)
        self.data = net.backend.asarray(images), net.backend.asarray(labels), None
        self.trainer._prepare_steps()

    def train(self, batches: NDArray[Any]) -> list[float]:
        backend = self.net.backend
        with backend.context(), kernels.portable() if self.portable else nullcontext():
            return backend.to_floats([self.trainer._run_step(self.data, backend.asarray(index)) for index in batches])

    @property
    def note(self) -> str | None:
        """Why the step is not compiled, where the backend meant to."""
        return next((reason for _, step in self.trainer._steps if (reason := getattr(step, "reason", None))), None)

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        predicted: NDArray[Any] = self.net.predict(images).argmax(axis=1)
        return predicted
