"""Measured times, and their comparison with earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optimizer.bench.assembly import Mix
from optimizer.bench.limits import Limits
from optimizer.bench.machine import Machine
from optimizer.errors import DataError

SCHEMA_VERSION = 1
NOISE = 0.10
"""A kernel counts as slower where its least time has grown by more than this share."""


@dataclass(frozen=True)
class Measurement:
    """The time of one kernel.

    Attributes:
        kernel: its name, unique.
        element: what ``ns`` is the time of, such as "bar x symbol".
        ns: least time of one element over all turns.
        median_ns: median over the turns.
        gb_s: bytes loaded and stored per ns, in cache or memory; None where not counted.
        limit_ns: least time of one element by the limits of the machine; None where unknown.
        limit: what sets that limit: "instructions", "memory", or nothing.
        lanes: elements computed side by side; 1 where they are computed one after the other.
        instruction_set: widest registers of packed doubles in its assembly.
    """

    kernel: str
    element: str
    ns: float
    median_ns: float
    gb_s: float | None
    limit_ns: float | None
    limit: str
    lanes: int
    instruction_set: str

    @property
    def share(self) -> float | None:
        """Share of the limit that is reached, 0 to 1; None where there is no limit.

        A limit is measured too. A kernel that takes less than its limit reaches all of it.
        """
        return None if self.limit_ns is None else min(self.limit_ns / self.ns, 1.0)

    @property
    def per_second(self) -> float:
        """Elements a second."""
        return 1e9 / self.ns


@dataclass(frozen=True)
class Bench:
    """All measurements of one machine.

    Attributes:
        machine: where they were taken.
        limits: the limits of that machine.
        mixes: instructions for 8 lanes, by kernel.
        rows: the times.
    """

    machine: Machine
    limits: Limits
    mixes: Mapping[str, Mix]
    rows: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """The measurements as ``barsweep bench --json`` prints them.

        Returns:
            Mappings, lists, texts and numbers.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": asdict(self.machine),
            "limits": asdict(self.limits),
            "instructions_per_8_lanes": {name: asdict(mix) for name, mix in self.mixes.items()},
            "kernels": [{**asdict(row), "share": row.share} for row in self.rows],
        }


@dataclass(frozen=True)
class Change:
    """The time of one kernel compared with an older measurement.

    Attributes:
        kernel: its name.
        old_ns, ns: least time of one element, then and now.
    """

    kernel: str
    old_ns: float
    ns: float

    @property
    def ratio(self) -> float:
        """New time over old; above 1 is slower."""
        return self.ns / self.old_ns

    @property
    def slower(self) -> bool:
        """Whether it is slower by more than the noise."""
        return self.ratio > 1.0 + NOISE


def load_times(path: Path) -> tuple[Machine, dict[str, float]]:
    """Read the times of an earlier measurement.

    Args:
        path: what ``barsweep bench --json`` printed.

    Returns:
        The machine, and the least time of one element in ns by kernel.

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; write one with: barsweep bench --json") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise DataError(f"{path}: not JSON; write one with: barsweep bench --json") from None
    try:
        if content["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{path}: schema_version {content['schema_version']!r}; this release reads"
                f" {SCHEMA_VERSION}"
            )
        times = {str(row["kernel"]): float(row["ns"]) for row in content["kernels"]}
        machine = Machine(**content["machine"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a result of barsweep bench --json") from None
    wrong = [name for name, ns in times.items() if not 0.0 < ns < float("inf")]
    if wrong:
        raise DataError(f"{path}: {wrong[0]}: ns = {times[wrong[0]]}; expected a time above 0")
    return machine, times


def compare_times(bench: Bench, times: Mapping[str, float]) -> list[Change]:
    """Compare with an earlier measurement.

    Args:
        bench: the new measurement.
        times: the earlier ones, ns by kernel.

    Returns:
        Every kernel that both measured, in the order of ``bench``.
    """
    return [
        Change(row.kernel, times[row.kernel], row.ns) for row in bench.rows if row.kernel in times
    ]


def same_machine(one: Machine, other: Machine) -> bool:
    """Whether times of two machines can be compared.

    Args:
        one, other: the machines.

    Returns:
        True if their processors and cores agree.
    """
    return (one.processor, one.cores) == (other.processor, other.cores)
