"""torch, on the CPU or a GPU."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from shared import Recipe

from portnn import Network, losses, nn, optim
from portnn.errors import ConfigError
from portnn.functional.windows import axes

from . import described


class WithTorch:
    """Modules and an optimizer of torch: eager, the modules compiled in a mode, or the step as a CUDA graph."""

    def __init__(
        self,
        net: Network,
        recipe: Recipe,
        images: Any,
        labels: Any,
        *,
        channels_last: bool = False,
        compiled: str | None = None,
        device: str = "cpu",
        graph: bool = False,
        precision: str = "float32",
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"torch {torch.__version__} finds no CUDA GPU")
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self.device = torch.device(device)
        self.model = torch.nn.Sequential(*_modules(net)).to(self.device)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.run = torch.compile(self.model, mode=compiled) if compiled else self.model
        rule, rate = recipe.make_optimizer(1, recipe.optimizer, None), {}
        if not isinstance(rule, optim.Adam | optim.SGD) or not isinstance(recipe.loss, losses.SoftmaxCrossEntropy):
            raise ConfigError(f"torch is not told about {rule} or {recipe.loss} yet")
        rate = {"lr": rule.hyper(1)["lr"]}
        if graph and isinstance(rule, optim.Adam):
            rate["capturable"] = True
        make: Any = torch.optim.Adam if isinstance(rule, optim.Adam) else torch.optim.SGD
        self.optimizer = make(self.model.parameters(), **rate)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.loss.label_smoothing)
        self.images = torch.tensor(images, device=self.device)
        self.labels = torch.tensor(labels, dtype=torch.int64, device=self.device)
        self.graph: Any = None
        self.as_graph = graph

    def train(self, batches: NDArray[Any]) -> list[float]:
        self.model.train()
        values = []
        for index in torch.tensor(batches, device=self.device):
            values.append(self._replay(index) if self.as_graph else self._step(index))
        return torch.stack(values).tolist()  # type: ignore[no-any-return]

    def _step(self, index: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(self.run(self.images[index].to(torch.float32) / 255.0), self.labels[index])
        loss.backward()
        self.optimizer.step()
        return loss.detach().clone()  # a compiled module may overwrite its own results

    def _replay(self, index: Any) -> Any:
        if self.graph is None:
            self._record(index)
        self.index.copy_(index)
        self.graph.replay()
        return self.value.clone()

    def _record(self, index: Any) -> None:
        """As torch's notes on CUDA semantics do it: some steps on a stream beside, then one that is recorded."""
        self.index = index.clone()
        before = [p.detach().clone() for p in self.model.parameters()]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                self._step(self.index)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.value = self._step(self.index)
        with torch.no_grad():  # back to where the training begins
            for p, old in zip(self.model.parameters(), before, strict=True):
                p.copy_(old)
            for memory in self.optimizer.state.values():
                for value in memory.values():
                    value.zero_()

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        self.model.eval()
        with torch.no_grad():
            x = torch.tensor(images, device=self.device).to(torch.float32) / 255.0
            predicted: NDArray[Any] = self.model(x).argmax(1).cpu().numpy()
        return predicted


def _modules(net: Network) -> list[Any]:
    modules: list[Any] = []
    image: tuple[int, ...] = ()
    for layer, params, shape in described(net):
        p = {name: torch.tensor(a) for name, a in params.items()}
        if isinstance(layer, nn.Reshape):
            modules.append(torch.nn.Unflatten(1, (1, shape[0])))
        elif isinstance(layer, nn.Conv2D):
            rows, columns = axes(shape[:2], layer.kernel, layer.stride, layer.padding, layer.dilation)
            pad = (rows.before, columns.before)
            if pad != (rows.after, columns.after):
                modules.append(torch.nn.ZeroPad2d((columns.before, columns.after, rows.before, rows.after)))
                pad = (0, 0)
            conv = torch.nn.Conv2d(shape[2], layer.channels, layer.kernel, layer.stride, pad)
            conv.weight.data, conv.bias.data = p["w"].permute(3, 2, 0, 1).contiguous(), p["b"]
            modules.append(conv)
        elif isinstance(layer, nn.MaxPool2D):
            modules.append(torch.nn.MaxPool2d(layer.size))
        elif isinstance(layer, nn.BatchNorm):
            kind = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
            modules.append(kind(shape[-1], eps=layer.eps, momentum=1.0 - layer.decay))
        elif isinstance(layer, nn.ReLU):
            modules.append(torch.nn.ReLU())
        elif isinstance(layer, nn.Dropout):
            modules.append(torch.nn.Dropout(layer.rate))
        elif isinstance(layer, nn.Flatten):
            image = shape if len(shape) == 3 else ()
            modules.append(torch.nn.Flatten())
        elif isinstance(layer, nn.Affine):
            affine, w = torch.nn.Linear(shape[0], layer.units), p["w"]
            if image:  # torch flattens with the channels first
                w, image = w.reshape(*image, -1).permute(2, 0, 1, 3).reshape(shape[0], -1), ()
            affine.weight.data, affine.bias.data = w.T.contiguous(), p["b"]
            modules.append(affine)
        else:
            raise ConfigError(f"torch is not told about {layer!r} yet")
    return modules
