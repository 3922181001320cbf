"""What an account elsewhere holds: read from a table of positions, or from a state file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from optimizer.errors import DataError
from optimizer.files import write_atomically
from optimizer.store.validated import (
    Count,
    Digest,
    Name,
    Number,
    Record,
    problem_of,
    read_json,
)
from optimizer.sweep.rules import Rules
from optimizer.text import list_text, one_line, quoted
from optimizer.types import Bars

KIND, BOOK_KIND = "barsweep account", "barsweep accounts"


class Position(Record):
    """A position of an account.

    Attributes:
        quantity: units, signed.
        entry: mean price of its fills; None where it is unknown.
    """

    quantity: Number
    entry: Number | None = None


@dataclass(frozen=True)
class Account:
    """Cash and positions of an account.

    Attributes:
        cash: money.
        positions: the positions by symbol; a symbol that is not there is flat.
    """

    cash: float
    positions: Mapping[str, Position]

    def to_dict(self) -> dict[str, Any]:
        """The content of a state file, as plain values."""
        held = {name: one.model_dump() for name, one in self.positions.items()}
        return {"kind": KIND, "cash": self.cash, "positions": held}

    def lots(self, bars: Bars, rules: Rules, source: str) -> list[float]:
        """The positions in lots, one number a symbol of the bars, signed.

        Args:
            bars: the bars of the study.
            rules: the rules of the study.
            source: what states the account, for messages.

        Raises:
            DataError: a symbol is not among the study's, a position is no whole number of lots, or is
                short where the study has no shorts.
        """
        unknown = [name for name in self.positions if name not in bars.symbols]
        if unknown:
            raise DataError(
                f"{source}: {list_text(map(quoted, unknown))}: not a symbol of the study, which has"
                f" {list_text(bars.symbols)}; leave out what it does not trade"
            )
        found = []
        for symbol, units in zip(bars.symbols, rules.lot_units.tolist(), strict=True):
            one = self.positions.get(symbol)
            lots = 0.0 if one is None else float(one.quantity) / units
            whole = float(np.round(lots))
            if not math.isclose(lots, whole, rel_tol=1e-9, abs_tol=1e-9):
                raise DataError(
                    f"{source}: {symbol}: {lots * units:.10g} units are no whole number of lots of"
                    f" {units:.10g}; give the whole lots, and count the rest as cash"
                )
            if whole < 0.0 and not rules.allow_short:
                raise DataError(
                    f"{source}: {symbol}: {lots * units:.10g} units are short, and the study has"
                    " allow_short = false"
                )
            found.append(whole)
        return found

    def entries(self, symbols: Sequence[str]) -> list[float | None]:
        """The mean entry price of each symbol's position; None where it is unknown.

        Args:
            symbols: the symbols of the bars, in order.
        """
        held = [self.positions.get(name) for name in symbols]
        return [None if one is None or one.entry is None else float(one.entry) for one in held]


class _State(Record):
    cash: Number
    positions: dict[Name, Position]


def read_state(path: Path) -> Account:
    """Read a state file: JSON with ``cash`` and ``positions``.

    Args:
        path: such as the ``account.json`` that ``barsweep trade`` keeps.

    Returns:
        The account.

    Raises:
        DataError: it cannot be read, or a value is missing or of the wrong kind.
    """
    expected = '{"cash": 1000, "positions": {"SPY": {"quantity": 10}}}'
    return _account(_read(path, _State, expected), str(path))


class _MemberState(Record):
    member: Count
    account: _State


class _BookState(Record):
    combination: Digest
    members: Annotated[list[_MemberState], Field(max_length=10_000)]


def book_state(digest: str, accounts: Sequence[Account]) -> dict[str, Any]:
    """The content of a state file of a combination, as plain values.

    Args:
        digest: the hash of the combination.
        accounts: the account of each member, in order.
    """
    members = [
        {"member": number, "account": one.to_dict()} for number, one in enumerate(accounts, 1)
    ]
    return {"kind": BOOK_KIND, "combination": digest, "members": members}


def read_accounts(path: Path, digest: str, n_members: int) -> list[Account]:
    """Read a state file of a combination: JSON with ``account`` of each of its ``members``.

    Args:
        path: such as the ``account.json`` that ``barsweep trade`` keeps, or what ``barsweep orders
            --json`` has printed.
        digest: the hash of the combination.
        n_members: number of its members.

    Returns:
        The account of each member, in order.

    Raises:
        DataError: it cannot be read, is of another combination, or does not name each member once.
    """
    expected = (
        'what `barsweep orders --json` prints of a combination: {"combination": HASH, "members":'
        ' [{"member": 1, "account": {"cash": 1000, "positions": {}}}, ...]}'
    )
    state = _read(path, _BookState, expected)
    if state.combination != digest:
        raise DataError(
            f"{path}: combination: accounts of {state.combination[:8]}, and this one is {digest[:8]};"
            " give those of this one"
        )
    found = {one.member: one.account for one in state.members}
    if sorted(one.member for one in state.members) != list(range(1, n_members + 1)):
        raise DataError(
            f"{path}: members: {len(state.members)} accounts, expected one of each member from 1 to"
            f" {n_members}"
        )
    return [
        _account(found[number], f"{path}: members #{number}") for number in range(1, n_members + 1)
    ]


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``account.json``.

    Args:
        folder: its place.
        state: what it holds, see ``Account.to_dict`` and ``book_state``.
    """
    text = json.dumps(state, indent=1)
    write_atomically(folder / "account.json", lambda part: part.write_text(f"{text}\n"))


_Model = TypeVar("_Model", bound=Record)


def _read(path: Path, model: type[_Model], expected: str) -> _Model:
    try:
        return model.model_validate(read_json(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValidationError as error:
        raise DataError(f"{path}: {problem_of(error)}; expected {expected}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as JSON: {reason}") from None


def _account(state: _State, source: str) -> Account:
    return _checked(Account(float(state.cash), state.positions), source)


def read_positions(path: Path, cash: float) -> Account:
    """Read a table of positions.

    Args:
        path: CSV or Parquet with the columns ``symbol`` and ``quantity`` (signed units) and, if it is
            known, ``entry``, the mean price of the fills; others are ignored.
        cash: money.

    Returns:
        The account.

    Raises:
        DataError: it cannot be read, or a value is missing or of the wrong kind.
    """
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        frame = pd.read_parquet(path) if is_parquet else pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # whatever the two readers raise for a file of another kind
        raise DataError(f"{path}: cannot be read as CSV or Parquet: {one_line(error)}") from None
    frame = frame.rename(columns={name: str(name).strip().lower() for name in frame.columns})
    for name in ("symbol", "quantity"):
        if name not in frame:
            raise DataError(
                f"{path}: no column {name}; expected symbol and quantity, and entry where it is known"
            )
    found: dict[str, Position] = {}
    for line, row in enumerate(frame.to_dict("records"), 2):
        symbol = str(row["symbol"])
        if symbol in found:
            raise DataError(
                f"{path}: line {line}: symbol {quoted(symbol)} a second time; add them up"
            )
        numbers: dict[str, float | None] = {"entry": None}
        for name in ("quantity", "entry"):
            value = row.get(name)
            if name == "entry" and (value is None or pd.isna(value)):
                continue
            try:
                numbers[name] = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise DataError(
                    f"{path}: line {line}: {name} = {quoted(value)}; expected a number"
                ) from None
        if numbers["quantity"] == 0.0:
            continue
        try:
            found[symbol] = Position(**numbers)  # type: ignore[arg-type]
        except ValidationError as error:
            raise DataError(f"{path}: line {line}: {problem_of(error)}") from None
    return _checked(Account(cash, found), str(path))


def _checked(account: Account, source: str) -> Account:
    for name, one in account.positions.items():
        if one.entry is not None and one.entry <= 0:
            raise DataError(
                f"{source}: {quoted(name)}: entry = {one.entry}; expected a price above 0"
            )
    return account
