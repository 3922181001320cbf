"""Load the bars and the interest rates that a study names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optimizer.bars.load import load_bars
from optimizer.bars.rates import rate_at, read_rate
from optimizer.study_file.account import Rate, RateFile
from optimizer.study_file.study import Study
from optimizer.types import Bars, FloatArray, TimeArray


def load_study_bars(study: Study) -> Bars:
    """The bars that a study names.

    Args:
        study: with its folder.

    Raises:
        DataError: they cannot be used.
    """
    data = study.data
    return load_bars(
        study.data_path,
        symbols=data.symbols,
        start=data.start,
        end=data.end,
        align=data.align,
        timezone=data.timezone,
        bars_per_year=data.bars_per_year,
        bar=data.bar,
    )


def load_study_rates(study: Study, timestamps: TimeArray) -> tuple[FloatArray, FloatArray]:
    """What cash earns and what counts as free of risk, at each bar.

    Args:
        study: with its folder.
        timestamps: of the bars, shape (n_bars,).

    Returns:
        ``cash_rate`` and ``risk_free`` of ``[account]``, fractions a year, each of shape (n_bars,).

    Raises:
        DataError: the file of a rate cannot be used, or begins after the bars.
    """
    account = study.account
    cash = _rates(account.cash_rate, study.base_path, timestamps)
    if account.risk_free is None:
        return cash, cash
    return cash, _rates(account.risk_free, study.base_path, timestamps)


def _rates(rate: Rate, folder: Path, timestamps: TimeArray) -> FloatArray:
    if not isinstance(rate, RateFile):
        return np.full(len(timestamps), rate)
    path = folder / rate.path
    return rate_at(timestamps, *read_rate(path, rate.column), source=str(path))
