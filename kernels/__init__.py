"""Pure numba kernels: arrays in, arrays out, no state but what is passed in."""
