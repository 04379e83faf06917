"""CuPy: NVIDIA GPUs. `backend` binds the library; a file for each family of portable functions has the twins.

Their CUDA kernels are in the folder ``cuda``, in files of the same names.
"""
