"""The benchmark of kernels."""
