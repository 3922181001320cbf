"""The page of a drift: one HTML file in the style of the report, without scripts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.bars.times import time_text
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.text import counted, probability
from optimizer.trading.drift import Drift
from optimizer.views.drawing import drawing

WORDS = {
    "revised": ("revised data", "bars that are others now than when the set decided on them"),
    "timing": (
        "timing",
        "orders that filled at a later bar, and stops that closed at the next open",
    ),
    "missed": ("missed or refused", "orders that filled in part or not at all"),
    "price": ("price", "prices and commissions against those of the study's cost rules"),
    "rest": ("the rest", "interest and fees of the account, deposits, and trades of somebody else"),
}
"""Name and meaning of each of ``PARTS``."""

COLUMNS = {
    "decided": "time",
    "symbol": "symbol",
    "ordered": "ordered",
    "filled": "filled",
    "price": "price",
    "model filled": "model_filled",
    "model price": "model_price",
    "slippage bps": "slippage_bps",
    "outcome": "outcome",
    "cost": "cost",
}
MOST_ORDERS = 2_000
"""Orders on a page, the last ones; the JSON file has all."""


def facts_text(found: Drift) -> str:
    """What a drift is about, one line.

    Args:
        found: the drift.
    """
    start, stop = (time_text(found.equity.index[i].to_datetime64()) for i in (0, -1))
    return (
        f"Set {found.number} of {found.study}, traded by {found.source}: {start} to {stop},"
        f" {counted(len(found.returns), 'return')}."
    )


def fit_text(found: Drift) -> str:
    """Whether live returns still fit what was to be expected, in words.

    Args:
        found: the drift.
    """
    test = found.test
    own = "undefined" if found.sharpe is None else f"{found.sharpe:.2f}"
    if test is None:
        return (
            f"Live Sharpe ratio {own}. Nothing says which one was to be expected: give it with --expect,"
            " or the folder of the study in place of the export."
        )
    said = f"Live Sharpe ratio {own}, to be expected {test.expected:.2f} ({found.expected_from}):"
    if test.alarm is None:
        said += f" no alarm, p {probability(test.p)}."
    else:
        when = time_text(found.returns.index[test.alarm - 1].to_datetime64())
        said += f" alarm since {when}, p {probability(test.p)}: they no longer fit."
    said += f" False-alarm rate {test.rate:.3g}, however often it is read."
    if math.isfinite(test.largest):
        said += f" The live returns contradict Sharpe ratios above {test.largest:.2f}."
    if test.years_to_alarm is not None:
        said += (
            f" If the true ratio were 0, an alarm would take about {test.years_to_alarm:.1f} years."
        )
    return said


def outcomes_text(found: Drift) -> str:
    """How many orders had each outcome, in a sentence.

    Args:
        found: the drift.
    """
    counts = [f"{number:,} {name}" for name, number in found.counts.items()]
    text = f"{counted(len(found.orders), 'order')}"
    if counts:
        text += f": {', '.join(counts)}"
    if found.slippage_bps is not None:
        text += f"; mean slippage against the model {found.slippage_bps:+.2f} bps"
    return text + "."


def parts_rows(found: Drift) -> list[dict[str, str]]:
    """The parts of the difference as tables show them, and their sum.

    Args:
        found: the drift.
    """
    first = float(found.equity["live"].iloc[0])
    every = {**found.parts, "": found.difference}
    return [
        {
            "name": WORDS[name][0] if name else "live less expected",
            "money": f"{value + 0.0:+,.2f}",
            "share": f"{value / first:+.3%}" if first > 0.0 else "-",
            "text": WORDS[name][1] if name else "the sum",
        }
        for name, value in every.items()
    ]


def drift_page(found: Drift) -> str:
    """The whole page.

    Args:
        found: the drift.

    Returns:
        HTML; names and other texts are escaped.
    """
    from optimizer.views.report.page import figures_page

    times = found.equity.index
    equity = drawing(
        "Equity, live and expected",
        (times[0], times[-1]),
        {name: found.equity[name].to_numpy() for name in ("live", "expected")},
        lambda value: f"{value:,.0f}",
    )
    evidence = None
    if found.test is not None and len(found.returns):
        one = found.test
        bound = np.full(len(one.evidence), math.log10(1.0 / one.rate))
        evidence = drawing(
            "Evidence against the Sharpe ratio to expect",
            (found.returns.index[0], found.returns.index[-1]),
            {"evidence": np.log10(np.maximum(one.evidence, 1e-3)), "alarm": bound},
            lambda value: f"{10.0**value:,.3g}",
        )
    test = found.test
    return figures_page(
        "drift.html",
        "Drift",
        name=f"{found.study}, set {found.number}",
        facts=facts_text(found),
        summary=[
            ("live", f"{found.equity['live'].iloc[-1]:,.2f}", "equity at the last bar"),
            (
                "expected",
                f"{found.equity['expected'].iloc[-1]:,.2f}",
                "the same account, backtested",
            ),
            ("difference", f"{found.difference:+,.2f}", ""),
            ("live Sharpe ratio", "-" if found.sharpe is None else f"{found.sharpe:.2f}", "a year"),
            ("to expect", "-" if test is None else f"{test.expected:.2f}", found.expected_from),
            (
                "still fits",
                "-" if test is None else "no" if test.alarm else "yes",
                "" if test is None else f"p {probability(test.p)}",
            ),
        ],
        notes=found.notes,
        parts=parts_rows(found),
        equity=equity,
        fit=fit_text(found),
        evidence=evidence,
        outcomes=outcomes_text(found),
        titles=tuple(COLUMNS),
        orders=[
            [_cell(row[name]) for name in COLUMNS.values()]
            for row in found.orders.tail(MOST_ORDERS).to_dict("records")
        ],
    )


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if hasattr(value, "to_datetime64"):
        return time_text(value.to_datetime64())
    return "-" if math.isnan(value) else f"{value + 0.0:,.8g}"


def write_drift_page(found: Drift, path: str | Path) -> Path:
    """Write the page of a drift.

    Args:
        found: the drift.
        path: the file.

    Returns:
        The file written.

    Raises:
        StudyError: the file must not be replaced, or cannot be written.
    """
    file = Path(path)
    check_output(file, HTML, "the page of a drift")
    write_output(file, drift_page(found))
    return file
