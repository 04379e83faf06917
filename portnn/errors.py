"""What portnn raises: one sentence each, saying what was given, what was expected and how to go on.

Every type is also a ``ValueError``, a ``TypeError``, a ``RuntimeError``, an ``ImportError`` or a ``MemoryError``, so
code that knows nothing of portnn can catch it; ``PortnnError`` catches them all.
"""

__all__ = [
    "BackendError",
    "ConfigError",
    "DataError",
    "DeviceMemoryError",
    "DivergenceError",
    "GradientError",
    "KernelError",
    "KinkError",
    "MissingDataError",
    "MissingLibraryError",
    "ModelFileError",
    "PortnnError",
    "ShapeError",
    "TraceError",
]


class PortnnError(Exception):
    """Base of everything that portnn raises on purpose."""


class BackendError(PortnnError, RuntimeError):
    """A backend is unknown, cannot be used on this machine, or was given an array of another one."""


class KernelError(PortnnError, RuntimeError):
    """A backend offers a twin that does not fit the portable function of its name."""


class TraceError(PortnnError, TypeError):
    """What cannot be differentiated, or not in the way in which it was asked for."""


class ShapeError(PortnnError, ValueError):
    """Arrays, trees or layers whose shapes do not fit together."""


class DataError(PortnnError, ValueError):
    """Data that is missing, damaged or outside the range that the network or loss can use."""


class MissingDataError(DataError):
    """Data that are not on this machine and cannot be downloaded."""


class MissingLibraryError(PortnnError, ImportError):
    """A library that a part of portnn needs is not installed."""


class ConfigError(PortnnError, ValueError):
    """A hyper-parameter outside its range, or a description that names something unknown."""


class ModelFileError(PortnnError, ValueError):
    """A model file that is missing, damaged or of another architecture."""


class DeviceMemoryError(PortnnError, MemoryError):
    """A batch, and what is computed from it, does not fit into the memory of the device."""


class DivergenceError(PortnnError, RuntimeError):
    """The loss is no longer a finite number."""


class GradientError(PortnnError, RuntimeError):
    """An analytic gradient differs from the numerical one."""


class KinkError(GradientError):
    """The function has no derivative at the point where its gradient was to be checked."""
