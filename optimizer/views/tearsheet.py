"""Daily returns of an exported set, as other programs take them, and the tearsheet of quantstats."""

from __future__ import annotations

import contextlib
import html
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.bars.per_year import days_per_year
from optimizer.errors import ExportError
from optimizer.extras import optional_module
from optimizer.files import write_atomically
from optimizer.review.replay import Replay
from optimizer.store.guards import HTML, check_output
from optimizer.study_file.space import build_space
from optimizer.sweep.backtest_result import returns_of
from optimizer.sweep.buy_and_hold import UNIVERSE, benchmark_returns, held_equity, lowest_costs
from optimizer.text import one_line, quoted, suggest


def daily_returns(replayed: Replay) -> pd.Series[float]:
    """Returns of each day that has a bar, as quantstats, pyfolio and empyrical take them.

    >>> import optimizer
    >>> returns = optimizer.daily_returns(optimizer.replay("out/best.json"))
    >>> str(returns.index[-1].date())
    '2017-11-10'

    Args:
        replayed: the set.

    Returns:
        (n_days,) fractions from the first decision to the last bar, or to the last one in-sample where
        the holdout is sealed for the set, the first relative to the initial cash; indexed by the day in
        UTC without a time zone; named after study and set.
    """
    equity = replayed.result.equity
    return _daily(equity, float(replayed.costs["initial_cash"])).rename(replayed.name)


def daily_benchmark(replayed: Replay, benchmark: str) -> pd.Series[float]:
    """Daily returns of a benchmark, bought and held with the costs of the set.

    Args:
        replayed: the set.
        benchmark: a symbol of the study's bars, or ``universe`` for all.

    Returns:
        (n_days,) fractions on the days of ``daily_returns``, named after the benchmark.

    Raises:
        ExportError: the bars do not have the symbol.
    """
    symbols, again = replayed.bars.symbols, replayed.again
    if benchmark not in (UNIVERSE, *symbols):
        raise ExportError(
            f"--benchmark: no symbol {quoted(benchmark)}; {suggest(benchmark, (UNIVERSE, *symbols))}"
        )
    costs = lowest_costs(build_space(again.study), again.inputs)
    equity = held_equity(again.inputs, benchmark_returns(again.inputs, costs, benchmark))
    index = replayed.result.equity.index
    held = pd.Series(equity[: len(index)], index)
    return _daily(held, again.inputs.rules.initial_cash).rename(benchmark)


def _daily(values: pd.Series[float], before: float) -> pd.Series[float]:
    index = pd.DatetimeIndex(values.index)
    last = values.groupby(index.tz_localize(None).normalize().rename("date")).last()
    return returns_of(last, before)


def check_returns_file(path: Path) -> None:
    """Refuse a file that ``write_returns`` would not write, before anything is computed.

    Args:
        path: the file.

    Raises:
        StudyError: the file name ends in neither .csv nor .parquet, its folder is missing, or it must
            not be replaced.
    """
    check_output(path, (".csv", ".parquet"), "a table of returns")


def write_returns(replayed: Replay, out: str | Path) -> Path:
    """Write ``daily_returns`` as CSV or Parquet: a column ``date`` and one of returns.

    Args:
        replayed: the set.
        out: the file, which ends in .csv or .parquet.

    Returns:
        The file written.

    Raises:
        ExportError: it cannot be written.
        StudyError: see ``check_returns_file``.
    """
    path = Path(out)
    check_returns_file(path)
    frame = daily_returns(replayed).to_frame()
    try:
        is_csv = path.suffix.lower() == ".csv"
        write_atomically(path, frame.to_csv if is_csv else frame.to_parquet)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def write_tearsheet(replayed: Replay, out: str | Path, benchmark: str | None = None) -> Path:
    """Write the quantstats tearsheet (extra ``tearsheet``) of a set's daily returns.

    Args:
        replayed: the set.
        out: an HTML file, which opens offline.
        benchmark: a symbol of the study's bars to compare with, or ``universe`` for all.

    Returns:
        The file written.

    Raises:
        DataError: quantstats is not installed.
        ExportError: the bars do not have the benchmark, quantstats cannot use the returns, or the
            file cannot be written.
    """
    path = Path(out)
    check_output(path, HTML, "a tearsheet")
    returns = daily_returns(replayed)
    against = daily_benchmark(replayed, benchmark) if benchmark is not None else None
    with _quiet_libraries():
        quantstats = _quantstats()
        try:
            yearly = days_per_year(replayed.bars.timestamps, replayed.bars.bars_per_year)
            title = _title(replayed, str(returns.name))
            write_atomically(
                path, lambda part: _write(quantstats, title, returns, against, yearly, part)
            )
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
        except Exception as error:  # whatever quantstats cannot handle in the returns
            raise ExportError(
                f"{path}: quantstats can make no tearsheet of these {len(returns)} returns:"
                f" {one_line(error)}; write them with `barsweep replay --returns` instead"
            ) from None
    return path


def _quantstats() -> Any:
    import importlib

    # As it is imported, matplotlib obeys a file matplotlibrc of the current folder, which may be a
    # stranger's: it would start LaTeX, for one.
    with contextlib.suppress(ImportError), contextlib.chdir(Path(__file__).parent):
        importlib.import_module("matplotlib").use("Agg")  # quantstats draws; no window should open
    return optional_module("quantstats", "tearsheet")


def _title(replayed: Replay, name: str) -> str:
    """Study and set, and with how much money they begin where the study says in which currency."""
    currency = replayed.again.study.account.currency
    cash = float(replayed.costs["initial_cash"])
    return name if currency is None else f"{name}, from {cash:,.0f} {currency}"


def _write(
    quantstats: Any,
    title: str,
    returns: pd.Series[float],
    against: pd.Series[float] | None,
    yearly: float,
    path: Path,
) -> None:
    quantstats.reports.html(
        returns,
        benchmark=against,
        title=html.escape(title),  # quantstats writes it into the page as it is
        periods_per_year=max(round(yearly), 1),  # it is the length of a window too
        output=str(path),
        **({} if against is None else {"benchmark_title": html.escape(str(against.name))}),
    )
    # The page would request an icon from a server.
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'<link rel="shortcut icon"[^>]*>', "", text), encoding="utf-8")


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep warnings of libraries about fonts and about each other off the console."""
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        fonts.setLevel(level)
