"""The portfolios of an event flow on several processes, with the rows and the bits of one.

Each process takes some portfolios through all bars and keeps their rows in a file. This process reads the
files as they grow, and writes the rows of a bar in the order of the portfolios once all have them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from joblib import Parallel, delayed

from optimizer.engine.processes import interrupts_held, process_count, start_worker
from optimizer.errors import FlowError, StrategyError
from optimizer.flow.event_flow import FlowResult, Outcome
from optimizer.flow.portfolios import PortfolioSpec
from optimizer.flow.prepared import PreparedFlow, SharedFlow
from optimizer.flow.tracing import Trace
from optimizer.isolation import safe_children
from optimizer.market.regimes import compile_classifier
from optimizer.strategies.approvals import accept

Rows = dict[str, list[tuple[Any, ...]]]
"""Rows of one bar by table."""

_LENGTH = struct.Struct("<Q")
_LOOK_SECONDS = 0.02
"""Time between two looks at the files."""

_STOP = "stop"
"""The file that holds the bar after which the other processes need not go on."""

_PORTFOLIO_COLUMN = {"orders": 1, "rejects": 1, "fills": 2, "equity": 0}
_KEY_COLUMN = {"signals": 1, "regimes": 1}
"""Where the rows of a table name their portfolio, their strategy or their classifier."""


def run_on_workers(prepared: PreparedFlow, trace: Trace | None, workers: int) -> FlowResult:
    """Take the bars through the portfolios of a flow, on several processes.

    The result and the rows of the trace are those of ``PreparedFlow.run``.

    Args:
        prepared: the flow.
        trace: the tracer that records what happens; None records nothing.
        workers: number of processes, 0 for one per core.

    Returns:
        The equity, trades and metrics of every portfolio.

    Raises:
        StrategyError: the user's code raised; bars before it are traced.
        FlowError: a process was ended.
    """
    count = min(process_count(workers), len(prepared.specs))
    if count < 2:
        return prepared.run(trace)
    # Portfolios that share a classifier go to one process, so that few models are fitted twice.
    order = sorted(range(len(prepared.specs)), key=lambda i: (prepared.specs[i].regime_key, i))
    parts = [sorted(part.tolist()) for part in np.array_split(np.array(order), count)]
    shared = prepared.shared()
    _compile(prepared)
    with tempfile.TemporaryDirectory(prefix="barsweep-flow-") as name:
        folder = Path(name)
        calls = [
            delayed(_take)(shared, part, folder, i, trace is not None)
            for i, part in enumerate(parts)
        ]
        if trace is not None:
            prepared.trace_portfolios(trace)
        running = _Running(calls, count)
        try:
            with contextlib.ExitStack() as opened:
                files = [_Spool(folder / str(i)) for i in range(count)]
                for file in files:
                    opened.callback(file.close)
                _merge(prepared.specs, running, folder, files, trace)
            answers = running.answers()
        except BaseException:
            _stop_after(folder, -1)
            raise
    outcomes: dict[int, Outcome] = {}
    for part, found in zip(parts, answers, strict=True):
        outcomes |= dict(zip(part, found, strict=True))
    times = prepared.bars.timestamps[prepared.first : prepared.stop]
    ordered = [outcomes[i] for i in range(len(outcomes))]
    return FlowResult.of(prepared.specs, ordered, list(times), prepared.first)


def _compile(prepared: PreparedFlow) -> None:
    """Compile what the portfolios need: several processes must not fill one cache at once."""
    joint = prepared.bars.present is not None
    for name in dict.fromkeys(spec.regime[0] for spec in prepared.specs):
        compile_classifier(name, joint=joint)
    flow = prepared.opened()
    with contextlib.suppress(StrategyError):  # whichever process meets it says so
        for index in range(min(prepared.first + 2, prepared.stop)):
            flow.on_bar(prepared.bars.at(index))


class _Running:
    """The calls in their processes, waited for in a thread of their own."""

    def __init__(self, calls: Sequence[Any], count: int) -> None:
        self._answers: list[Any] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                with safe_children():
                    self._answers = Parallel(
                        n_jobs=count,
                        backend="loky",
                        batch_size=1,
                        max_nbytes=None,
                        inner_max_num_threads=1,
                        initializer=start_worker,
                        initargs=(os.getpid(),),
                    )(calls)
            except BaseException as error:  # told to the thread that waits
                self._error = error

        with interrupts_held():  # the thread and its processes inherit the block
            self._thread = threading.Thread(target=run, name="barsweep-flow", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def answers(self) -> list[list[Outcome]]:
        """What each call returned; raises the error of the earliest bar."""
        self._thread.join()
        if self._error is not None:
            raise FlowError(
                f"a process of the flow was ended ({type(self._error).__name__}); free memory, or take"
                " fewer workers"
            ) from self._error
        failures = [one for one in self._answers if isinstance(one, _Failure)]
        if failures:
            raise min(failures, key=lambda one: one.bar).error
        return self._answers


@dataclass(frozen=True)
class _Failure:
    """What ended the portfolios of one process, and at which bar."""

    bar: int
    error: Exception


# --- In this process ----------------------------------------------------------------------------


def _merge(
    specs: Sequence[PortfolioSpec],
    running: _Running,
    folder: Path,
    files: Sequence[_Spool],
    trace: Trace | None,
) -> None:
    """Write the rows of each bar that all processes have, until they have ended."""
    sort = _sorter(specs)
    while True:
        over = not running.alive  # before the look: what was written by then is seen
        heads = [file.head() for file in files]
        if any(head is not None and head[1] is None for head in heads):
            bar = min(head[0] for head in heads if head is not None and head[1] is None)
            _stop_after(folder, bar)
        rows = [head[1] for head in heads if head is not None and head[1] is not None]
        if len(rows) == len(files) and heads[0] is not None:
            if trace is not None:
                for table, found in sort(rows).items():
                    trace.add(table, found)
                trace.end_bar(heads[0][0])
            for file in files:
                file.drop()
        elif over:
            return
        else:
            time.sleep(_LOOK_SECONDS)


def _sorter(specs: Sequence[PortfolioSpec]) -> Callable[[Sequence[Rows]], Rows]:
    """A function that joins the rows of a bar, in the order in which one process writes them."""
    portfolios = {spec.id: i for i, spec in enumerate(specs)}
    keys: dict[str, int] = {}
    # Signals that read positions come last, each with its portfolio.
    for spec in sorted(specs, key=lambda one: bool(one.strategy.position_values)):
        keys.setdefault(spec.signal_key, len(keys))
    for spec in specs:
        keys.setdefault(spec.regime_key, len(keys))

    def joined(parts: Sequence[Rows]) -> Rows:
        rows: Rows = dict(parts[0])
        for table, column in _KEY_COLUMN.items():
            first: dict[str, int] = {}  # the process whose rows of a key are taken
            found = []
            for i, part in enumerate(parts):
                for row in part.get(table, ()):
                    if first.setdefault(row[column], i) == i:
                        found.append(row)
            rows[table] = _in_order(found, column, keys)
        for table, column in _PORTFOLIO_COLUMN.items():
            found = [row for part in parts for row in part.get(table, ())]
            rows[table] = _in_order(found, column, portfolios)
        return rows

    return joined


def _in_order(
    rows: Sequence[tuple[Any, ...]], column: int, places: Mapping[str, int]
) -> list[tuple[Any, ...]]:
    """Rows in the order of the owners that a column names; those of one owner stay as they are."""
    return sorted(rows, key=lambda row: places[row[column]])


class _Spool:
    """The rows of one process, read as its file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._read: deque[tuple[int, Rows | None]] = deque()
        self._rest = b""

    def head(self) -> tuple[int, Rows | None] | None:
        """The next bar and its rows, which are None where the process failed; None if not there yet."""
        if not self._read:
            if self._file is None and self._path.exists():
                self._file = self._path.open("rb")
            if self._file is not None:
                self._read.extend(self._records(self._file.read(4_000_000)))
        return self._read[0] if self._read else None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def drop(self) -> None:
        """Go on to the next bar."""
        self._read.popleft()

    def _records(self, data: bytes) -> Iterator[tuple[int, Rows | None]]:
        data, start = self._rest + data, 0
        while len(data) >= start + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            end = start + _LENGTH.size + length
            if len(data) < end:
                break
            bar, rows = json.loads(data[start + _LENGTH.size : end])
            yield bar, rows and {table: [tuple(row) for row in rows[table]] for table in rows}
            start = end
        self._rest = data[start:]


def _stop_after(folder: Path, bar: int) -> None:
    """Tell the other processes that bars after this one are not wanted."""
    part = folder / f"{_STOP}.part"
    part.write_text(str(bar))
    part.replace(folder / _STOP)


# --- In a worker --------------------------------------------------------------------------------


class _Recorder:
    """A trace that keeps the rows of one bar."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self.rows.setdefault(table, []).extend(rows)

    def end_bar(self, bar: int) -> None:
        pass


def _last_wanted(folder: Path) -> float:
    """The last bar that is wanted: no other where the folder is gone, and with it who wanted them."""
    try:
        return int((folder / _STOP).read_text())
    except FileNotFoundError:
        return math.inf if folder.exists() else -1


def _take(
    shared: SharedFlow, numbers: Sequence[int], folder: Path, part: int, traced: bool
) -> list[Outcome] | _Failure:
    """Take some portfolios through all bars."""
    accept(shared.accepted)
    prepared = shared.prepared(numbers)
    recorder = _Recorder()
    flow = prepared.opened(recorder if traced else None)
    with (folder / str(part)).open("wb", buffering=0) as file:

        def write(bar: int, rows: Mapping[str, Any] | None) -> None:
            data = json.dumps((bar, rows), default=lambda number: number.item()).encode()
            file.write(_LENGTH.pack(len(data)) + data)

        for index in range(prepared.stop):
            if index > _last_wanted(folder):
                break
            try:
                flow.on_bar(prepared.bars.at(index))
            except Exception as error:
                write(index, None)
                return _Failure(index, error)
            if index >= prepared.first:
                write(index, recorder.rows)
                recorder.rows = {}
    return list(flow.outcomes())
