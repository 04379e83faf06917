"""The twins of the CuPy backend without a GPU: the same wrappers, and the same kernels compiled for the CPU.

See `cupy_on_host` for what is emulated, and what is checked on the way.
"""

import pytest
from cupy_on_host import COMPILER, cupy_on_host
from portnn_backends.cupy_kernels import KERNELS
from test_kernels import compare_array_function, compare_differentiable, compare_rule

from portnn import kernels

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels with")


@pytest.fixture
def backend():
    with cupy_on_host() as backend:
        yield backend


COMPARE = {
    "differentiable": compare_differentiable,
    "array_function": compare_array_function,
    "update_rule": compare_rule,
}


@pytest.mark.parametrize("n", [0, 1, 7, 5_001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(KERNELS.keys() - {"erf"}))
def test_parity(backend, name, dtype, n):
    COMPARE[kernels.registry[name].kind](backend, name, dtype, n)
