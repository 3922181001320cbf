"""How the report writes metrics: their names, units and values."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd

UNDEFINED = "-"
"""Shown in place of an undefined value."""

TITLES = {
    "sharpe": "Sharpe ratio, annualized",
    "sortino": "Sortino ratio, annualized",
    "calmar": "Calmar ratio",
    "cagr": "growth a year",
    "volatility": "volatility a year",
    "total_return": "total return",
    "max_drawdown": "greatest drawdown",
    "exposure": "mean exposure, share of equity",
    "win_rate": "winning trades",
    "n_trades": "trades",
    "profit_factor": "gross profit over gross loss",
    "final_equity": "final equity, money",
    "costs_paid": "costs paid, money",
    "turnover": "turnover",
}
PERCENT = {"cagr", "volatility", "total_return", "max_drawdown", "exposure", "win_rate"}
"""Metrics that are shown in percent."""


def safe(text: object) -> str:
    """Escape a text for plotly, which interprets some HTML.

    Args:
        text: a text from the study, such as a symbol.

    Returns:
        The text as plotly shows it unchanged.
    """
    return html.escape(str(text), quote=False)


def metric_title(name: str) -> str:
    """A metric in words, with its unit.

    Args:
        name: the name of the metric.

    Returns:
        Such as "Sharpe ratio, annualized".
    """
    return TITLES.get(name, name.replace("_", " "))


def metric_name(name: str) -> str:
    """A metric in words, without its unit.

    Args:
        name: the name of the metric.

    Returns:
        Such as "Sharpe ratio".
    """
    return metric_title(name).split(",")[0] if name in TITLES else metric_title(name)


def tick_format(name: str) -> str:
    """The format of a metric on an axis.

    Args:
        name: the name of the metric.

    Returns:
        A format of d3.
    """
    return ".0%" if name in PERCENT else "~g"


def hover_format(name: str) -> str:
    """The format of a metric's value in a hover text.

    Args:
        name: the name of the metric.

    Returns:
        A format of d3.
    """
    return ".1%" if name in PERCENT else ".3~g"


def value_text(name: str, value: Any) -> str:
    """A value as the report writes it: percent where it is a share.

    Args:
        name: the name of the metric; any other text for a parameter.
        value: a number, a text, or None.

    Returns:
        Three significant digits, whole numbers for counts and large values; ``-`` if undefined.
    """
    if value is None or pd.isna(value):
        return UNDEFINED
    if isinstance(value, str):
        return value
    number = float(value)
    if name in PERCENT:
        return f"{number:.1%}"
    if name in ("n_trades", "set", "trial") or abs(number) >= 10_000:
        return f"{number:,.0f}"
    return f"{number:.3g}"
