"""What this machine computes with: versions, backends, BLAS; for tables and for the records of measurements."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from portnn.backend import Backend, Status, available_backends, get_backend
from portnn.errors import BackendError

__all__ = ["backend_table", "blas", "describe"]

_PACKAGES = ("portnn", "numpy", "array-api-compat", "safetensors", "numba", "scikit-learn", "torch", "jax", "keras")


def blas() -> dict[str, Any]:
    """The BLAS that NumPy uses: its name, version, kernel type, threads, and whether the kernel is pinned."""
    import numpy
    from threadpoolctl import threadpool_info

    # SciPy brings another copy of OpenBLAS; NumPy's lies in or beside NumPy's folder, or is the system's.
    home = os.path.dirname(numpy.__file__)
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    for library in sorted(found, key=lambda entry: not entry["filepath"].startswith(home)):
        return {
            "library": library["internal_api"],
            "version": library["version"],
            "kernel": library.get("architecture"),
            "threads": library["num_threads"],
            "pinned": bool(os.environ.get("OPENBLAS_CORETYPE")),
        }
    return {"library": None}


def describe(backend: Backend) -> dict[str, Any]:
    """Versions, device and BLAS, as plain values for JSON."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "backend": backend.name,
        "backend_version": backend.status().version,
        "device": backend.describe(),
        "precision": backend.precision,
        "memory": backend.memory()._asdict(),
        "blas": blas(),
    }


def _processor() -> str:
    """The processor's name; ``platform`` knows none on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def backend_table() -> str:
    """Every registered backend with its version, device and status, and NumPy's BLAS, in lines of text."""
    rows = [("backend", "version", "device", "status")]
    for name, status in available_backends().items():
        rows.append((name, status.version or "-", *_device_and_status(name, status)))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    return "\n".join([*lines, "", _blas_line()])


def _device_and_status(name: str, status: Status) -> tuple[str, str]:
    if not status.usable:
        return "-", status.message
    try:
        return get_backend(name).describe(), status.message
    except BackendError as error:
        return "-", str(error)


def _blas_line() -> str:
    info = blas()
    if info["library"] is None:
        return "BLAS of NumPy: unknown to threadpoolctl"
    pinned = ", pinned by OPENBLAS_CORETYPE" if info["pinned"] else ""
    name = f"{info['library']} {info['version']}"
    return f"BLAS of NumPy: {name}, kernel {info['kernel']}{pinned}, {info['threads']} threads"
