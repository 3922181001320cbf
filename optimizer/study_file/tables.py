"""The tables of a study file that name the study, its bars, workers and database."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    model_validator,
)

from optimizer.bars.per_year import LEAST_PER_YEAR, MOST_PER_YEAR
from optimizer.bars.times import read_duration, write_duration
from optimizer.catalogue import ALIGNMENTS, Align
from optimizer.study_file.values import (
    bounded,
    distinct,
    filled_text,
    listed,
    named,
    one_of,
    refusal,
    refuse_all,
)
from optimizer.text import quoted

CLUSTERS = {
    "dask": 'start one with `dask scheduler` and `dask worker`, address = "tcp://HOST:8786"',
    "ray": 'start one with `ray start --head`, address = "auto" or "ray://HOST:10001"',
}
"""Back ends that are a cluster at an address, and how to start one."""


def whole(low: int, high: int) -> BeforeValidator:
    """A reader of whole numbers from ``low`` to ``high``, both allowed.

    Args:
        low, high: the bounds.
    """
    return BeforeValidator(lambda value: bounded(value, int, low, high))


def real(low: float, high: float, *, below: bool = False) -> BeforeValidator:
    """A reader of numbers from ``low`` to ``high``, both allowed; ``below`` excludes ``high``.

    Args:
        low, high: the bounds.
        below: whether ``high`` is not allowed.
    """
    return BeforeValidator(lambda value: bounded(value, float, low, high, below=below))


def name_of(*valid: str) -> BeforeValidator:
    """A reader of one of some names.

    Args:
        *valid: names that are accepted.
    """
    return BeforeValidator(lambda value: one_of(value, valid))


class Table(BaseModel):
    """A table of a study file: unknown keys are refused, and values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _read_name(value: object) -> str:
    name = filled_text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise refusal(
            f"got {quoted(name)}; it becomes a file name: up to 100 letters, digits, - _ . only, "
            "a letter or digit first"
        )
    return name


class StudyTable(Table):
    """``[study]``: the study's name and the seed of all its random numbers."""

    name: Annotated[str, BeforeValidator(_read_name)]
    seed: Annotated[int, whole(0, 2**63 - 1)] = 0


def _read_symbols(value: object) -> list[str]:
    symbols = [named(symbol) for symbol in listed(value)]
    distinct(symbols, "give each symbol once")
    return sorted(symbols)


def _read_time(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            # A day stays a day, so that a TOML date and the same date as text are one value.
            day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}|\d{4}-?W\d{2}-?\d", value)
            return moment.date().isoformat() if day else moment.isoformat()
    raise refusal(f"got {quoted(value)}; expected a date such as 2015-01-31")


def _read_timezone(value: object) -> str:
    name = filled_text(value)
    if name.lower() == "metatrader":
        raise refusal(
            f"got {quoted(name)}, which `barsweep data import --timezone` takes alone: it writes bars in"
            " UTC; give the zone of their market, or leave it out"
        )
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise refusal(
            f'got {quoted(name)}; no such time zone, expected one such as "America/New_York"'
        ) from None
    return name


def _read_bar(value: object) -> str:
    """A duration in one form, so that 60min and 1h are the same study."""
    text = filled_text(value)
    try:
        return write_duration(read_duration(text))
    except ValueError as error:
        raise refusal(str(error)) from None


SIDE_FILES = ("members", "fills", "slower")
"""Files that ``[data]`` may name besides that of the bars."""


class DataTable(Table):
    """``[data]``: the bars of the study.

    Attributes:
        path: relative to the study file's folder.
        symbols: the symbols in order of name, in whatever order they are listed; None takes all
            symbols.
        start, end: ISO dates or date-times, both inclusive; None sets no limit.
        align: what to do if the symbols' calendars differ.
        members: file of the times at which each symbol may be held, relative to the study file's
            folder; None for always.
        fills: file of finer bars in which entries, stops and the maintenance margin are watched,
            relative to the study file's folder; None takes the bars themselves.
        slower: file of longer bars of the same symbols, relative to the study file's folder, for features
            with their timeframe; None puts longer bars together from the bars themselves.
        timezone: the time zone of timestamps without a zone, of ``start`` and ``end``, and of
            ``members``; its days count in features of time and of a timeframe.
        exchange: code of the exchange whose sessions count there instead, such as ``XNYS``.
        bars_per_year: annualizes returns; None takes the bars over their span.
        bar: duration of a bar; None takes that of the steps between bars.
        funding, dividends: columns of the file of bars with funding rates and dividends; None for none.
    """

    path: Annotated[str, BeforeValidator(filled_text)]
    symbols: Annotated[tuple[str, ...], BeforeValidator(_read_symbols)] | None = None
    start: Annotated[str, BeforeValidator(_read_time)] | None = None
    end: Annotated[str, BeforeValidator(_read_time)] | None = None
    align: Annotated[Align, name_of(*ALIGNMENTS)] = "inner"
    members: Annotated[str, BeforeValidator(filled_text)] | None = None
    fills: Annotated[str, BeforeValidator(filled_text)] | None = None
    slower: Annotated[str, BeforeValidator(filled_text)] | None = None
    timezone: Annotated[str, BeforeValidator(_read_timezone)] = "UTC"
    exchange: Annotated[str, BeforeValidator(named)] | None = None
    bars_per_year: Annotated[float, real(LEAST_PER_YEAR, MOST_PER_YEAR)] | None = None
    bar: Annotated[str, BeforeValidator(_read_bar)] | None = None
    funding: Annotated[str, BeforeValidator(filled_text)] | None = None
    dividends: Annotated[str, BeforeValidator(filled_text)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> DataTable:
        if self.start is not None and self.end is not None:
            zone = zoneinfo.ZoneInfo(self.timezone)
            start, end = (
                moment if moment.tzinfo else moment.replace(tzinfo=zone)
                for moment in map(datetime.datetime.fromisoformat, (self.start, self.end))
            )
            if start > end:
                refuse_all([(("start",), f"{self.start} is after end = {self.end}; swap them")])
        return self


def with_side_paths(data: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """``[data]`` with other paths of its ``SIDE_FILES``.

    Args:
        data: ``[data]`` as ``Study.to_dict`` gives it.
        move: gives the new path of a path.

    Returns:
        The table.
    """
    moved = dict(data)
    for key in SIDE_FILES:
        if moved.get(key) is not None:
            moved[key] = move(moved[key])
    return moved


def read_flag(value: object) -> bool:
    """Read true or false.

    Args:
        value: the value that the study file gives.

    Returns:
        The value itself.

    Raises:
        PydanticCustomError: ``value`` is something else.
    """
    if not isinstance(value, bool):
        raise refusal(f"got {quoted(value)}; expected true or false")
    return value


class WorkersTable(Table):
    """``[workers]``: the processes that compute. Never changes a result.

    Attributes:
        count: number of processes; 0 is one per core. All workers of a Dask cluster are used.
        backend: a joblib back end; ``dask`` and ``ray`` are clusters.
        address: the address of the cluster.
        tile_seconds: a worker that takes longer for a tile, for 2,048 sets of it, or for a regime
            model of the user's classifier is ended. The tile is tried once more and then fails, as
            does the study for a model. None sets no limit.
    """

    count: Annotated[int, whole(0, 100_000)] = 0
    backend: Annotated[str, BeforeValidator(filled_text)] = "loky"
    address: Annotated[str, BeforeValidator(filled_text)] | None = None
    tile_seconds: Annotated[float, real(0.1, 1e6)] | None = None

    @model_validator(mode="after")
    def _has_address(self) -> WorkersTable:
        start = CLUSTERS.get(self.backend)
        if start is not None and self.address is None:
            refuse_all([(("address",), f'missing for backend = "{self.backend}"; {start}')])
        if start is None and self.address is not None:
            message = (
                f'got {quoted(self.address)} for backend = "{self.backend}", which has no address'
            )
            refuse_all([(("address",), f"{message}; leave it out, or use {' or '.join(CLUSTERS)}")])
        return self


def _read_url(value: object) -> str:
    """A text; a refusal does not show it, since it may hold a password."""
    if not isinstance(value, str) or not value.strip():
        raise refusal('expected a text such as "postgresql://USER:PASSWORD@HOST/NAME"')
    return value


class AnalyticsTable(Table):
    """``[analytics]``: where the event flow writes its trace. Never changes a result.

    Attributes:
        url: the URL of an SQLite or PostgreSQL database; None is a file in the output folder. It
            may hold a password, so neither ``Study.to_dict`` nor any file of a study contains it.
    """

    url: Annotated[str, BeforeValidator(_read_url)] | None = None
