"""A program: fill a GPU's memory, and compute every function there. Never run on a device yet.

``python filled_gpu.py BYTES`` leaves so many bytes free, and prints for each function and form, as JSON, whether it was
"right", "wrong", or the sentence of its error.
"""

import json
import sys

import numpy as np
from families import FUNCTIONS

from portnn import get_backend, kernels, tree
from portnn.errors import PortnnError

FORMS = {"twin": lambda case: case.call, "portable": lambda case: case.call_portable}


def fill(cupy, leave):
    """Take what is free on the device, but for some bytes: in pieces that become smaller where they do not fit."""
    runtime, size = cupy.cuda.runtime, 2**34
    while size >= 512:
        try:
            if runtime.memGetInfo()[0] - size >= leave:
                runtime.malloc(size)
                continue
        except runtime.CUDARuntimeError:
            pass
        size //= 2


def computed(backend, case, form, arguments, fixed):
    """Values and gradients on the host."""
    y, backward = form(*(backend.asarray(a) for a in arguments), *(backend.asarray(a) for a in fixed))
    dy = backend.asarray(np.random.default_rng(1).normal(size=tuple(y.shape)))
    return tree.map(backend.to_numpy, (y, backward(dy)))


def close(actual, expected):
    return all(
        np.allclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True)
        for a, b in zip(tree.leaves(actual), tree.leaves(expected), strict=True)
    )


def main():
    import cupy

    cases = [(name, case, *case.arguments(40)) for name, case in FUNCTIONS.items()]
    with kernels.portable():
        expected = [computed(get_backend("cpu"), case, case.call, a, b) for _, case, a, b in cases]
    backend = get_backend("gpu")
    fill(cupy, int(sys.argv[1]))
    found = {}
    for (name, case, arguments, fixed), wanted in zip(cases, expected, strict=True):
        for form, call in FORMS.items():
            try:
                with backend.context():
                    made = computed(backend, case, call(case), arguments, fixed)
                found[f"{name}, {form}"] = "right" if close(made, wanted) else "wrong"
            except PortnnError as error:
                found[f"{name}, {form}"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
