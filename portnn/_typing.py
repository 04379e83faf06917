"""Names for what Python's type system cannot say about arrays.

An array is whatever follows the array API standard; shapes and dtypes stand in the docstrings.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any
DType: TypeAlias = Any
Namespace: TypeAlias = Any

#: Nested dicts and tuples whose leaves are arrays (or, for hyper-parameters, floats).
Tree: TypeAlias = Any

#: The pullback that a function returns beside its value: ``backward(dy) -> gradients``.
Backward: TypeAlias = Callable[..., Any]

#: Lengths of the axes, without the batch axis where a layer is concerned.
Shape: TypeAlias = tuple[int, ...]
