"""Measure all cases on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from kernels import layout
from optimizer.bench.assembly import VECTOR, instruction_set
from optimizer.bench.case import Case
from optimizer.bench.inputs import N_BARS, N_SYMBOLS, simulated_bars
from optimizer.bench.kernel_cases import feature_cases, regime_cases, summary_cases
from optimizer.bench.lane_cases import lane_cases, simulation_cases
from optimizer.bench.limits import Limits, measure_limits
from optimizer.bench.machine import this_machine
from optimizer.bench.record import Bench, Measurement


def measure(cases: Sequence[Case], turns: int) -> list[tuple[float, float]]:
    """Time cases in turns, so that a disturbance does not hit one case only.

    Args:
        cases: the cases to be timed.
        turns: how often each is timed; one more turn, the first, compiles.

    Returns:
        Least and median time of one element of each case, ns of this thread's processor time, which
        does not pass while another program has the core.
    """
    taken: list[list[float]] = [[] for _ in cases]
    for turn in range(turns + 1):
        for case, times in zip(cases, taken, strict=True):
            case.reset()
            start = time.thread_time_ns()
            case.work()
            if turn:  # the first compiles
                times.append((time.thread_time_ns() - start) / case.elements)
    return [(min(times), statistics.median(times)) for times in taken]


def run_bench(turns: int = 30) -> Bench:
    """Measure this machine and every kernel on one core.

    Args:
        turns: how often each kernel is timed; the whole simulation takes a third as many.

    Returns:
        Limits and times.
    """
    limits = measure_limits()
    bars = simulated_bars(N_BARS, N_SYMBOLS)
    one = replace(
        bars,
        symbols=bars.symbols[:1],
        has_volume=None,
        **{m: getattr(bars, m)[:, :1].copy() for m in ("open", "high", "low", "close", "volume")},
    )
    kernels = [
        *feature_cases(bars),
        *lane_cases(N_SYMBOLS),
        *regime_cases(N_BARS),
        *summary_cases(),
    ]
    times = measure(kernels, turns)
    mixes = {case.kernel: case.mix() for case in kernels if case.mix is not None}
    wholes = [*simulation_cases(one, mixes), *simulation_cases(bars, mixes)]
    times += measure(wholes, max(3, turns // 3))
    widest = instruction_set(
        "\n".join(case.assembly() for case in kernels if case.lanes == layout.LANES)
    )
    rows = tuple(
        _measurement(case, *pair, limits, widest)
        for case, pair in zip([*kernels, *wholes], times, strict=True)
    )
    return Bench(this_machine(), limits, mixes, rows)


def _measurement(
    case: Case, least: float, median: float, limits: Limits, widest: str
) -> Measurement:
    """A row with its limit; a case without assembly takes ``widest`` as its instruction set."""
    limit_ns, gb_s, limit = None, None, ""
    if case.mix is not None:
        mix = case.mix()
        limit_ns, limit = limits.bound_ns(mix) / VECTOR, "instructions"
        # 8 bytes of each lane with every load and store
        gb_s = 8.0 * (mix.loads + mix.stores) / least
    elif case.traffic is not None:
        limit_ns, limit = case.traffic / limits.read_gb_s, "memory"
        gb_s = case.traffic / least
    assembly = case.assembly()
    return Measurement(
        kernel=case.kernel,
        element=case.element,
        ns=least,
        median_ns=median,
        gb_s=gb_s,
        limit_ns=limit_ns,
        limit=limit,
        lanes=case.lanes,
        instruction_set=instruction_set(assembly) if assembly else widest,
    )
