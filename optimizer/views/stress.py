"""The page of a stress: one HTML file in the style of the report, without scripts."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

from optimizer.review.stress.limits import Limit, multiple_text
from optimizer.review.stress.rows import Row, Stress
from optimizer.store.guards import HTML, check_output, write_output

FIGURES = ("sharpe", "cagr", "max_drawdown", "n_trades", "alpha")
"""Figures of a row, in the order of ``Figures``."""

TITLES = ("Sharpe ratio", "growth a year", "drawdown", "trades", "alpha a year")

GROUPS = {
    "study": ("As exported", "The set under the terms of its study."),
    "costs": (
        "Costs",
        "Spread, slippage, commission and impact times a number; rebates and interest stay.",
    ),
    "delay": ("Delay", "Signals, volatilities and regimes of one bar before decide."),
    "entries": ("Missed trades", "A skipped entry leaves its symbol flat until the next one."),
    "prices": (
        "Noise",
        "Open, high, low and close off by normal noise; features and regimes follow from them.",
    ),
    "start": ("Start", "The first decision is later."),
    "symbols": (
        "Symbols",
        "Each symbol is never traded in turn; regimes and the benchmark still see it.",
    ),
    "years": ("Years", "The returns of each year are left out in turn; it is traded as ever."),
    "regimes": ("Regimes", "Returns by the regime that was known before them."),
    "sides": ("Long and short", "What each side earned after costs, over the equity before."),
    "account": ("Account", "The same set with more money, until volume and impact stop it."),
    "other symbols": ("Other symbols", "The same set on other bars until the same day."),
}
"""Title and explanation of each group, in order."""


def figure_cells(row: Row) -> tuple[str, ...]:
    """The figures of a row as tables show them.

    Args:
        row: one condition.

    Returns:
        One text for each of ``FIGURES``; ``-`` where there is none.
    """
    return tuple(
        _text(name, value) for name, value in zip(FIGURES, astuple(row.figures), strict=True)
    )


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "n_trades":
        return f"{value:,.0f}"
    digits = 2 if name == "sharpe" else 3
    shown = round(value, digits) + 0.0  # never -0.00
    return f"{shown:.2f}" if name == "sharpe" else f"{shown:.1%}"


def limit_text(limit: Limit) -> str:
    """A limit in short.

    Args:
        limit: break-even costs, or the largest account.
    """
    return "-" if limit.multiple is None else f"x {multiple_text(limit.multiple)}"


def facts_text(found: Stress) -> str:
    """What a stress is about, one line.

    Args:
        found: the stress.
    """
    return (
        f"Set {found.number} of {found.study}, strategy {found.strategy}; in-sample {found.start} to"
        f" {found.stop}, the holdout is not simulated. What is random: {found.repeats:,} repeats, seed"
        f" {found.seed}."
    )


def stress_page(found: Stress) -> str:
    """The whole page.

    Args:
        found: the stress.

    Returns:
        HTML; names and other texts are escaped.
    """
    from optimizer.views.report.page import figures_page

    groups = [
        {
            "key": key.replace(" ", "-"),
            "title": title,
            "text": text,
            "rows": [
                {"name": row.name, "cells": figure_cells(row), "note": row.note}
                for row in found.rows
                if row.group == key
            ],
        }
        for key, (title, text) in GROUPS.items()
    ]
    base = figure_cells(found.rows[0])
    return figures_page(
        "stress.html",
        "Stress",
        name=f"{found.study}, set {found.number}",
        facts=facts_text(found),
        summary=[
            *zip(TITLES, base, ("in-sample",) * len(base), strict=True),
            ("break-even costs", limit_text(found.costs), found.costs.note),
            ("largest account", limit_text(found.account), found.account.note),
        ],
        groups=groups,
        titles=("condition", *TITLES, "note"),
    )


def write_stress_page(found: Stress, path: str | Path) -> Path:
    """Write the page of a stress.

    >>> import optimizer
    >>> found = optimizer.stress("out/best.json", repeats=2)
    >>> optimizer.write_stress_page(found, "stress.html").name
    'stress.html'

    Args:
        found: the stress.
        path: the file.

    Returns:
        The file written.

    Raises:
        StudyError: the file must not be replaced, or cannot be written.
    """
    file = Path(path)
    check_output(file, HTML, "the page of a stress")
    write_output(file, stress_page(found))
    return file
