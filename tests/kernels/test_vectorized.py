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
from kernels.lanes.accounts import account_lanes, carry_lanes
from kernels.lanes.entries import enter_lanes, level_lanes
from kernels.lanes.fills import fill_lanes, power_lanes, reduce_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.sizing import (
    count_lanes,
    other_size_lanes,
    place_lanes,
    settle_lanes,
    share_lanes,
    want_common_lanes,
    want_lanes,
)
from kernels.lanes.stops import margin_lanes, stop_lanes
from kernels.lanes.sums import sum_bars

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly"
)

ROWS = types.Array(types.float64, 1, "C")
BARS = types.Array(types.float64, 2, "C", readonly=True)
VOLATILITIES = types.Array(types.float64, 3, "C", readonly=True)
TRADED = types.Array(types.uint8, 2, "C", readonly=True)
COUNTED = types.Array(types.uint8, 1, "C", readonly=True)
COLUMNS = types.Array(types.uint64, 1, "C")
PENDING = types.Array(types.uint8, 2, "C")
VALUES = types.Array(types.float64, 2, "C")
FILLS = types.Array(types.float64, 4, "C")
U64, I64, F64, OFF, ON = types.uint64, types.int64, types.float64, types.none, types.boolean

Kernel = tuple[Callable[..., Any], tuple[Any, ...]]


def kernels(
    fees: Any, stops: Any, short: Any, extended: Any, correlation: Any
) -> dict[str, Kernel]:
    """Every phase of a bar with its signature under some options."""
    values = OFF if correlation is OFF else VALUES
    rows = (ROWS, ROWS, ROWS, ROWS)
    market = (BARS, BARS, BARS, TRADED, BARS, VOLATILITIES, BARS, COLUMNS, *rows)
    orders = (
        *(U64, I64, I64, BARS, TRADED, BARS, VOLATILITIES, BARS, BARS, COLUMNS, ROWS, ROWS, ROWS),
    )
    entry = (BARS, BARS, BARS, TRADED, BARS, VOLATILITIES, BARS, BARS, COLUMNS, ROWS, ROWS, ROWS)
    return {
        "account": (account_lanes, (U64, U64, ROWS, ROWS, ROWS, F64)),
        "sum": (sum_bars, (U64, I64, U64, COUNTED, BARS, ROWS, ROWS, ROWS)),
        "carry": (
            carry_lanes,
            (U64, I64, BARS, BARS, BARS, BARS, ROWS, ROWS, ROWS, short, extended),
        ),
        "mark": (mark_lanes, (U64, I64, BARS, ROWS, ROWS, ROWS, values, BARS, FILLS, short)),
        "power": (power_lanes, (U64, I64, BARS, BARS, ROWS, ROWS, ROWS, F64, short, extended)),
        "reduce": (
            reduce_lanes,
            (U64, U64, U64, U64, U64, I64, F64, BARS, BARS, BARS, *rows, FILLS, fees, short),
        ),
        "fill": (
            fill_lanes,
            (*orders, PENDING, ROWS, F64, FILLS, fees, stops, short, extended, OFF),
        ),
        "enter": (
            enter_lanes,
            (
                *(U64, I64, I64, *entry, PENDING, ROWS, F64, I64, FILLS),
                *(fees, stops, short, extended),
            ),
        ),
        "level": (
            level_lanes,
            (U64, I64, BARS, BARS, ROWS, ROWS, PENDING, I64, short),
        ),
        "stop": (
            stop_lanes,
            (U64, I64, I64, *market[:-1], PENDING, ROWS, FILLS, fees, short, correlation),
        ),
        "margin": (margin_lanes, (U64, I64, I64, *market, F64, FILLS, fees)),
        "count": (count_lanes, (U64, U64, ROWS, ROWS, ROWS, stops, short)),
        "other_size": (other_size_lanes, (U64, ROWS, ROWS, I64, F64, F64, OFF, OFF)),
        "want": (
            want_lanes,
            (
                *(U64, U64, U64, ROWS, ROWS, ROWS, F64, BARS, ON),
                *(correlation, stops, short, extended, OFF),
            ),
        ),
        "common": (
            want_common_lanes,
            (U64, U64, U64, ROWS, ROWS, ROWS, F64, BARS, F64, F64, F64, correlation, short),
        ),
        "place": (place_lanes, (U64, *rows)),
        "settle": (
            settle_lanes,
            (U64, I64, BARS, BARS, ROWS, ROWS, PENDING, ROWS, I64, short),
        ),
        "share": (share_lanes, (U64, BARS, ROWS, ROWS, PENDING, ROWS, I64, short, extended)),
    }


PLAIN = kernels(OFF, OFF, OFF, OFF, OFF)
OPTIONS = kernels(ON, ON, ON, ON, ON)


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


ALWAYS = {
    "account": ("divpd", "mulpd", "addpd"),
    "sum": ("mulpd", "addpd", "subpd"),
    "common": ("mulpd", "subpd", "minpd"),
    "carry": ("mulpd", "addpd"),
    "mark": ("mulpd", "addpd"),
    "reduce": ("mulpd", "subpd"),
    "fill": ("divpd", "mulpd", "subpd", "minpd|maxpd"),
    "stop": ("mulpd", "subpd"),
    "margin": ("mulpd", "addpd"),
    "other_size": ("divpd", "mulpd"),
    "want": ("mulpd", "subpd", "minpd"),
    "settle": ("mulpd", "subpd", "addpd"),
    "share": ("divpd", "mulpd", "minpd|maxpd"),
}
"""What the loops of a phase compute in any case."""

WITH_OPTIONS = {
    "reduce": ("divpd", "sqrtpd"),
    "fill": ("sqrtpd",),
    "stop": ("divpd", "sqrtpd"),
    "power": ("mulpd", "addpd"),
}
"""What they compute besides where all options are on: market impact, fees, values of shorts."""

COMPARE = {"count", "place"}
"""Phases that compare and count only."""


def assert_packed(name: str, kernel: Kernel, operations: tuple[str, ...]) -> None:
    """Assert that each of the operations is there on full registers."""
    text = assembly(*kernel)
    for operation in operations:
        assert packed(f"(?:{operation})", text), f"{name} has no packed {operation}"


@pytest.mark.parametrize("name", ALWAYS)
def test_lanes_are_vectorized(name: str) -> None:
    assert_packed(name, PLAIN[name], ALWAYS[name])


@pytest.mark.parametrize("name", sorted({*ALWAYS, *WITH_OPTIONS}))
def test_lanes_with_options_are_vectorized(name: str) -> None:
    assert_packed(name, OPTIONS[name], (*ALWAYS.get(name, ()), *WITH_OPTIONS.get(name, ())))


@pytest.mark.parametrize("name", sorted(COMPARE))
@pytest.mark.parametrize("options", [PLAIN, OPTIONS], ids=["plain", "options"])
def test_comparisons_are_vectorized(name: str, options: dict[str, Kernel]) -> None:
    assert_packed(name, options[name], ("cmp[a-z_]*pd",))


@pytest.mark.parametrize("name", ["want", "common", "fill", "share"])
@pytest.mark.parametrize("options", [PLAIN, OPTIONS], ids=["plain", "options"])
def test_whole_lots_are_vectorized(name: str, options: dict[str, Kernel]) -> None:
    assert_packed(name, options[name], ("roundpd|rndscalepd",))


def test_a_scalar_function_has_no_packed_operations() -> None:
    # This shows that the patterns distinguish the two.
    text = assembly(portfolio.drawdown, (F64, F64))
    assert re.search(r"\bv?divsd\b", text)
    assert not packed("divpd", text)
