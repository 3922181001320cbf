"""The simulation's work on one block of lanes, one module per phase of a bar.

A lane function loops over the ``kernels.layout.LANES`` parameter sets of a block. For each lane it
reads its inputs from the rows of flat buffers, calls the scalar rules of the modules above this
package, and writes the results back. The compiler inlines the rules and vectorizes the loop. The
event flow calls the same rules for one portfolio at a time.

The buffers hold all blocks. They are passed whole, with the offset of the block in them, because a
slice would have its references counted on every call. These arguments have the same meaning in all
lane functions:

=========== ============================================================================
argument    meaning
=========== ============================================================================
k           number of the block
t           number of the bar
s           number of the symbol
b           number of the lane, 0 to LANES - 1
o           offset of the block in ``state``: ``k * STATE_BLOCK``
p           offset of the symbol in ``positions``: ``(k * n_symbols + s) * POSITION_BLOCK``
q           offset of the block in ``parameters``: ``k * PARAMETER_BLOCK``
c           offset of the block in ``columns``: ``k * COLUMN_BLOCK``
state       (n_blocks * STATE_BLOCK,), rows of each lane; money unless ``layout`` says otherwise
positions   (n_blocks * n_symbols * POSITION_BLOCK,), rows of each lane and symbol
parameters  (n_blocks * PARAMETER_BLOCK,), rows of each lane
columns     (n_blocks * COLUMN_BLOCK,), the columns of the input arrays that each lane reads
scratch     (SCRATCH_SIZE,), working rows of the current block and bar
=========== ============================================================================

An option that is off is passed as ``None``. numba then removes its branches at compile time, so it
costs nothing.
"""
