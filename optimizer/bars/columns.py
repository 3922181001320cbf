"""Which column of a file of bars is read as what, by the names that programs give them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.bars.rows import PRICES
from optimizer.errors import DataError
from optimizer.text import list_text, quoted, suggest

ADJUSTED = "adj_close"
"""Column of adjusted closes, if a file has one."""

_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "symbol": (
        ("symbol", "ticker"),
        (
            "pair",
            "tic",
            "instrument",
            "asset",
            "coin",
            "sym",
            "code",
            "tckrsymb",
            "secid",
            "market",
        ),
        ("instrumentid",),
    ),
    "timestamp": (
        ("unix", "unixtimestamp", "unixtime", "epoch", "tsevent", "opentime", "windowstart", "t"),
        ("timestamp", "timestamps"),
        ("datetime", "gmttime", "localtime", "utctime", "timeutc", "dateutc", "begin"),
    ),
    "date": (("date", "data", "tradedate", "traddt"),),
    "time": (("time",),),
    "open": (("open", "o", "otwarcie", "openprice", "opnpric"),),
    "high": (("high", "h", "najwyzszy", "highprice", "hghpric"),),
    "low": (("low", "l", "najnizszy", "lowprice", "lwpric"),),
    "close": (
        ("close", "c", "zamkniecie", "closeprice", "clspric", "closelast"),
        ("last", "price"),
    ),
    "volume": (
        ("volume", "vol", "v", "wolumen"),
        ("totalvolume", "tottrdqty", "ttltradgvol", "basevolume", "volumefrom"),
    ),
    "tick_volume": (("tickvol", "tickvolume"),),
}
"""The plain names of each column that is used; names of an earlier group go before those of a later.

The Polish names are Stooq's; ``tckrsymb`` and its like, and ``tottrdqty``, those of India's exchanges.
"""

_ADJUSTED = re.compile(r"adj(usted)?(close|closing)(price)?|close(price)?adj(usted)?")
_VOLUME_IN = re.compile(r"vol(ume)?[ _]*[(\[]?[ _]*([a-z0-9]+)[)\]]?", re.IGNORECASE)
"""A volume that names its unit, as ``Volume BTC`` and ``Volume_(Currency)``."""
_INDEX = re.compile(r"|index|unnamed\d*|(index)?level\d+")
"""What pandas calls an index without a name."""


@dataclass(frozen=True)
class Columns:
    """Positions of the columns of a file.

    Attributes:
        places: the position by the role: ``symbol``, ``timestamp`` or ``date`` and ``time``, prices,
            ``volume``, ``tick_volume``, adjusted closes, and those that a study names.
        volumes: columns of volume in several units, where no column is the volume itself.
        unused: all others.
    """

    places: Mapping[str, int]
    volumes: tuple[int, ...]
    unused: tuple[int, ...]


def plain_name(name: object) -> str:
    """The name of a column in lower case, without accents, blanks, punctuation and a leading number.

    Args:
        name: the name as the file has it, such as ``1. open``.
    """
    text = unicodedata.normalize("NFKD", str(name)).lower()
    if "\n" in text:
        return text  # of a file with a quote too many: no name of ours
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\s*\d+[.)]\s*", "", text))


def role_of(name: object) -> str | None:
    """What a column of this name is read as; None if it is not.

    Args:
        name: the name as the file has it.
    """
    plain = plain_name(name)
    return next(
        (role for role, groups in _NAMES.items() for names in groups if plain in names), None
    )


def has_prices(header: Sequence[str]) -> bool:
    """Whether a line names the columns of bars: one each of open, high and low.

    Args:
        header: the cells of the line.
    """
    plain = {plain_name(name) for name in header}
    return all(not plain.isdisjoint(_NAMES[name][0]) for name in ("open", "high", "low"))


def find_columns(
    source: str,
    header: Sequence[str],
    others: Mapping[str, str],
    first: Callable[[int], Any],
) -> Columns:
    """Find the columns that are used.

    Args:
        source: the file, in messages.
        header: the names of its columns.
        others: further columns to read: their names in the file by the names of ``PAYMENTS``.
        first: the first cell of a column by its position, asked only where no name tells the time.

    Returns:
        Their positions.

    Raises:
        DataError: a column is missing, or could be one of several.
    """
    plain = [plain_name(name) for name in header]
    found: dict[str, int] = {}
    for role, groups in _NAMES.items():
        for names in groups:
            places = [i for i, name in enumerate(plain) if name in names]
            if places:
                found[role] = _single(source, header, role, places)
                break
    adjusted = [i for i, name in enumerate(plain) if _ADJUSTED.fullmatch(name)]
    if adjusted:
        found[ADJUSTED] = _single(source, header, "the adjusted close", adjusted)
    volumes = () if "volume" in found else _volumes(header)
    if "timestamp" in found:
        found.pop("date", None)
        found.pop("time", None)
    elif not {"date", "time"} & found.keys():
        indexes = [i for i, name in enumerate(plain) if _INDEX.fullmatch(name)]
        times = [i for i in indexes if looks_like_time(first(i))]
        if times:
            found["timestamp"] = times[0]
        texts = [i for i in indexes if isinstance(first(i), str) and i not in times]
        if times and texts and "symbol" not in found:
            found["symbol"] = texts[0]
    _refuse_missing(source, header, found)
    found.update(_find_others(source, header, others, found))
    used = {*found.values(), *volumes}
    return Columns(found, volumes, tuple(i for i in range(len(header)) if i not in used))


def _single(source: str, header: Sequence[str], role: str, places: Sequence[int]) -> int:
    if len(places) > 1:
        both = ", ".join(header[i] for i in places)
        raise DataError(f"{source}: several columns could be {role}: {both}; keep or rename one")
    return places[0]


def _volumes(header: Sequence[str]) -> tuple[int, ...]:
    return tuple(i for i, name in enumerate(header) if _VOLUME_IN.fullmatch(str(name).strip()))


def unit_of_volume(name: str) -> str:
    """The unit that the name of a column of volume ends with, in upper case.

    Args:
        name: a name such as ``Volume BTC``.
    """
    match = _VOLUME_IN.fullmatch(name.strip())
    return match[2].upper() if match else ""


def _refuse_missing(source: str, header: Sequence[str], found: Mapping[str, int]) -> None:
    missing = [name for name in PRICES if name not in found]
    if not {"timestamp", "date", "time"} & found.keys():
        missing.append("timestamp")
    if not missing:
        return
    times = "timestamp or datetime or date or time"
    valid = "; ".join(times if name == "timestamp" else name for name in missing)
    raise DataError(
        f"{source}: no column {', '.join(missing)}; found: {list_text(map(str, header))}; "
        f"accepted names, in any case: {valid}"
    )


def _find_others(
    source: str, header: Sequence[str], others: Mapping[str, str], found: Mapping[str, int]
) -> dict[str, int]:
    """Position of each column that a study names, by its standard name."""
    places: dict[str, int] = {}
    lowered = [str(name).strip().lower() for name in header]
    for standard, name in others.items():
        wanted = name.strip().lower()
        if wanted not in lowered:
            raise DataError(
                f"{source}: no column {quoted(name)} for [data] {standard};"
                f" {suggest(name, list(header), 20)}; add it, or leave {standard} out"
            )
        if lowered.count(wanted) > 1:
            raise DataError(f"{source}: several columns are called {quoted(name)}; keep one")
        place = lowered.index(wanted)
        if place in (*found.values(), *places.values()):
            raise DataError(
                f"{source}: [data] {standard} = {quoted(name)} is read for something else already; name"
                f" the column of {standard} alone"
            )
        places[standard] = place
    return places


def looks_like_time(cell: Any) -> bool:
    """Whether a cell is a time: a date, or a number since 1970, and not the number of a row.

    Args:
        cell: a text or a value.
    """
    if isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool):
        return bool(abs(float(cell)) >= 1e7)
    if isinstance(cell, str):
        text = cell.strip()
        digits = re.fullmatch(r"-?\d{8,19}(\.\d*)?", text)
        date = re.match(r"\d{1,4}[-/. ]([a-z]{3}|\d\d?)[-/. ]\d{1,4}|[a-z]{3}\w* \d", text, re.I)
        return bool(digits or date or re.match(r"\d{8}[ T-]+\d", text))
    return hasattr(cell, "year")
