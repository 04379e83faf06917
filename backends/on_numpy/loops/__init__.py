"""What Numba compiles for the twins of NumPy: a file for each family, loaded by `portnn_backends.on_numpy.compile`."""
