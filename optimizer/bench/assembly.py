"""Vector instructions of a compiled kernel, counted in its assembly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kernels import layout

VECTOR = 8
"""Lanes that instructions are counted for: those of one 512-bit register."""


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
        """Scale every count.

        Args:
            factor: the factor by which it is multiplied.

        Returns:
            A new mix.
        """
        return Mix(*(part * factor for part in self.parts()))

    def parts(self) -> tuple[float, float, float, float]:
        """The four counts.

        Returns:
            In the order of the attributes.
        """
        return self.divides, self.arithmetic, self.loads, self.stores


_SETS = {"zmm": "AVX-512", "ymm": "AVX2", "xmm": "SSE2"}
_COMPUTES_ON_BITS = re.compile(r"v?p(and|andn|or|xor|ternlog|srl|sll|sra|add|sub|cmp|blendm|movm2)")


def instruction_set(assembly: str) -> str:
    """The widest registers that hold several numbers.

    Args:
        assembly: x86 code in AT&T syntax.

    Returns:
        "AVX-512 zmm", "AVX2 ymm" or "SSE2 xmm"; "scalar" without packed arithmetic.
    """
    for register, name in _SETS.items():
        if re.search(rf"\bv?(add|sub|mul|div|min|max)p[ds]\b[^\n]*%{register}\d", assembly):
            return f"{name} {register}"
    return "scalar"


def instruction_mix(assembly: str, lanes: int = layout.LANES) -> list[Mix]:
    """Count the vector instructions of each block of code.

    A block is an innermost loop, or a stretch of code outside of loops. A loop that counts lanes
    handles as many per turn as it adds to its counter; any other block is unrolled over all lanes.

    Args:
        assembly: x86 code in AT&T syntax.
        lanes: over which a block without a loop is unrolled.

    Returns:
        Instructions for 8 lanes of each block that has any, in the order of the text.
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
