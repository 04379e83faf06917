"""PyTorch: the CPU, CUDA or any other device that torch names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from portnn.backend import Backend, Memory, Status, first_line, library_status
from portnn.errors import BackendError
from portnn.kernels import Kernel

from ..capability import lack_of
from .precision import precision


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
        kinds = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
        self._not_in_numpy = {getattr(torch, kind) for kind in kinds if hasattr(torch, kind)}

    @classmethod
    def status(cls) -> Status:
        return library_status("torch", "torch", "pip install torch")

    @classmethod
    def from_array(cls, array: Any) -> TorchBackend:
        backend = cls(str(array.device))
        backend.precision = precision()  # who knows an array alone, within a context, does not leave its precision
        return backend

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        from .kernels import KERNELS

        return KERNELS

    def owns(self, array: Any) -> bool:
        # Dense ones only: there is no array API for the others.
        return (
            isinstance(array, self._torch.Tensor)
            and array.device == self._device
            and array.layout == self._torch.strided
        )

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if isinstance(x, self._torch.Tensor) and x.layout == self._torch.strided:
            return x.detach().to(device=self._device, dtype=None if dtype is None else self.dtype(dtype))
        # torch.tensor copies; as_tensor would share memory and warn of read-only arrays. No negative strides.
        return self._torch.tensor(np.asarray(self.host_array(x, dtype), order="C"), device=self._device)

    def to_numpy(self, array: Any) -> Any:
        host = array.detach().cpu()
        # NumPy has neither bfloat16 nor torch's types of 8 bits; float32 holds the same numbers.
        return host.float().numpy() if host.dtype in self._not_in_numpy else host.numpy()

    def copy(self, array: Any) -> Any:
        return array.detach().clone()

    def supports(self, dtype: str) -> bool:
        return hasattr(self._torch, dtype) and not (self._device.type == "mps" and dtype == "float64")

    def synchronize(self) -> None:
        if self._device.type != "cpu":
            self._torch.accelerator.synchronize(self._device)

    def memory(self) -> Memory:
        if self._device.type != "cuda":
            return Memory()
        cuda = self._torch.cuda
        used, held = cuda.memory_allocated(self._device), cuda.memory_reserved(self._device)
        free, total = cuda.mem_get_info(self._device)
        return Memory(free, total, used, held)

    def is_out_of_memory(self, error: BaseException) -> bool:
        # On the CPU torch raises a plain RuntimeError.
        lacking = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        return lacking or isinstance(error, self._torch.OutOfMemoryError) or super().is_out_of_memory(error)

    def without_tf32(self) -> str | None:
        if self._device.type != "cuda" or self._torch.version.cuda is None:
            return super().without_tf32()
        return lack_of("TF32", self._capability())

    def without_bf16(self) -> str | None:
        if self._device.type == "cpu":
            return None
        if self._device.type != "cuda" or self._torch.version.cuda is None:
            return super().without_bf16()
        if "dtype" not in self._torch.ops.aten.mm.overloads():
            return f"torch {self._torch.__version__} rounds the sums to bfloat16, too; from 2.8 on it need not"
        return lack_of("bfloat16", self._capability())

    def _capability(self) -> float:
        major, minor = self._torch.cuda.get_device_capability(self._device)
        return float(f"{major}.{minor}")

    def context(self) -> AbstractContextManager[Any]:
        if self._device.type == "cuda":
            return self._with_products()
        _computing.add(self._torch)
        return precision.entered(self.precision)

    @contextmanager
    def _with_products(self) -> Iterator[None]:
        """Products of matrices and convolutions in our precision; left to itself, torch convolves in TF32."""
        torch, cudnn, tf32 = self._torch, self._torch.backends.cudnn, self.precision == "tf32"
        before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        cudnn.allow_tf32 = tf32
        try:
            with precision.entered(self.precision):
                yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            cudnn.allow_tf32 = before[1]

    def describe(self) -> str:
        if self._device.type == "cuda":
            return f"{self.device} ({self._torch.cuda.get_device_name(self._device)})"
        return self.device


#: torch, once it has computed on the CPU of this process.
_computing: set[Any] = set()


def _compute_alone() -> None:
    """In a forked child: OpenMP would wait for ever for the parent's threads; on one thread it needs none."""
    for torch in _computing:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
