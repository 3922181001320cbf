"""Pure numba kernels: arrays in, arrays out, and no state other than what is passed in."""
