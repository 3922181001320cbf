"""Types of the arrays that kernels take, and of an index into a flat buffer."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
CodeArray = npt.NDArray[np.int8]
ColumnArray = npt.NDArray[np.uint64]

Index = int | np.uint64
"""Unsigned in compiled code; see ``kernels.layout``."""
