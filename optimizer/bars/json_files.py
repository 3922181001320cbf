"""Read JSON files of bars: lists of values, named values, or columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.bars.columns import has_prices
from optimizer.errors import DataError

_DEEPEST = 4


@dataclass(frozen=True)
class JsonTable:
    """A table of bars in a JSON file.

    Attributes:
        frame: its rows; columns are numbered where they have no names.
        named: whether columns have names.
    """

    frame: pd.DataFrame
    named: bool


def read_json(file: Path) -> JsonTable:
    """Read a JSON file of bars.

    Args:
        file: a list of lists, a list of named values, named columns, or named values by time; alone,
            or inside of other values. Several tables of named values are those of several symbols.

    Returns:
        The table.

    Raises:
        DataError: there is no such table, or a value is neither a number nor text.
    """
    data = file.read_bytes()
    content = json.loads(gzip.decompress(data) if file.name.lower().endswith(".gz") else data)
    tables = list(_tables(content, "", 0))
    if content == []:
        raise DataError(f"{file}: has no rows")
    if not tables or len({table.named for _, table in tables}) > 1:
        raise DataError(
            f"{file}: is not a list of bars, as [time, open, high, low, close, volume] or with names"
        )
    frames = [table.frame for _, table in tables]
    if len(tables) > 1:
        if not tables[0][1].named:
            raise DataError(f"{file}: has several lists of bars; put each into a file of its own")
        frames = [table.frame.assign(symbol=name) for name, table in tables]
    frame = pd.concat(frames, ignore_index=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return JsonTable(frame, tables[0][1].named)


def _tables(content: Any, name: str, depth: int) -> Iterator[tuple[str, JsonTable]]:
    """Tables of bars with the names under which they stand."""
    if depth > _DEEPEST:
        return
    if isinstance(content, list):
        if content and all(isinstance(row, list) for row in content):
            if len({len(row) for row in content}) == 1 and len(content[0]) >= 5:
                yield name, JsonTable(pd.DataFrame(content), False)
        elif content and all(isinstance(row, dict) for row in content):
            if has_prices(list(content[0])):
                yield name, JsonTable(pd.DataFrame(content), True)
            else:
                for row in content:
                    yield from _tables(row, name, depth + 1)
    elif isinstance(content, dict) and content:
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
        if has_prices(list(lists)):
            length = len(next(value for key, value in lists.items() if has_prices_in(key)))
            yield (
                name,
                JsonTable(pd.DataFrame({k: v for k, v in lists.items() if len(v) == length}), True),
            )
            return
        values = list(content.values())
        if all(isinstance(value, dict) and has_prices(list(value)) for value in values):
            frame = pd.DataFrame(values)
            yield name, JsonTable(frame.assign(timestamp=list(content)), True)
            return
        for key, value in content.items():
            yield from _tables(value, str(key), depth + 1)


def has_prices_in(key: str) -> bool:
    """Whether a name alone is that of opening prices.

    Args:
        key: the name.
    """
    return has_prices([key, "high", "low"])
