"""PyTorch: the CPU, CUDA or any other device that torch names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from portnn.backend import Backend, Memory, Status, first_line, library_status
from portnn.errors import BackendError
from portnn.kernels import Kernel


class TorchBackend(Backend):
    """Tensors of torch. They never require gradients: portnn brings its own."""

    name = "torch"
    array_modules = ("torch",)

    def __init__(self, device: str | None = None) -> None:
        import array_api_compat.torch as xp
        import torch

        try:
            self._device = torch.empty(0, device=device or "cpu").device
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"torch {torch.__version__} cannot use device {device!r}: {first_line(error)}") from None
        self.device = str(self._device)
        self.xp = xp
        self._torch = torch

    @classmethod
    def status(cls) -> Status:
        return library_status("torch", "torch", 'pip install "portnn[torch]"')

    @classmethod
    def from_array(cls, array: Any) -> TorchBackend:
        return cls(str(array.device))

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        from .torch_kernels import KERNELS

        return KERNELS

    def owns(self, array: Any) -> bool:
        return isinstance(array, self._torch.Tensor) and array.device == self._device

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if isinstance(x, self._torch.Tensor):
            return x.detach().to(device=self._device, dtype=None if dtype is None else self.dtype(dtype))
        # torch.tensor copies; as_tensor would share memory and warn of read-only arrays. No negative strides.
        return self._torch.tensor(np.asarray(self.host_array(x, dtype), order="C"), device=self._device)

    def to_numpy(self, array: Any) -> Any:
        return array.detach().cpu().numpy()

    def copy(self, array: Any) -> Any:
        return array.detach().clone()

    def supports(self, dtype: str) -> bool:
        return hasattr(self._torch, dtype) and not (self._device.type == "mps" and dtype == "float64")

    def synchronize(self) -> None:
        if self._device.type != "cpu":
            self._torch.accelerator.synchronize(self._device)

    def memory(self) -> Memory:
        if self._device.type == "cuda":
            return Memory(*self._torch.cuda.mem_get_info(self._device))
        return Memory(None, None)

    def describe(self) -> str:
        if self._device.type == "cuda":
            return f"{self.device} ({self._torch.cuda.get_device_name(self._device)})"
        return self.device
