"""One line for each mistake in a study file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.account import AccountTable, InstrumentTable
from optimizer.study_file.components import CombinationTable
from optimizer.study_file.costs import CostsTable
from optimizer.study_file.search_tables import SearchTable, ValidationTable
from optimizer.study_file.tables import (
    AnalyticsTable,
    DataTable,
    StudyTable,
    Table,
    WorkersTable,
)
from optimizer.study_file.values import Place, table_label
from optimizer.text import counted, quoted, suggest

_TABLES: dict[str, type[Table]] = {
    "study": StudyTable,
    "data": DataTable,
    "strategies": CombinationTable,
    "costs": CostsTable,
    "account": AccountTable,
    "instruments": InstrumentTable,
    "search": SearchTable,
    "validation": ValidationTable,
    "workers": WorkersTable,
    "analytics": AnalyticsTable,
}
_TOP_KEYS = ("study", "data", "strategy", "strategies", "classifier", "risk", *list(_TABLES)[3:])
_MISSING = {
    ("study",): '[study] with name = "my_study"',
    ("study", "name"): 'name = "my_study"',
    ("data",): '[data] with path = "bars.parquet"',
    ("data", "path"): 'path = "bars.parquet"',
    ("strategy",): f"[strategy] with name = one of {', '.join(BUILT_IN)}",
}


def summarize_errors(error: ValidationError, raw: Mapping[str, Any]) -> str:
    """The first error in the order of the file, and how many more there are.

    Args:
        error: the error of the study.
        raw: the study file as parsed.
    """
    lines = error.errors(include_url=False)
    first = min(lines, key=lambda line: _position(line["loc"], raw))
    more = len(lines) - 1
    ending = f" (and {counted(more, 'more error')})" if more else ""
    return f"{place_text(first['loc'], raw)}: {_message(first)}{ending}"


def _position(place: Place, raw: object) -> tuple[float, ...]:
    """Key that sorts places in the order of the file; missing keys come last in their table."""
    position: list[float] = []
    for part in place:
        if isinstance(raw, Mapping) and isinstance(part, str):
            position.append(list(raw).index(part) if part in raw else math.inf)
            raw = raw.get(part)
        elif isinstance(raw, (list, tuple)) and isinstance(part, int):
            position.append(part)
            raw = raw[part]
        # else: a single [strategy], which was made a list of one
    return tuple(position)


def place_text(place: Place, raw: Mapping[str, Any]) -> str:
    """A place in a study file: ``[risk] lot_size``, ``[[strategy]] #2 fast``.

    Args:
        place: keys and indices that lead to it.
        raw: the study file as parsed.
    """
    table, *rest = place
    label = f"[{table}]"
    if table == "instruments" and rest:
        symbol = str(rest.pop(0))
        key = symbol if re.fullmatch(r"[A-Za-z0-9_-]+", symbol) else quoted(symbol)
        label = f"[{table}.{key}]"
    if rest and isinstance(rest[0], int):
        index, tables = int(rest.pop(0)), raw.get(str(table))
        count = len(tables) if isinstance(tables, (list, tuple)) else 1
        label = table_label(str(table), index, count)
    keys = (f"#{part + 1}" if isinstance(part, int) else part for part in rest)
    return " ".join((label, *keys))


def _message(line: Mapping[str, Any]) -> str:
    place = line["loc"]
    if line["type"] == "study_file":
        return str(line["msg"])
    if line["type"] == "missing":
        return f"missing; add {_MISSING[place]}"
    if line["type"] == "extra_forbidden":
        if len(place) == 1:
            return f"unknown table; {suggest(str(place[0]), _TOP_KEYS)}"
        return f"unknown key; {suggest(str(place[-1]), list(_TABLES[place[0]].model_fields))}"
    if place[0] == "analytics":  # the value may hold a password
        return "expected a table with url"
    if line["type"] in ("model_type", "model_attributes_type"):
        return f"got {quoted(line['input'])}; expected a table"
    return f"got {quoted(line['input'])}; {line['msg']}"
