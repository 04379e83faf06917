"""The functions of the array API standard on our arrays: NumPy's, computed by the current stream."""

from __future__ import annotations

import functools
from typing import Any

import array_api_compat.numpy

from .arrays import Device, launch
from .streams import get_current_stream


class Namespace:
    __name__ = "cupy_on_host"

    def __getattr__(self, name: str) -> Any:
        value = getattr(array_api_compat.numpy, name)
        if isinstance(value, type) or not callable(value):
            return value

        @functools.wraps(value)
        def function(*arguments: Any, **options: Any) -> Any:
            assert options.pop("device", None) in (None, "0", Device(0))
            if name == "asarray":
                get_current_stream().refuse_if_captured("cudaMemcpyAsync")
            return launch(value, arguments, options)

        return function


NAMESPACE = Namespace()
