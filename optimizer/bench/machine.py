"""What this machine can do at most, and what compiled kernels ask of it.

The peaks are measured by small kernels of our own, compiled like all others. A kernel's vector
instructions are counted in its assembly; from both follows the least time it can take.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from kernels import layout
from kernels._jit import jit_borrowing
from optimizer.types import FloatArray

VECTOR = 8
"""Lanes that instructions are counted for: those of one 512-bit register."""


@dataclass(frozen=True)
class Machine:
    """Where a measurement was taken; two of them compare where ``processor`` and ``cores`` agree."""

    processor: str
    cores: int
    python: str
    numba: str
    numpy: str


def this_machine() -> Machine:
    """The machine and the releases that compile for it."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # not Linux
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        named = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", first, re.M))
        if "model name" in named:
            numbers = ", ".join(f"{key} {named[key]}" for key in ("cpu family", "model"))
            processor = f"{named['model name']} ({numbers})"
    return Machine(
        processor=processor,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        numba=str(numba.__version__),
        numpy=str(np.__version__),
    )


@dataclass(frozen=True)
class Mix:
    """Vector instructions on doubles for each 8 lanes.

    Attributes:
        divides: divisions and square roots.
        arithmetic: all others that compute, compare or select.
        loads: reads from memory, those within another instruction included.
        stores: writes to memory.
    """

    divides: float = 0.0
    arithmetic: float = 0.0
    loads: float = 0.0
    stores: float = 0.0

    def __add__(self, other: Mix) -> Mix:
        return Mix(*(a + b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def times(self, factor: float) -> Mix:
        """Each count times ``factor``."""
        return Mix(*(part * factor for part in self.parts()))

    def parts(self) -> tuple[float, float, float, float]:
        """The four counts."""
        return self.divides, self.arithmetic, self.loads, self.stores


_SETS = {"zmm": "AVX-512", "ymm": "AVX2", "xmm": "SSE2"}
_COMPUTES_ON_BITS = re.compile(r"v?p(and|andn|or|xor|ternlog|srl|sll|sra|add|sub|cmp|blendm|movm2)")


def instruction_set(assembly: str) -> str:
    """Widest registers that hold packed doubles: "AVX-512 zmm", ...; "scalar" if none do."""
    for register, name in _SETS.items():
        if re.search(rf"\bv?(add|sub|mul|div|min|max)pd\b[^\n]*%{register}\d", assembly):
            return f"{name} {register}"
    return "scalar"


def instruction_mix(assembly: str, lanes: int = layout.LANES) -> list[Mix]:
    """Vector instructions of every block of x86 code that has some, in the order of the text.

    A block is an innermost loop, or a stretch of code outside of them. A loop that counts lanes takes
    as many a turn as it adds to the counter; any other block was unrolled over all ``lanes``.
    """
    blocks = (_count(block, _lanes_of(block, lanes)) for block in _blocks(assembly))
    return [mix for mix in blocks if any(mix.parts())]


def _blocks(assembly: str) -> list[list[str]]:
    """Lines cut at labels and behind jumps; a block that jumps to its own label is a loop."""
    blocks: list[list[str]] = [[]]
    for line in assembly.splitlines():
        text = line.strip()
        if re.match(r"[.\w$]+:", text):
            blocks.append([text])
        elif text and not text.startswith((".", "#")):
            blocks[-1].append(text)
            if text.startswith("j"):
                blocks.append([])
    return blocks


def _lanes_of(block: Sequence[str], lanes: int) -> int:
    label = block[0].removesuffix(":") if block and block[0].endswith(":") else None
    jump = re.match(r"j\w+\s+(\S+)", block[-1]) if block else None
    if label is None or jump is None or jump.group(1) != label:
        return lanes
    whole = [line for line in block if re.match(r"v?\w+pd\t.*%[xyz]mm", line)]
    for line in block:
        added = re.match(r"addq\s+\$(-?\d+), (%\w+)", line)
        if added is None:
            continue
        # The counter is an index of the vectors, in doubles, or it is in bytes.
        step, counter = abs(int(added.group(1))), re.escape(added.group(2))
        if any(re.search(rf"\(%\w+,{counter},8\)", other) for other in whole):
            return min(step, lanes)
        if any(re.search(rf"\(%\w+,{counter}\)|\({counter}\)", other) for other in whole):
            return min(step // 8, lanes)
    return lanes


def _count(block: Sequence[str], lanes: int) -> Mix:
    divides = arithmetic = loads = stores = 0
    for line in block:
        name, _, operands = line.partition("\t")
        registers = re.findall(r"%([xyz]mm)\d+", operands)
        packed = name.endswith("pd") or _COMPUTES_ON_BITS.match(name)
        # A value that all lanes share is broadcast once, ahead of the loop.
        if not registers or not packed or "broadcast" in name:
            continue
        if len(set(registers)) > 1 or re.match(r"v?(extract|insert|unpck|shuf|perm)", name):
            continue  # puts single numbers together
        memory = re.search(r"\(.*?\)", operands)
        moves = re.match(r"v?mov[au]pd", name) is not None
        if moves and memory and re.match(r"%[xyz]mm\d+, [^%]*\(", operands):
            stores += 1
        elif moves and memory:
            loads += 1
        elif re.match(r"v?(div|sqrt)pd", name):
            divides += 1
            loads += memory is not None
        elif not moves or "{" in operands:  # between registers, only a select is work
            arithmetic += 1
            loads += memory is not None
    return Mix(divides, arithmetic, loads, stores).times(VECTOR / lanes)


@dataclass(frozen=True)
class Limits:
    """Least time of one vector instruction on 8 doubles, in ns, and of memory, in GB/s.

    Attributes:
        divide_ns: division.
        arithmetic_ns: addition, multiplication, minimum and maximum in equal parts.
        load_ns, store_ns: from and to the first-level cache.
        read_gb_s: memory beyond every cache.
    """

    divide_ns: float
    arithmetic_ns: float
    load_ns: float
    store_ns: float
    read_gb_s: float

    def bound_ns(self, mix: Mix) -> float:
        """Least time for 8 lanes: that of the busiest unit.

        The divider, arithmetic, loads and stores go on side by side: kernels are measured that take
        less than the sum of the first two.
        """
        return max(
            mix.divides * self.divide_ns,
            mix.arithmetic * self.arithmetic_ns,
            mix.loads * self.load_ns,
            mix.stores * self.store_ns,
        )


_ROWS = 9
_ROW = np.uint64(256)  # doubles: all rows stay in the first-level cache
_CHAIN = 8  # times four instructions on what was loaded once


@jit_borrowing
def _divide(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            x[i] = a / x[i]


@jit_borrowing
def _compute(x: FloatArray, n: int, a: float, b: float) -> None:
    # Four chains side by side: the units are busy while each waits for its own last result.
    for _ in range(n):
        for i in range(_ROW):
            y0, y1, y2, y3 = x[i], x[_ROW + i], x[_ROW + _ROW + i], x[_ROW + _ROW + _ROW + i]
            for _ in range(_CHAIN):
                y0, y1, y2, y3 = y0 * a, y1 * a, y2 * a, y3 * a
                y0, y1, y2, y3 = y0 + b, y1 + b, y2 + b, y3 + b
                y0, y1 = (y0 if y0 < b else b), (y1 if y1 < b else b)
                y2, y3 = (y2 if y2 < b else b), (y3 if y3 < b else b)
                y0, y1 = (y0 if y0 > a else a), (y1 if y1 > a else a)
                y2, y3 = (y2 if y2 > a else a), (y3 if y3 > a else a)
            x[i], x[_ROW + i], x[_ROW + _ROW + i], x[_ROW + _ROW + _ROW + i] = y0, y1, y2, y3


@jit_borrowing
def _load(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            y = x[i]
            for row in range(np.uint64(1), np.uint64(_ROWS)):
                z = x[row * _ROW + i]
                y = (y if y < z else z) if row & np.uint64(1) else y + z
            x[i] = y


@jit_borrowing
def _store(x: FloatArray, n: int, a: float, b: float) -> None:
    for _ in range(n):
        for i in range(_ROW):
            y = x[i] * a
            for row in range(np.uint64(0), np.uint64(_ROWS)):
                x[row * _ROW + i] = y


@jit_borrowing
def _read(x: FloatArray, largest: FloatArray) -> None:
    for start in range(np.uint64(0), np.uint64(len(x)), np.uint64(layout.LANES)):
        for b in range(layout.B):
            value = x[start + b]
            largest[b] = value if value > largest[b] else largest[b]


_MEMORY = 2**24  # doubles: 134 MB, more than the caches of today
_TURNS = 200
"""Turns of a peak kernel in one measurement: some 20 us, seldom interrupted."""


def best_time(work: Callable[[], object], rounds: int) -> float:
    """Least processor time of ``rounds`` calls, in ns; the first call is not counted."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - start)
    return float(min(taken))


def measure_limits(rounds: int = 200) -> Limits:
    """Measure this machine's peaks on one core."""
    x = layout.aligned_zeros((_ROWS * int(_ROW),))
    vectors = int(_ROW) // VECTOR * _TURNS

    def per_vector(kernel: Callable[..., None]) -> float:
        def work() -> None:
            x[:] = 1.0
            kernel(x, _TURNS, 0.75, 1.25)

        return best_time(work, rounds) / vectors

    divide, compute, load, store = map(per_vector, (_divide, _compute, _load, _store))
    large = layout.aligned_zeros((_MEMORY,))
    large[:] = 1.0
    largest = layout.aligned_zeros((layout.LANES,))
    read = best_time(lambda: _read(large, largest), max(3, rounds // 20))
    return Limits(
        divide_ns=divide,
        arithmetic_ns=compute / (4 * 4 * _CHAIN),
        load_ns=load / _ROWS,
        store_ns=store / _ROWS,
        read_gb_s=large.nbytes / read,
    )


class Repeated:
    """A kernel called many times from compiled code, so that a call from Python does not weigh.

    Compiled anew, since what comes from the disk cache has no assembly to show.
    """

    def __init__(self, kernel: Callable[..., Any]) -> None:
        def repeat(n: int, arguments: Any) -> None:
            for _ in range(n):
                kernel(*arguments)

        options: dict[str, Any] = dict(getattr(kernel, "targetoptions"))  # noqa: B009
        self._repeat: Any = numba.jit(**options)(repeat)

    def __call__(self, n: int, *arguments: Any) -> None:
        """Call the kernel ``n`` times."""
        self._repeat(n, arguments)

    @property
    def assembly(self) -> str:
        """Of what was called so far."""
        return "\n".join(self._repeat.inspect_asm().values())
