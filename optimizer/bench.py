"""Throughput of every kernel on this machine, beside what the machine can do at most.

Each kernel is called many times from compiled code; the kernels take turns, and the least time over
the turns counts, so that other load on the machine weighs little. Bars are simulated, seeded.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from kernels import features, layout, metrics, overfitting, regimes, risk, simulation
from kernels._jit import jit_borrowing
from kernels.codes import AVERAGE_CROSS, BREAKOUT, MEAN_REVERSION, MOMENTUM
from optimizer.backtest import NO_REGIME, Inputs, Tile, evaluate, prepare, study_rules
from optimizer.config import study_from_dict
from optimizer.errors import DataError, counted
from optimizer.machine import (
    VECTOR,
    Limits,
    Machine,
    Mix,
    Repeated,
    instruction_mix,
    instruction_set,
    measure_limits,
    this_machine,
)
from optimizer.space import build_space
from optimizer.types import Bars, FloatArray

SCHEMA_VERSION = 1
NOISE = 0.10
"""A kernel counts as slower where its least time has grown by more than this share."""

N_BARS, N_SYMBOLS, N_SETS = 1_000, 10, 512
CELL = "bar x symbol x set"


@dataclass(frozen=True)
class Measurement:
    """One kernel.

    Attributes:
        kernel: name, unique.
        element: what ``ns`` is the time of.
        ns: least time of one element.
        median_ns: median over the turns.
        gb_s: what it loads and stores, in cache or memory; None where that was not counted.
        limit_ns: least time of one element by the measured limits; None where no limit is stated.
        limit: what sets it: "instructions" of the kernel, "memory", or nothing.
        lanes: elements computed side by side; 1 for what goes one after the other.
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
        """Share of the limit that is reached."""
        return None if self.limit_ns is None else self.limit_ns / self.ns


@dataclass(frozen=True)
class Bench:
    """All measurements of one machine."""

    machine: Machine
    limits: Limits
    mixes: Mapping[str, Mix]
    rows: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": asdict(self.machine),
            "limits": asdict(self.limits),
            "instructions_per_8_lanes": {name: asdict(mix) for name, mix in self.mixes.items()},
            "kernels": [{**asdict(row), "share": row.share} for row in self.rows],
        }


@dataclass(frozen=True)
class Change:
    """One kernel beside an older measurement; ``ratio`` is new over old, above 1 slower."""

    kernel: str
    old_ns: float
    ns: float

    @property
    def ratio(self) -> float:
        """New time over old."""
        return self.ns / self.old_ns

    @property
    def slower(self) -> bool:
        """Whether it is slower by more than the noise."""
        return self.ratio > 1.0 + NOISE


def load_times(path: Path) -> tuple[Machine, dict[str, float]]:
    """Machine and least times of a file that ``barsweep bench --json`` wrote.

    Raises:
        DataError: there is no such file, or it is none of ours.
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
    """Every kernel that both measured, in the order of ``bench``."""
    return [
        Change(row.kernel, times[row.kernel], row.ns) for row in bench.rows if row.kernel in times
    ]


def same_machine(one: Machine, other: Machine) -> bool:
    """Whether times of the two can be compared."""
    return (one.processor, one.cores) == (other.processor, other.cores)


# --- What is measured -----------------------------------------------------------------------------


@dataclass(eq=False)
class Case:
    """Work to be timed.

    Attributes:
        kernel, element: names.
        elements: how many one call of ``work`` computes.
        work: what is timed.
        reset: restores what ``work`` changes; not timed.
        assembly: of the kernel, once ``work`` has been called.
        lanes: computed side by side.
        traffic: bytes of an element to and from memory, where that is what limits it.
        mix: of an element times 8, where its instructions are what limits it.
    """

    kernel: str
    element: str
    elements: int
    work: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    assembly: Callable[[], str] = lambda: ""
    lanes: int = 1
    traffic: float | None = None
    mix: Callable[[], Mix] | None = None


def simulated_bars(n_bars: int, n_symbols: int) -> Bars:
    """Bars of correlated random walks; the same for the same arguments."""
    rng = np.random.default_rng(4)
    market = rng.normal(3e-4, 0.008, (n_bars, 1))
    close = 100.0 * np.exp(np.cumsum(market + rng.normal(0.0, 0.01, (n_bars, n_symbols)), axis=0))
    open_ = close * np.exp(rng.normal(0.0, 0.004, close.shape))
    spread = np.exp(np.abs(rng.normal(0.0, 0.006, close.shape)))
    return Bars(
        symbols=tuple(f"S{k:03}" for k in range(n_symbols)),
        timestamps=np.datetime64("2000-01-03", "ns") + np.arange(n_bars) * np.timedelta64(1, "h"),
        open=open_,
        high=np.maximum(open_, close) * spread,
        low=np.minimum(open_, close) / spread,
        close=close,
        volume=np.full(close.shape, 1e6),
        bars_per_year=252.0,
        source="simulated",
    )


def momentum_sets(
    bars: Bars, n_sets: int = N_SETS, shortest: int = 5, **risk_parameters: Any
) -> tuple[Inputs, Tile, Tile]:
    """Inputs, and momentum parameter sets that share their features or have their own.

    Lookbacks are from ``shortest`` to 250 bars.
    """
    content = {
        "study": {"name": "bench"},
        "data": {"path": "."},
        "strategy": {"name": "momentum", "lookback": {"low": shortest, "high": 250}},
        "risk": {"correlation_penalty": 0.0, **risk_parameters},
    }
    study = study_from_dict(content)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars.n_symbols), 0.0)
    rng = np.random.default_rng(1)
    one = space.branches[0].lanes({"momentum_lookback": max(60, shortest)})
    columns = {name: np.repeat(array, n_sets) for name, array in one.items()}
    columns["momentum_threshold"] = rng.uniform(0.0, 0.1, n_sets)
    columns["kelly_fraction"] = rng.uniform(0.1, 0.5, n_sets)
    columns["rebalance_band"] = rng.uniform(0.05, 0.3, n_sets)
    own = {**columns, "momentum_lookback": rng.integers(shortest, 251, n_sets).astype(np.float64)}
    return inputs, Tile("momentum", "none", None, columns), Tile("momentum", "none", None, own)


def repeated_case(
    kernel: str,
    element: str,
    elements: int,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    calls: int = 1,
    **details: Any,
) -> Case:
    """``calls`` calls of one kernel, its arrays restored before each turn."""
    repeated = Repeated(function)
    kept = [(a, a.copy()) for a in arguments if isinstance(a, np.ndarray) and a.flags.writeable]

    def reset() -> None:
        for array, copy in kept:
            array[...] = copy

    return Case(
        kernel,
        element,
        elements * calls,
        lambda: repeated(calls, *arguments),
        reset,
        lambda: repeated.assembly,
        **details,
    )


def feature_cases(bars: Bars) -> list[Case]:
    """Each feature over the bars of one symbol, and the correlations of all."""
    n, lookback = bars.n_bars, 60
    high, low, close = (np.array(getattr(bars, m)[:, 0]) for m in ("high", "low", "close"))
    out = np.empty(n)
    cases = []
    for name in ("sma", "ema", "rsi", "momentum", "volatility", "atr"):
        series = getattr(features, name)
        state = np.zeros(getattr(features, f"{name}_state_size")(lookback))
        inputs = (high, low, close) if name == "atr" else (close,)
        cases.append(
            repeated_case(
                f"feature {name}",
                "bar x symbol",
                n,
                series,
                (*inputs, lookback, state, out),
                traffic=8.0 * (len(inputs) + 1),
            )
        )
    m, refresh = bars.n_symbols, 4
    matrices = np.empty((len(range(lookback, n, refresh)), m, m))
    state = np.zeros(features.correlation_state_size(lookback, m))
    arguments = (np.array(bars.close), lookback, lookback, refresh, state, matrices)
    pairs = len(matrices) * m * (m - 1) // 2
    cases.append(
        repeated_case(
            "feature correlation", "pair of symbols", pairs, features.correlation, arguments
        )
    )
    return cases


def regime_cases(n_bars: int) -> list[Case]:
    """The steps of the regime models over simulated observations."""
    rng = np.random.default_rng(2)
    observations = rng.normal(size=(n_bars, 2))
    hmm = (
        observations,
        np.full(3, 1.0 / 3.0),
        np.full((3, 3), 0.05) + 0.85 * np.eye(3),
        rng.normal(size=(3, 2)),
        np.ones((3, 2)),
        np.empty((n_bars, 3)),
    )
    n_vectors = 120
    svm = (
        observations,
        rng.normal(size=(n_vectors, 2)),
        np.full(3, n_vectors // 3),
        rng.normal(size=(2, n_vectors)),
        rng.normal(size=3),
        0.5,
        np.empty((n_bars, 3)),
        np.empty(n_bars, np.int64),
    )
    market = (rng.normal(size=n_bars), np.zeros(60), np.zeros(1, np.int64), np.empty((n_bars, 2)))
    return [
        repeated_case("regime features", "bar", n_bars, regimes.market_features, market),
        repeated_case("regime HMM, 3 states", "bar", n_bars, regimes.hmm_filter, hmm),
        repeated_case("regime SVM", "bar x vector", n_bars * n_vectors, regimes.svm_decision, svm),
    ]


@dataclass(eq=False)
class _Block:
    """Buffers of one block of lanes in the middle of a simulation, and what it reads."""

    n_symbols: int
    state: FloatArray = field(init=False)
    positions: FloatArray = field(init=False)
    parameters: FloatArray = field(init=False)
    scratch: FloatArray = field(init=False)
    values: FloatArray = field(init=False)
    prices: FloatArray = field(init=False)
    pending: Any = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        n = self.n_symbols
        zeros = layout.aligned_zeros
        self.state = zeros((int(layout.STATE_BLOCK),))
        self.positions = zeros((n * int(layout.POSITION_BLOCK),))
        self.parameters = zeros((int(layout.PARAMETER_BLOCK),))
        self.scratch = zeros((layout.SCRATCH_SIZE,))
        self.values = zeros((n, layout.STRIDE))
        self.values[:] = rng.uniform(0.0, 9_000.0, self.values.shape)
        self.prices = np.full((1, n), 100.0)
        self.prices.flags.writeable = False
        self.pending = np.zeros((1, n), dtype=np.uint8)

        def fill(rows: FloatArray, offset: Any, low: float, high: float) -> None:
            rows[int(offset) : int(offset) + layout.LANES] = rng.uniform(low, high, layout.LANES)

        for offset, low, high in (
            (layout.CASH, 1e4, 5e4),
            (layout.EQUITY, 9.9e4, 1.01e5),
            (layout.EXPOSURE, 0.4, 0.9),
            (layout.VARIANCE, 1e-4, 2e-4),
            (layout.PEAK, 1e5, 1.1e5),
        ):
            fill(self.state, offset, low, high)
        for offset, low, high in (
            (layout.KELLY_FRACTION, 0.1, 0.5),
            (layout.MAX_EXPOSURE, 1.0, 1.0),
            (layout.BEAR_MULTIPLIER, 0.6, 0.6),
            (layout.NEUTRAL_MULTIPLIER, 1.0, 1.0),
            (layout.BULL_MULTIPLIER, 1.2, 1.2),
            (layout.CORRELATION_PENALTY, 0.5, 0.5),
            (layout.MIN_LOTS, 1.0, 1.0),
            (layout.REBALANCE_BAND, 0.05, 0.3),
            (layout.STOP_LOSS, 0.1, 0.3),
            (layout.TAKE_PROFIT, 0.1, 0.3),
            (layout.TRAILING_STOP, 0.1, 0.3),
            (layout.SIGNAL_0, 0.0, 0.1),
            (layout.SIGNAL_1, 0.1, 0.2),
        ):
            fill(self.parameters, offset, low, high)
        for offset, low, high in (
            (layout.GROSS, 4e4, 9e4),
            (layout.EQUITY_NOW, 1e5, 1e5),
            (layout.CASH_LEFT, 1e4, 5e4),
            (layout.BUDGET_LEFT, 1e4, 5e4),
            (layout.SCALED_KELLY, 0.1, 0.5),
            (layout.INVERSE_VARIANCE, 5e3, 1e4),
            (layout.DIRECTION, 1.0, 1.0),
            (layout.FRACTION, 0.05, 0.2),
        ):
            fill(self.scratch, offset, low, high)
        for s in range(n):
            at = s * int(layout.POSITION_BLOCK)
            for offset, low, high in (
                (layout.LOTS, 10.0, 90.0),
                (layout.FLOW, -9e3, -1e3),
                (layout.ENTRY, 95.0, 105.0),
                (layout.BEST, 100.0, 105.0),
            ):
                fill(self.positions, at + int(offset), low, high)


_RULES = {
    "momentum": MOMENTUM,
    "mean reversion": MEAN_REVERSION,
    "average cross": AVERAGE_CROSS,
    "breakout": BREAKOUT,
}


def _signals(strategy: int, shared: bool) -> Callable[..., None]:
    """``signal_lanes`` of one rule, the others compiled out."""
    lanes = simulation.signal_lanes

    @jit_borrowing
    def signals(
        q: Any, parameters: Any, scratch: Any, close: float, x0: float, x1: float, vol: float
    ) -> None:
        lanes(q, strategy, parameters, scratch, close, x0, x1, vol, 1.0 / vol, shared)

    return signals


def lane_cases(n_symbols: int) -> list[Case]:
    """Each phase of the simulation alone, on one block of lanes in the first-level cache."""
    zero, off = np.uint64(0), (None, None, None)
    per_call = {"calls": 500, "lanes": layout.LANES}
    lanes = layout.LANES
    cases = []
    for name, code in _RULES.items():
        block = _Block(1)
        arguments = (zero, block.parameters, block.scratch, 100.0, 0.05, 0.04, 0.01)
        for suffix, shared in (("", True), (", own features", False)):
            if name == "momentum" or shared:
                cases.append(
                    _lane_case(
                        f"signal {name}{suffix}",
                        CELL,
                        lanes,
                        _signals(code, shared),
                        arguments,
                        per_call,
                    )
                )

    def add(name: str, element: str, n: int, function: Any, arguments: Sequence[Any]) -> None:
        cases.append(_lane_case(name, element, lanes * n, function, arguments, per_call))

    for name, options in (
        ("", off),
        (", correlation", (True, None, None)),
        (", long/short", (None, None, True)),
    ):
        b = _Block(1)
        add(
            f"sizing{name}",
            CELL,
            1,
            simulation.size_lanes,
            (zero, zero, b.positions, b.parameters, b.scratch, 100.0, *options),
        )
    b = _Block(n_symbols)
    add(
        "marks",
        CELL,
        n_symbols,
        simulation.mark_lanes,
        (zero, 0, b.prices, b.state, b.positions, b.scratch, None, 1.0, None),
    )
    b = _Block(n_symbols)
    matrix = np.full((1, n_symbols, n_symbols), 0.5)
    matrix.flags.writeable = False
    add(
        "mean correlation",
        CELL,
        n_symbols,
        simulation.rho_lanes,
        (zero, 0, matrix, b.positions, b.scratch, b.values),
    )
    b = _Block(1)
    add("accounts", "bar x set", 1, simulation.account_lanes, (zero, b.state, b.scratch, 0.94))
    b = _Block(1)
    add(
        "stops",
        CELL,
        1,
        simulation.stop_lanes,
        (
            zero,
            0,
            b.prices,
            np.full((1, 1), 101.0),
            np.full((1, 1), 99.0),
            b.state,
            b.positions,
            b.parameters,
            1.0,
            0.0,
            0.0,
            None,
            None,
            None,
        ),
    )
    return cases


def _lane_case(
    kernel: str,
    element: str,
    elements: int,
    function: Any,
    arguments: Sequence[Any],
    details: Mapping[str, Any],
) -> Case:
    case = repeated_case(kernel, element, elements, function, arguments, **details)
    case.mix = lambda: _mix_of(kernel, instruction_mix(case.assembly()), elements // layout.LANES)
    return case


def _mix_of(kernel: str, blocks: Sequence[Mix], n_symbols: int) -> Mix:
    """Instructions for 8 elements of a phase, from the blocks of its code.

    The longest block is the loop over lanes. Marks and correlations are sums that take four symbols a
    pass: theirs is the block that computes most for each number stored, divided by the four. The mean
    correlation adds the block that divides.
    """

    def length(mix: Mix) -> float:
        return sum(mix.parts())

    if kernel not in ("marks", "mean correlation"):
        return max(blocks, key=length, default=Mix())
    sums = max(
        (one for one in blocks if one.stores and not one.divides),
        key=lambda mix: mix.arithmetic / mix.stores,
        default=Mix(),
    )
    if kernel == "marks":
        return sums.times(0.25)
    means = max((one for one in blocks if one.divides), key=length, default=Mix())
    return sums.times(n_symbols / 4) + means


def summary_cases() -> list[Case]:
    """Metrics, the order of one portfolio, and the probability of backtest overfitting."""
    rng = np.random.default_rng(5)
    n = 4_096
    rows = rng.uniform(1.0, 2.0, (layout.N_LANE_ROWS, n))
    out = np.empty((n, metrics.N_METRICS))
    start = np.ones(n)
    n_blocks, n_sets = 12, 1_024
    masks = np.array([sum(1 << b for b in c) for c in combinations(range(n_blocks), n_blocks // 2)])
    rest = ~masks & (2**n_blocks - 1)
    sums = rng.normal(0.0, 0.1, (n_blocks, n_sets))
    squares = rng.uniform(0.01, 0.02, (n_blocks, n_sets))
    half = np.full(len(masks), 600.0)
    inside, outside, ranks = (np.zeros(len(masks)) for _ in range(3))
    winners = np.zeros(len(masks), np.int64)
    split_sets = len(masks) * n_sets
    m = N_SYMBOLS
    decision = (
        1.0, 1e-3, 0.5, 80.0, 0.3, 1e-4, np.full((m, m), 0.5), 0, np.full(m, 1e4), 1e5, 0.5, 1e5,
        50.0, 0.0, 100.0, 5e4, 5e4, 1.0, 0.1, None,
    )  # fmt: skip
    return [
        repeated_case("decide, event flow", "bar x symbol", 1, risk.decide, decision, 20_000),
        repeated_case("metrics", "set", n, metrics.performance, (rows, start, 2_000, 252.0, out)),
        repeated_case(
            "overfitting, selection",
            "split x set",
            split_sets,
            overfitting.select_in_sample,
            (sums, squares, 0, masks, rest, half, half, winners, inside, outside),
            lanes=overfitting.TILE,
        ),
        repeated_case(
            "overfitting, ranks",
            "split x set",
            split_sets,
            overfitting.rank_out_of_sample,
            (sums, squares, rest, half, outside, ranks),
            lanes=overfitting.TILE,
        ),
    ]


CONFIGURATIONS: tuple[tuple[str, bool, Mapping[str, Any]], ...] = (
    ("shared features", True, {}),
    ("own lookbacks", False, {}),
    ("shared, correlation", True, {"correlation_penalty": 0.5}),
    ("shared, stops", True, {"stop_loss": 0.1}),
    ("shared, long/short", True, {"allow_short": True}),
)


def simulation_cases(bars: Bars, mixes: Mapping[str, Mix]) -> list[Case]:
    """The whole simulation, metrics included, in its main configurations.

    Args:
        bars: of all symbols.
        mixes: of the phases by their names; the limit of a configuration is that of its phases.
    """
    flat = {NO_REGIME: np.zeros(bars.n_bars, dtype=np.int8)}
    n = bars.n_symbols
    cases = []
    for name, shares, risk_parameters in CONFIGURATIONS:
        if "correlation" in name and n == 1:
            continue
        inputs, shared, own = momentum_sets(bars, **risk_parameters)
        tile = shared if shares else own
        cases.append(
            Case(
                f"simulation, {counted(n, 'symbol')}, {name}",
                CELL,
                (bars.n_bars - inputs.first) * n * tile.n_lanes,
                lambda inputs=inputs, tile=tile: evaluate(inputs, [tile], flat),  # type: ignore[misc]
                lanes=layout.LANES,
                mix=lambda name=name: bound_mix(name, n, mixes),  # type: ignore[misc]
            )
        )
    return cases


def bound_mix(configuration: str, n_symbols: int, mixes: Mapping[str, Mix]) -> Mix:
    """Instructions for 8 cells of a configuration: its phases, without fills.

    Fills depend on the orders, so the bound leaves them out, and what it says is too little rather
    than too much.
    """
    option = configuration.removeprefix("shared, ")
    signals = "signal momentum" + (", own features" if configuration == "own lookbacks" else "")
    sizing = f"sizing, {option}" if option in ("correlation", "long/short") else "sizing"
    mix = mixes[signals] + mixes[sizing] + mixes["marks"] + mixes["accounts"].times(1 / n_symbols)
    if option == "correlation":
        mix += mixes["mean correlation"]
    return mix + mixes["stops"] if option == "stops" else mix


# --- Measuring ------------------------------------------------------------------------------------


def measure(cases: Sequence[Case], turns: int) -> list[tuple[float, float]]:
    """Least and median ns of one element of each case, the cases taking turns.

    The processor time of this thread, which does not count while another program has the core.
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
        turns: of the kernels; the whole simulation takes a third of them.
    """
    limits = measure_limits()
    bars = simulated_bars(N_BARS, N_SYMBOLS)
    one = replace(
        bars,
        symbols=bars.symbols[:1],
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
    """A row, with the limit that holds for it; ``widest`` where the case has no assembly."""
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
