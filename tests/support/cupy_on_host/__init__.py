"""CuPy without a GPU, as far as portnn uses it, and honest about what CuPy and CUDA do not forgive, or do not check.

- Arrays live on the host, and are reached through their operators and functions only (`arrays`, `namespace`). Arrays
  of NumPy that meet them are refused.
- Work on a stream other than the null one is done when somebody waits for it, and what a captured stream is given is
  done when its graph is launched, on the addresses and with the numbers of the recording (`streams`).
- Captured streams refuse what CUDA and CuPy refuse: reading and bringing values, waiting, and products of matrices, but
  for those of the imitations of cuBLAS (`cublas`, `cublaslt`). Inside `never_waiting`, reading raises on any stream.
- Memory comes from pools and goes back to them, is NaN when it comes and when it goes, and has edges that nobody may
  write to (`memory`).
- It can be short of memory: whatever needs some fails, loudly, or in silence where CuPy is silent (`shortage`).
- Kernels are compiled by g++ and run on the CPU, with types, layouts, edges and orders checked (`kernels`).

`fake_cupy` stands for the module ``cupy``; `backend` has the CuPy backend on all this, and `recorded` the one that
records its training steps.
"""

from .backend import OF_CUPY, CupyOnHost, open_cupy_on_host, with_source
from .kernels import COMPILER, in_order, launches
from .streams import never_waiting

__all__ = [
    "COMPILER",
    "OF_CUPY",
    "CupyOnHost",
    "in_order",
    "launches",
    "never_waiting",
    "open_cupy_on_host",
    "with_source",
]
