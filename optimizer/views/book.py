"""The page of a combination: one HTML file in the style of the report, without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.times import time_text
from optimizer.catalogue import METRICS
from optimizer.errors import ExportError
from optimizer.review.book import BookResult
from optimizer.review.exported import whole_book
from optimizer.review.replay import Replay, replay
from optimizer.store.combination import Combination
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.study_file.space import build_space
from optimizer.sweep.buy_and_hold import benchmark_returns, held_equity, held_name, lowest_costs
from optimizer.text import counted, list_text
from optimizer.views.drawing import drawing

TILES = ("sharpe", "total_return", "cagr", "max_drawdown", "costs_paid", "n_trades")
"""Metrics in large print."""

COLUMNS = (
    *("member", "study", "set", "strategy", "share", "money", "correlation"),
    *("Sharpe ratio", "return", "trades", "costs"),
)


def write_book_report(
    file: str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    trust: bool = False,
) -> Path:
    """Write the page of a combination: its verdict, equity, members, metrics and costs.

    The holdout of the whole shows, at which the verdict has looked; nothing of a member's own does.

    Args:
        file: the file of the combination.
        out: the page; None takes the same name with the ending .html.
        data: the bars, where they are no longer at the path that the file names.
        trust: approve the strategy files that it names, for good.

    Returns:
        The file written.

    Raises:
        ExportError: the file cannot be used, or the bars or a strategy are not those of its studies.
        StudyError: the page must not replace what is there, or cannot be written.
        UntrustedCodeError: you have neither run nor approved a strategy file.
        DataError: the bars cannot be used.
    """
    path = Path(file)
    combination = whole_book(path, None)
    if combination is None:
        raise ExportError(f"{path}: no combination")
    page = path.with_suffix(".html") if out is None else Path(out)
    check_output(page, HTML, "a report")
    replayed = replay(path, data=data, trust=trust)
    write_output(page, book_page(combination, replayed))
    return page


def book_page(combination: Combination, replayed: Replay) -> str:
    """The whole page.

    Args:
        combination: the combination.
        replayed: its replay.

    Returns:
        HTML; names and other texts are escaped.
    """
    from optimizer.views.report.formats import metric_name, value_text
    from optimizer.views.report.page import figures_page
    from optimizer.views.report.study_sections import SIGNS, TONES
    from optimizer.views.report.trades import costs_by_year

    result, verdict = replayed.result, replayed.verdict
    assert isinstance(result, BookResult) and verdict is not None
    inside, outside = result.in_sample, result.out_of_sample or {}
    paid = costs_by_year(result.fills, result.equity)
    years = pd.DatetimeIndex(result.fills["timestamp"]).year
    start, stop = (time_text(result.equity.index[i].to_datetime64()) for i in (0, -1))
    notes = [
        f"not as recorded: {one.sample} {one.metric}: {one.replayed}, recorded {one.recorded}"
        for one in replayed.differences
    ]
    return figures_page(
        "book.html",
        "Combination",
        name=combination.name,
        facts=f"{counted(len(combination.members), 'set')} of"
        f" {list_text(dict.fromkeys(_study(one.export) for one in combination.members))}, shares by"
        f" {combination.method}, rebalance {combination.rebalance}: {start} to {stop}",
        tone=TONES[verdict.words],
        headline=verdict.headline,
        reasons=[
            dict(zip(("sign", "tone", "meaning"), SIGNS[one.weight], strict=True))
            | {"text": one.text}
            for one in verdict.reasons
        ],
        notes=notes,
        money=replayed.again.study.account.money,
        summary=[
            (
                metric_name(name),
                value_text(name, inside[name]),
                f"{value_text(name, outside.get(name))} out-of-sample",
            )
            for name in TILES
        ],
        equity=_equity(combination, replayed, result),
        choice=f"{len(combination.members)} of {combination.n_candidates} candidates, the best"
        f" {combination.top} of each study, none of which correlates with one above it by more than"
        f" {combination.max_correlation:g}.",
        members_titles=COLUMNS,
        members=[
            _member_cells(number, one.share, one.correlation, one.export, own.fills)
            for number, (one, own) in enumerate(
                zip(combination.members, result.members, strict=True), 1
            )
        ],
        metrics=[
            (metric_name(name), value_text(name, inside[name]), value_text(name, outside.get(name)))
            for name in METRICS
        ],
        costs=[
            (f"{year}", f"{value:,.2f}", f"{int((years == year).sum()):,}")
            for year, value in paid.items()
        ],
    )


def _study(export: dict[str, Any]) -> str:
    return str(export["study"]["name"])


def _member_cells(
    number: int,
    share: float,
    correlation: float | None,
    export: dict[str, Any],
    fills: pd.DataFrame,
) -> list[str]:
    from optimizer.views.report.formats import value_text

    (one,) = export["sets"]
    alone = one["in_sample"]
    return [
        f"{number}",
        _study(export),
        f"{one['set']}",
        str(one["strategy"]),
        f"{share:.2%}",
        f"{export['costs']['initial_cash']:,.2f}",
        value_text("correlation", correlation),
        *(value_text(name, alone.get(name)) for name in ("sharpe", "total_return", "n_trades")),
        f"{float(fills['cost'].sum()):,.2f}",
    ]


def _equity(combination: Combination, replayed: Replay, result: BookResult) -> dict[str, Any]:
    """The equity of the whole and of the benchmark, bought and held."""
    inputs, index = replayed.again.inputs, result.equity.index
    benchmark = str(combination.members[0].export["benchmark"])
    costs = lowest_costs(build_space(replayed.again.study), inputs)
    held = held_equity(inputs, benchmark_returns(inputs, costs, benchmark))[: len(index)]
    split = inputs.split - inputs.first
    return drawing(
        "Equity of the combination, and of buy and hold",
        (index[0], index[-1]),
        {"combination": np.asarray(result.equity, np.float64), held_name(benchmark): held},
        lambda value: f"{value:,.0f}",
        split if split < len(index) else None,
    )
