"""Load the bars, the membership and the interest rates that a study names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.finer import FinerBars, inside_bars
from optimizer.bars.load import load_bars
from optimizer.bars.members import member_mask, read_members
from optimizer.bars.rates import rate_at, read_rate
from optimizer.errors import DataError
from optimizer.study_file.account import Rate, RateFile
from optimizer.study_file.study import Study
from optimizer.study_file.tables import SIDE_FILES
from optimizer.text import list_text, path_text, quoted
from optimizer.types import Bars, FloatArray, MaskArray, TimeArray


@contextlib.contextmanager
def named_file(study: Study, key: str) -> Iterator[None]:
    """Name the study file and the key in errors of a file that ``[data]`` names.

    Args:
        study: the study and its folder.
        key: the key of ``[data]`` that names the file.

    Raises:
        DataError: the file is missing or cannot be used.
    """
    try:
        yield
    except DataError as error:
        place, file = f"{study.source}: [data] {key}", str(getattr(study.data, key))
        path = study.base_path / file
        if not path.exists():
            fix = "name the file where it is now"
            if not Path(file).is_absolute():
                fix = f"{path_text(path)}: it is relative to the study file's folder"
            raise DataError(f"{place} = {quoted(file)}: no such file; {fix}") from None
        if key == "path":  # of which errors speak by its own name
            raise
        raise DataError(f"{place}: {error}") from None


def load_study_bars(study: Study) -> Bars:
    """The bars that a study names.

    Args:
        study: the study and its folder.

    Raises:
        DataError: they cannot be used.
    """
    data = study.data
    with named_file(study, "path"):
        return load_bars(
            study.data_path,
            symbols=data.symbols,
            start=data.start,
            end=data.end,
            align=data.align,
            timezone=data.timezone,
            bars_per_year=data.bars_per_year,
            bar=data.bar,
            funding=data.funding,
            dividends=data.dividends,
        )


def other_files(study: Mapping[str, Any]) -> str:
    """The files other than its bars that a study reads, as it states them.

    Args:
        study: the study as ``Study.to_dict`` gives it.
    """
    account, data = study["account"], study["data"]
    rates = [
        f"[account] {key} = {account[key]}"
        for key in ("cash_rate", "risk_free")
        if isinstance(account.get(key), str)
    ]
    named = [f"[data] {key} = {data[key]}" for key in SIDE_FILES if data.get(key)]
    return list_text([*named, *rates]) or "[account]"


def load_study_members(study: Study, bars: Bars) -> MaskArray | None:
    """Which symbols are members at each bar.

    Args:
        study: the study and its folder.
        bars: the bars of the study.

    Returns:
        (n_bars, n_symbols), 1 or 0; None where the study names no file of members.

    Raises:
        DataError: the file cannot be used.
    """
    data = study.data
    if data.members is None:
        return None
    with named_file(study, "members"):
        members = read_members(study.base_path / data.members, bars.symbols, data.timezone)
        return member_mask(members, bars.symbols, bars.timestamps)


def load_finer_bars(study: Study, bars: Bars) -> FinerBars | None:
    """The finer bars inside each bar.

    Args:
        study: the study and its folder.
        bars: the bars of the study.

    Returns:
        None where the study names no file of finer bars.

    Raises:
        DataError: the file cannot be used, or contradicts the bars.
    """
    data = study.data
    if data.fills is None:
        return None
    with named_file(study, "fills"):
        finer = load_bars(
            study.base_path / data.fills,
            symbols=bars.symbols,
            start=pd.Timestamp(bars.timestamps[0], tz="UTC"),
            align="outer",
            timezone=data.timezone,
        )
        return inside_bars(bars, finer)


def load_slower_bars(study: Study, bars: Bars) -> Bars | None:
    """The longer bars of the same symbols that a study names.

    Args:
        study: the study and its folder.
        bars: the bars of the study.

    Returns:
        None where the study names no file of them.

    Raises:
        DataError: the file cannot be used.
    """
    data = study.data
    if data.slower is None:
        return None
    with named_file(study, "slower"):
        return load_bars(
            study.base_path / data.slower,
            symbols=bars.symbols,
            align="outer",
            timezone=data.timezone,
        )


def load_study_rates(study: Study, timestamps: TimeArray) -> tuple[FloatArray, FloatArray]:
    """What cash earns and what counts as free of risk, at each bar.

    Args:
        study: the study and its folder.
        timestamps: the timestamps of the bars, shape (n_bars,).

    Returns:
        ``cash_rate`` and ``risk_free`` of ``[account]``, fractions a year, each of shape (n_bars,).

    Raises:
        DataError: the file of a rate cannot be used, or begins after the bars.
    """
    account = study.account
    cash = _rates(account.cash_rate, study.base_path, timestamps)
    if account.risk_free_rate == account.cash_rate:
        return cash, cash
    return cash, _rates(account.risk_free_rate, study.base_path, timestamps)


def _rates(rate: Rate, folder: Path, timestamps: TimeArray) -> FloatArray:
    if not isinstance(rate, RateFile):
        return np.full(len(timestamps), rate)
    path = folder / rate.path
    return rate_at(timestamps, *read_rate(path, rate.column), source=str(path))
