"""The same work as other programs, one core each, taking turns: equal results first, then time.

Run: ``make bench-peers``, which makes an environment for each peer, or ``python -m benchmarks.peers
[--rounds N] [--only NAME ...] [--no-write]`` where they exist. A peer's worker is a process of its
environment that stays alive; ours is this one, through the product's public functions.

W1: 10,000 momentum parameter sets over 2,520 bars of one symbol, all in above the threshold, out
below minus it, 5 bps, fill at the close. W2: 1,000 over 10 symbols that share cash; above the threshold
a symbol is brought to 8% of equity at every close, what is sold paying for what is bought, so that the
cash is always enough. TPE: a search of 1,000 trials of W1's rule, one parameter set each, against Optuna
over vectorbt.

All-in is an ordinary configuration of the risk manager: a Kelly fraction above any need, exposure up
to 1, lots of 1e-9 units, no correlation penalty, and a rebalance band that never adds to a position.
The longest lookback's bars come before the 2,520.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.simulation import DATA, SYMBOLS
from optimizer import run_study
from optimizer.bars.load import load_bars
from optimizer.catalogue import METRICS
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import NO_REGIME, PRICES, MarketRegime, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray
from optimizer.versions import software_versions

HERE = Path(__file__).parent
README = HERE / "README.md"
RESULTS = HERE / "results" / "peers.json"
MARKERS = ("<!-- peers:start -->", "<!-- peers:end -->")

N_BARS = 2520
CASH = 100_000.0
FEE_BPS = 5.0
MIN_UNITS = 1e-6
COLUMNS = [METRICS.index(name) for name in ("final_equity", "sharpe", "max_drawdown")]
TRIALS = 1000
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)


# --- The work -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A sweep: every lookback with every threshold, over the first ``n_symbols`` symbols.

    A symbol gets ``weight`` of equity, which is restored at each close that wants it; None is all in.
    """

    name: str
    title: str
    n_symbols: int
    lookbacks: tuple[int, ...]
    thresholds: tuple[float, ...]
    weight: float | None = None

    @property
    def n_sets(self) -> int:
        """Parameter sets."""
        return len(self.lookbacks) * len(self.thresholds)

    @property
    def cells(self) -> int:
        """Bars x symbols of one parameter set."""
        return N_BARS * self.n_symbols


W1 = Work(
    "w1",
    "W1: 10,000 parameter sets, 2,520 bars of one symbol",
    1,
    tuple(range(5, 204, 2)),
    tuple(k / 1000 for k in range(1, 101)),
)
W2 = Work(
    "w2",
    "W2: 1,000 parameter sets, 2,520 bars of 10 symbols that share cash",
    10,
    tuple(range(5, 202, 4)),
    tuple(k / 200 for k in range(1, 21)),
    0.08,
)


def make_bars(work: Work) -> Bars:
    """The bars of a work: those of the longest lookback, then ``N_BARS``.

    Their volume is never 0: ours would not trade then, and the others know no volume.
    """
    bars = load_bars(DATA, symbols=SYMBOLS[: work.n_symbols])
    stop = max(work.lookbacks) + N_BARS
    few: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(bars, name)[:stop]) for name in PRICES
    }
    few["volume"] = np.maximum(few["volume"], 1.0)
    return Bars(bars.symbols, bars.timestamps[:stop], **few, bars_per_year=bars.bars_per_year)


def make_study(
    strategy: dict[str, Any],
    data: dict[str, Any],
    trials: int = 1,
    weight: float | None = None,
) -> Study:
    """The rule of a work: see the module's docstring."""
    size: dict[str, Any] = {"kelly_fraction": 1e6, "rebalance_band": 1.0}
    if weight is not None:
        size = {"sizing": "weight", "weight": weight, "rebalance_band": 0.0}
    return study_from_dict(
        {
            "study": {"name": "peers", "seed": 1},
            "data": data,
            "strategy": {"name": "momentum", **strategy},
            "risk": {
                **size,
                "max_exposure": 1.0,
                "correlation_penalty": 0.0,
                "lot_size": 1e-9,
                "min_order_size": MIN_UNITS,
            },
            "costs": {
                "commission_bps": FEE_BPS,
                "slippage_bps": 0.0,
                "fill": "close",
                "initial_cash": CASH,
            },
            "search": {"sampler": "tpe", "trials": trials, "objective": "sharpe"},
            "validation": {"holdout": 0.0},
            "workers": {"count": 1},
        }
    )


def sweep(work: Work, bars: Bars) -> tuple[FloatArray, dict[str, float]]:
    """All sets of a work by the product, as a study with everything swept does it.

    Returns:
        (n_sets, 3) final value, Sharpe and drawdown, and processor seconds of features and simulation.
    """
    start = time.process_time()
    lookbacks, thresholds = list(work.lookbacks), list(work.thresholds)
    swept = {"lookback": {"sweep": lookbacks}, "threshold": {"sweep": thresholds}}
    study = make_study(swept, {"path": str(DATA)}, weight=work.weight)
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    prepared = time.process_time()
    branch = space.branches[0]
    tile = Tile.of(branch, branch.lanes({}))
    regimes = {NO_REGIME: MarketRegime.neutral(bars.n_bars)}
    [result] = evaluate(inputs, [tile], regimes)
    done = time.process_time()
    seconds = {"features": prepared - start, "simulation": done - prepared}
    return result.in_sample[:, COLUMNS], seconds


def write_case(work: Work, bars: Bars, path: Path, trials: int = 0) -> None:
    """What a worker needs to do the same (``peer_workers/serve.py``)."""
    np.savez(
        path,
        **{name: getattr(bars, name) for name in PRICES},
        timestamps=bars.timestamps.astype("datetime64[ns]").astype(np.int64),
        lookbacks=np.repeat(work.lookbacks, len(work.thresholds)),
        thresholds=np.tile(work.thresholds, len(work.lookbacks)),
        first=max(work.lookbacks),
        cash=CASH,
        fees=FEE_BPS / 1e4,
        min_size=MIN_UNITS,
        weight=np.nan if work.weight is None else work.weight,
        bars_per_year=bars.bars_per_year,
        trials=trials,
    )


# --- The peers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a peer does one work.

    Attributes:
        step: every how many parameter sets it runs; its time is per set.
        tolerance: largest difference allowed: of the final value (relative), Sharpe and drawdown
            (absolute); None where it cannot do the same work.
        note: why a tolerance is not tiny, or why the work is not the same.
    """

    step: int
    tolerance: tuple[float, float, float] | None
    note: str = ""


@dataclass(frozen=True)
class Peer:
    """A program to compare with; ``works`` maps the names of works to plans or to why it has none."""

    name: str
    environment: str
    engine: str
    works: dict[str, Plan | str]


EXACT = (1e-9, 1e-8, 1e-9)
_PEAK = (
    "its drawdown does not start at the initial cash: off by the first fee where it buys at once"
)
_VECTORBT: dict[str, Plan | str] = {
    "w1": Plan(1, (1e-9, 1e-8, 1e-3), _PEAK),
    "w2": Plan(1, EXACT),
}
PEERS = (
    Peer("vectorbt, Numba", "vectorbt", "numba", _VECTORBT),
    Peer("vectorbt, Rust", "vectorbt", "rust", _VECTORBT),
    Peer(
        "raptorbt",
        "raptorbt",
        "",
        {
            "w1": Plan(
                1,
                (1e-9, 2e-3, 1e-9),
                "its Sharpe is computed otherwise; that of its equity curve agrees",
            ),
            "w2": Plan(
                1,
                None,
                "not the same work: its runner for shared cash divides what is left among the symbols"
                " that may still open, and restores no weights",
            ),
        },
    ),
    Peer(
        "backtesting.py",
        "backtesting",
        "",
        {
            "w1": Plan(
                200,
                (1e-3, 2e-2, 1e-2),
                "a fill at the close is in its equity one bar later, and one at the last bar never",
            ),
            "w2": "cannot do it: one symbol a run, no shared cash",
        },
    ),
    Peer(
        "PyBroker",
        "pybroker",
        "",
        {
            "w1": Plan(200, EXACT, "fills a bar late, so it is shown each signal a bar early"),
            "w2": Plan(100, EXACT, "fills a bar late, so it is shown each signal a bar early"),
        },
    ),
)


class PeerError(Exception):
    """A peer that is not installed, or whose work failed."""


class Worker:
    """A peer's process. Use as a context manager."""

    def __init__(self, environments: Path, name: str) -> None:
        environment = environments / name
        if not (environment / "installed").exists():
            log = environment / "pip.txt"
            errors = (
                [line for line in log.read_text().splitlines() if "ERROR" in line]
                if log.exists()
                else []
            )
            reason = f"pip: {errors[-1]}" if errors else f"no {environment}: make bench-peers"
            raise PeerError(f"not installed; {reason}")
        python = (environment / "bin" / "python").absolute()
        self._process = subprocess.Popen(
            [python, "-W", "ignore", "-m", f"benchmarks.peer_workers.with_{name}"],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.versions: dict[str, str] = self._read()["versions"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"its process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def run(self, work: str, case: Path, engine: str, step: int = 1) -> tuple[float, FloatArray]:
        """Processor seconds that a work took (a search: wall), and its results.

        Raises:
            PeerError: it failed.
        """
        out = case.with_suffix(".out.npy")
        request = {"work": work, "case": str(case), "engine": engine, "step": step, "out": str(out)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        seconds = float(answer["wall" if work == "tpe" else "processor"])
        return seconds, np.load(out)


# --- Comparing ----------------------------------------------------------------------------------


def differences(ours: FloatArray, theirs: FloatArray) -> tuple[float, float, float]:
    """Largest difference of the final value (relative), Sharpe and drawdown (absolute).

    Infinite where one side has a number and the other has none; what neither defines is equal.

    Args:
        ours, theirs: (n_sets, 3).
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"results of shape {theirs.shape}; expected {ours.shape}")
    scale = np.stack([np.abs(ours[:, 0]), *np.ones((2, len(ours)))], axis=1)
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs) / scale
    undefined = ~np.isfinite(ours) & ~np.isfinite(theirs)
    apart = np.where(undefined, 0.0, np.where(np.isfinite(apart), apart, np.inf))
    value, sharpe, drawdown = apart.max(axis=0)
    return float(value), float(sharpe), float(drawdown)


def agree(found: Sequence[float], tolerance: Sequence[float]) -> bool:
    """Whether every difference is within its tolerance."""
    return all(one <= most for one, most in zip(found, tolerance, strict=True))


@dataclass
class Comparison:
    """One row of a table.

    Attributes:
        agrees: yes, no, or why the work is not the same.
        sets: parameter sets that the peer ran.
        ours, theirs: nanoseconds per bar x symbol x parameter set, of each round.
    """

    work: str
    peer: str
    agrees: str
    sets: int = 0
    apart: tuple[float, float, float] | None = None
    note: str = ""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of theirs over median of ours."""
        return statistics.median(self.theirs) / statistics.median(self.ours)


def compare(
    work: Work, bars: Bars, case: Path, peer: Peer, worker: Worker, rounds: int
) -> Comparison:
    """Check that the results agree, then take turns."""
    plan = peer.works[work.name]
    if isinstance(plan, str):
        return Comparison(work.name, peer.name, plan)
    _, theirs = worker.run(work.name, case, peer.engine, plan.step)  # compiles, too
    ours, _ = sweep(work, bars)
    apart = differences(ours[:: plan.step], theirs)
    if plan.tolerance is None:
        agrees = "not the same work"
    else:
        agrees = "yes" if agree(apart, plan.tolerance) else "NO"
    row = Comparison(work.name, peer.name, agrees, len(theirs), apart, plan.note)
    for _ in range(rounds):
        start = time.process_time()
        sweep(work, bars)
        row.ours.append((time.process_time() - start) / work.n_sets / work.cells * 1e9)
        seconds, _ = worker.run(work.name, case, peer.engine, plan.step)
        row.theirs.append(seconds / len(theirs) / work.cells * 1e9)
    return row


@dataclass
class Search:
    """Our study against Optuna over a peer: seconds and best Sharpe of each round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    ours_best: list[float] = field(default_factory=list)
    theirs_best: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)


def search_study(bars: Bars, trials: int) -> Study:
    """TPE over the ranges of W1, nothing swept."""
    lookbacks, thresholds = W1.lookbacks, W1.thresholds
    searched = {
        "lookback": {"low": lookbacks[0], "high": lookbacks[-1]},
        "threshold": {"low": thresholds[0], "high": thresholds[-1]},
    }
    end = str(bars.timestamps[-1].astype("datetime64[D]"))
    return make_study(
        searched, {"path": str(DATA), "symbols": list(bars.symbols), "end": end}, trials
    )


def compare_search(bars: Bars, folder: Path, worker: Worker, engine: str, rounds: int) -> Search:
    """1,000 TPE trials each: ours from the bars' file to the result files, theirs in memory."""
    search = Search()
    for trials in (20, *([TRIALS] * rounds)):  # the first compiles
        case = folder / "tpe.npz"
        write_case(W1, bars, case, trials)
        start = time.perf_counter()
        result = run_study(
            search_study(bars, trials), out=folder / "study", workers=1, overwrite=True
        )
        taken = time.perf_counter() - start
        seconds, best = worker.run("tpe", case, engine)
        if trials == TRIALS:
            search.ours.append(taken)
            search.ours_best.append(float(result.best(1)["sharpe"].iloc[0]))
            search.parts.append({part: round(s, 3) for part, s in result.seconds.items()})
            search.theirs.append(seconds)
            search.theirs_best.append(float(best[0, 0]))
    return search


# --- Tables -------------------------------------------------------------------------------------


def machine() -> str:
    """Processor, vector instructions, and what else ran."""
    name, flags = platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in lines.items()}
        name, flags = found.get("model name", name), found.get("flags", "")
    vectors = next((v for v in ("avx512f", "avx2", "sse2") if v in flags.split()), "no x86 vectors")
    return f"one core of {os.cpu_count()} of {name} ({vectors})"


def table(rows: Sequence[Comparison]) -> list[str]:
    """Markdown of one work's rows, and their notes."""
    lines = [
        "| peer | same results | largest difference: value, Sharpe, drawdown | sets run |"
        " ours, ns: min, median | theirs, ns: min, median | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row.peer, row.agrees, *[""] * 5]
        if row.apart is not None:
            cells[2:4] = [", ".join(f"{one:.0e}" for one in row.apart), f"{row.sets:,}"]
        if row.theirs:
            cells[4:] = [
                *(f"{min(t):,.2f}, {statistics.median(t):,.2f}" for t in (row.ours, row.theirs)),
                f"{row.ratio:,.1f}x",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(f"- {row.peer}: {row.note}." for row in rows if row.note)
    return [*lines, "", *notes]


def search_table(search: Search, peer: str) -> list[str]:
    """Markdown of the search."""
    lines = [
        "| search | wall seconds: min, median | best Sharpe, each round |",
        "| --- | --- | --- |",
    ]
    for name, seconds, best in (
        ("our study", search.ours, search.ours_best),
        (f"`study.optimize` over {peer}", search.theirs, search.theirs_best),
    ):
        found = ", ".join(f"{one:.4f}" for one in best)
        lines.append(f"| {name} | {min(seconds):.2f}, {statistics.median(seconds):.2f} | {found} |")
    ratio = statistics.median(search.theirs) / statistics.median(search.ours)
    parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in search.parts[-1].items())
    return [*lines, "", f"Ratio {ratio:.1f}x. Seconds of our last round by part: {parts}."]


def between_markers(text: str, body: str) -> str:
    """``text`` with what is between the markers replaced by ``body``.

    Raises:
        ValueError: not exactly one pair of markers.
    """
    start, end = MARKERS
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"expected one {start} and, after it, one {end}")
    head, rest = text.split(start)
    return f"{head}{start}\n{body.strip()}\n{end}{rest.split(end)[1]}"


# --- Running ------------------------------------------------------------------------------------


def main() -> None:
    """Compare, print, write the table and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--environments", type=Path, default=Path(".venv/peers"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[p.environment for p in PEERS])
    parser.add_argument("--no-write", action="store_true", help="print alone")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the workers inherit it
    peers = [p for p in PEERS if not arguments.only or p.environment in arguments.only]
    lines, results = report(peers, arguments.environments, arguments.rounds)
    print("\n".join(lines))
    if not arguments.no_write:
        README.write_text(between_markers(README.read_text(), "\n".join(lines)))
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def report(
    peers: Sequence[Peer], environments: Path, rounds: int
) -> tuple[list[str], dict[str, Any]]:
    """Everything measured: lines of Markdown, and the same for a program."""
    versions = {name: software_versions()[name] for name in ("python", "numba", "numpy", "optuna")}
    today = datetime.date.today().isoformat()
    rows: list[Comparison] = []
    split: dict[str, dict[str, float]] = {}
    found_versions: dict[str, dict[str, str]] = {"ours": versions}
    searched: tuple[str, Search] | None = None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for peer in peers:
            try:
                with Worker(environments, peer.environment) as worker:
                    found_versions[peer.environment] = worker.versions
                    for work in (W1, W2):
                        bars = make_bars(work)
                        case = folder / f"{work.name}.npz"
                        write_case(work, bars, case)
                        rows.append(_safely(compare, work, bars, case, peer, worker, rounds))
                        split[work.name] = sweep(work, bars)[1]
                    if peer.engine == "rust":
                        search = compare_search(
                            make_bars(W1), folder, worker, peer.engine, min(rounds, 3)
                        )
                        searched = peer.name, search
            except PeerError as error:
                rows += [Comparison(work.name, peer.name, str(error)) for work in (W1, W2)]
    lines = [
        f"{today}, {machine()}, load {os.getloadavg()[0]:.1f}; {_versions(found_versions)}.",
        "",
        "ns are per bar x symbol x parameter set: 2,520 bars, everything from signals to metrics,"
        " without imports, reading bars and compiling; processor time.",
    ]
    for work in (W1, W2):
        own = ", ".join(f"{part} {s * 1e3:.1f} ms" for part, s in split.get(work.name, {}).items())
        mine = [row for row in rows if row.work == work.name]
        lines += ["", f"**{work.title}** (ours: {own})", "", *table(mine)]
    if searched is not None:
        lines += ["", f"**TPE: {TRIALS:,} trials**", "", *search_table(searched[1], searched[0])]
    results = {
        "date": today,
        "machine": machine(),
        "load": os.getloadavg(),
        "versions": found_versions,
        "comparisons": [
            {**vars(row), **({"ratio": row.ratio} if row.theirs else {})} for row in rows
        ],
        "ours_seconds": split,
        "search": None if searched is None else {"peer": searched[0], **vars(searched[1])},
    }
    return lines, results


def _safely(function: Callable[..., Comparison], work: Work, *rest: Any) -> Comparison:
    try:
        return function(work, *rest)
    except PeerError as error:
        return Comparison(work.name, rest[2].name, f"failed: {error}")


def _versions(found: dict[str, dict[str, str]]) -> str:
    return "; ".join(
        f"{owner}: " + ", ".join(f"{name} {number}" for name, number in versions.items())
        for owner, versions in found.items()
    )


if __name__ == "__main__":
    main()
