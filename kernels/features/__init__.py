"""Features of one symbol's bars, one bar at a time.

Each feature has a step, which takes one bar and the state carried so far, and a form over arrays, which
is the loop over that step. The state is a flat float64 array of the size that ``<name>_state_size``
returns. Zeros are a fresh state, and a step changes the state in place. So bars [a, b) followed by
[b, c) give the bits of [a, c), and one bar at a time gives the bits of the whole array.

A step takes the state, the inputs of the bar, and the parameters; the series takes the inputs, the
parameters, the state, and where to write. Inputs have the order open, high, low, close, volume.

All lookbacks are in bars. A value that is not yet defined is NaN. From the end of the warm-up on, which
``kernels.features.table`` states for each feature, every value is a number, also where prices stand
still.
"""
