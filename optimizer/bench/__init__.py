"""The benchmark of the kernels."""
