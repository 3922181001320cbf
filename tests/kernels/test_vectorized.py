"""The compiled loops over lanes contain packed operations.

A loop that the compiler cannot vectorize still gives the right numbers, only several times slower. No
other test would notice.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
import pytest
from numba import types

from kernels import portfolio
from kernels.lanes.accounts import account_lanes, variance_lanes
from kernels.lanes.fills import fill_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.sizing import size_lanes

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly"
)

FLOATS = types.Array(types.float64, 1, "C")
TABLE = types.Array(types.float64, 2, "C", readonly=True)
FLAGS = types.Array(types.uint8, 2, "C")
U64, I64, F64, NONE, TRUE = types.uint64, types.int64, types.float64, types.none, types.boolean

KERNELS: dict[str, Callable[..., Any]] = {
    "account_lanes": account_lanes,
    "variance_lanes": variance_lanes,
    "mark_lanes": mark_lanes,
    "fill_lanes": fill_lanes,
    "size_lanes": size_lanes,
}
OFF = (NONE, NONE, NONE)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "account_lanes": (U64, FLOATS, FLOATS, F64),
    "variance_lanes": (U64, FLOATS, FLOATS, F64),
    "mark_lanes": (U64, I64, TABLE, FLOATS, FLOATS, FLOATS, NONE, F64, NONE),
    "fill_lanes": (U64, I64, TABLE, FLOATS, FLOATS, FLAGS, F64, F64, F64, *OFF),
    "size_lanes": (U64, U64, FLOATS, FLOATS, FLOATS, F64, *OFF),
}
WITH_OPTIONS: dict[str, tuple[Any, ...]] = {
    "fill_lanes": (U64, I64, TABLE, FLOATS, FLOATS, FLAGS, F64, F64, F64, NONE, TRUE, TRUE),
    "size_lanes": (U64, U64, FLOATS, FLOATS, FLOATS, F64, FLOATS, TRUE, TRUE),
}


@cache
def assembly(function: Callable[..., Any], signature: tuple[Any, ...]) -> str:
    """Assembly of a kernel, compiled here because a cached kernel has lost it."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
    compiled = numba.njit(**options)(getattr(function, "py_func"))  # noqa: B009
    compiled.compile(signature)
    return "\n".join(compiled.inspect_asm().values())


def registers() -> str:
    """Pattern for the widest vector registers: of four floats or more, or two on an old processor."""
    features = llvm.get_host_cpu_features()
    # With AVX-512 the compiler may still prefer 256 bits, as it does on some processors.
    if features.get("avx512f"):
        return "[yz]mm"
    return "ymm" if features.get("avx") else "xmm"


def packed(name: str, text: str) -> list[str]:
    """Instructions ``name`` on registers of full width."""
    return re.findall(rf"\bv?{name}\b[^\n]*%{registers()}\d+", text)


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("account_lanes", ("divpd", "mulpd", "addpd")),
        ("variance_lanes", ("divpd", "mulpd")),
        ("mark_lanes", ("mulpd", "addpd")),
        ("fill_lanes", ("mulpd", "subpd")),
        ("size_lanes", ("mulpd", "subpd")),
    ],
)
def test_lanes_are_vectorized(name: str, operations: tuple[str, ...]) -> None:
    text = assembly(KERNELS[name], SIGNATURES[name])
    for operation in operations:
        assert packed(operation, text), f"{name} has no packed {operation}"


@pytest.mark.parametrize("name", ["size_lanes", "fill_lanes"])
@pytest.mark.parametrize("signatures", [SIGNATURES, WITH_OPTIONS], ids=["plain", "options"])
def test_selects_and_whole_lots_are_vectorized(
    name: str, signatures: dict[str, tuple[Any, ...]]
) -> None:
    text = assembly(KERNELS[name], signatures[name])
    assert packed("minpd", text), "no packed minimum"
    assert packed("roundpd", text) or packed("rndscalepd", text), "no packed rounding"


def test_a_scalar_function_has_no_packed_operations() -> None:
    # This shows that the patterns distinguish the two.
    text = assembly(portfolio.drawdown, (F64, F64))
    assert re.search(r"\bv?divsd\b", text)
    assert not packed("divpd", text)
