"""The rows of a stress: one for each condition, and what is random summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optimizer.review.stress.limits import Limit
from optimizer.review.stress.simulation import Figures
from optimizer.types import Bars

NO_FIGURES = Figures()


@dataclass(frozen=True)
class Row:
    """One condition.

    Attributes:
        group: the kind of condition.
        name: the condition.
        figures: what the set came to; empty where the condition does not apply.
        note: what the figures do not say, or why there are none; empty if nothing.
    """

    group: str
    name: str
    figures: Figures = NO_FIGURES
    note: str = ""


@dataclass(frozen=True)
class Stress:
    """An exported set under worse conditions, in-sample.

    >>> import optimizer
    >>> found = optimizer.stress("out/best.json", repeats=2)
    >>> {row.group for row in found.rows} >= {"study"}
    True

    Attributes:
        study: name of the study that the set came from.
        number: number of the set in it.
        strategy: name of its strategy.
        start, stop: times of the first decision and of the last in-sample bar.
        repeats, seed: how often what is random was repeated, and its seed.
        rows: the conditions, the one of the study first.
        costs: the multiple of its costs at which the set earns nothing.
        account: the multiple of its initial cash at which half of its Sharpe ratio is left.
    """

    study: str
    number: int
    strategy: str
    start: str
    stop: str
    repeats: int
    seed: int
    rows: tuple[Row, ...]
    costs: Limit
    account: Limit

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, None where undefined."""
        found = {name: value for name, value in asdict(self).items() if name != "rows"}
        rows = [
            {"group": one.group, "name": one.name, **asdict(one.figures), "note": one.note}
            for one in self.rows
        ]
        return {"kind": "barsweep stress", **found, "rows": rows}


def quantile(found: Sequence[Figures], share: float) -> Figures:
    """A quantile of each figure by itself, from the worst up; what is undefined is left out.

    Args:
        found: one or more.
        share: 0 for the worst, 1 for the best. The worst drawdown is the largest.
    """
    values: dict[str, float | None] = {}
    for name in Figures.__dataclass_fields__:
        known = [value for one in found if (value := getattr(one, name)) is not None]
        worst_first = 1.0 - share if name == "max_drawdown" else share
        values[name] = float(np.quantile(known, worst_first)) if known else None
    trades = values.pop("n_trades")
    return Figures(**values, n_trades=None if trades is None else round(trades))


def symbols_text(bars: Bars) -> str:
    """The symbols of some bars and their span, one line.

    Args:
        bars: the bars.
    """
    shown = ", ".join(bars.symbols[:5]) + (", ..." if bars.n_symbols > 5 else "")
    start, stop = (str(bars.timestamps[place])[:10] for place in (0, -1))
    return f"{shown}; {start} to {stop}"
