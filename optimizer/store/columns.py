"""Columns of a study's results: what each set is, its parameters, its metrics."""

from __future__ import annotations

from collections.abc import Iterable

from optimizer.catalogue import METRICS, SET_COLUMNS

NAMES = ("strategy", "classifier")
"""Those of ``SET_COLUMNS`` that hold names."""

OUT_OF_SAMPLE = tuple(f"oos_{name}" for name in METRICS)
"""Metrics over the holdout, in the order of ``METRICS``."""

_COUNTS = ("n_trades", "losing_streak", "drawdown_duration")
COUNTS = (*_COUNTS, *(f"oos_{name}" for name in _COUNTS))
"""Metrics that are whole numbers."""

FLAGS = ("ruined", "oos_ruined")
"""Metrics that are true or false."""


KEPT = "kept"
"""Column of a study that stores the best sets alone: whether a set has all of its metrics."""


def parameter_columns(columns: Iterable[str]) -> list[str]:
    """The columns that are parameters, in order.

    Args:
        columns: the columns of the results.
    """
    other = {*SET_COLUMNS, *METRICS, *OUT_OF_SAMPLE, KEPT}
    # An objective that is an expression has a column too, whose name is no identifier.
    return [name for name in columns if name not in other and name.isidentifier()]
