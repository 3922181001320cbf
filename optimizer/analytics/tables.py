"""Tables of the analytics database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

Row = tuple[Any, ...]


_METADATA = sa.MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=null)


def _whole(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=null, autoincrement=False)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


sa.Table(
    "portfolios",
    _METADATA,
    _text("portfolio_id", key=True),
    _text("study_hash"),
    _text("strategy"),
    _text("classifier"),
    _text("parameters"),
    _text("data_hash"),
)
sa.Table(
    "bars",
    _METADATA,
    _text("bar_id", key=True),
    _whole("bar"),
    _text("time"),
    _text("symbol"),
    *(_real(name) for name in ("open", "high", "low", "close", "volume")),
)
sa.Table(
    "signals",
    _METADATA,
    _text("signal_id", key=True),
    _text("strategy_key"),
    _whole("bar"),
    _text("symbol"),
    _whole("direction"),
    _real("strength"),
    _real("confidence"),
    _text("features"),
    _text("bar_id"),
)
sa.Table(
    "regimes",
    _METADATA,
    _text("regime_id", key=True),
    _text("classifier_key"),
    _whole("bar"),
    _whole("code"),
)
sa.Table(
    "orders",
    _METADATA,
    _text("order_id", key=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("signal_id", null=True),
    _text("regime_id", null=True),
    _real("quantity"),
    *(_real(name, null=True) for name in ("wanted", "budget_share", "target")),
    *(_real(name, null=True) for name in ("size", "regime_factor", "rho", "correlation_factor")),
    *(_real(name, null=True) for name in ("portfolio_variance", "equity")),
)
sa.Table(
    "rejects",
    _METADATA,
    _text("reject_id", key=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("signal_id", null=True),
    _text("reason"),
    _text("order_id", null=True),
    _text("regime_id", null=True),
)
sa.Table(
    "fills",
    _METADATA,
    _text("fill_id", key=True),
    _text("order_id", null=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("symbol"),
    _text("kind"),
    *(_real(name) for name in ("quantity", "price", "cost", "cash_after", "position_after")),
    _text("bar_id"),
    _text("opening_order_id", null=True),
    _real("stop_level", null=True),
    _whole("number", null=True),
    _text("time", null=True),
)
sa.Table(
    "equity",
    _METADATA,
    _text("portfolio_id", key=True),
    _whole("bar", key=True),
    *(_real(name) for name in ("equity", "cash", "exposure", "drawdown")),
)

sa.Table(
    "events",
    _METADATA,
    _text("event_id", key=True),
    _text("portfolio_id"),
    _whole("bar"),
    _text("time"),
    _text("kind"),
    _text("symbol", null=True),
    _text("order_id", null=True),
    _text("detail"),
)

TABLES: Mapping[str, sa.Table] = dict(_METADATA.tables)
"""Tables by name, in the order in which they are written; a row is a tuple in a table's order.

``bar`` counts from 0; ``time`` is ISO 8601 in UTC, that of a fill when it filled; ``parameters`` and
``features`` are JSON objects; ``direction`` and ``code`` are those of ``kernels.codes``. ``reason`` says
why a signal became no order (a name in ``kernels.codes.REASONS``), or why an order or a stop became no
fill (``NOT_TRADED`` and those after it in ``optimizer.types``). ``wanted`` is the position that a signal
wanted, ``target`` the one that its order leads to, ``budget_share`` the factor by which all additions, or
all targets, of the close were scaled. The columns of an order after these are those of
``optimizer.types.Sizing``. ``number`` counts the fills of a portfolio in a bar from 1. ``bar_id`` of a
signal is the bar of its decision, that of a fill the bar at which it filled (or the symbol's last one
before it, where it is ruin that filled while the symbol had none). ``events`` are those of a trading
session; their ``kind`` is one of ``optimizer.trading.limits.KINDS``. Values, costs and cash are in the
currency of the prices, quantities in units. Fills that open or add share one ``cash_after`` in a bar:
that after all of them. A value that does not apply is None, never NaN: the order of a stop's fill
(``opening_order_id`` names the one that opened the position), the size of an order without ``Sizing``, or
what a row of an earlier schema did not keep. SQLite returns -0.0 as 0.0; every other float64
comes back bit for bit.
"""

VERSION_TABLE = "barsweep_schema"  # not Alembic's default, which other programs' databases hold


@dataclass(slots=True)
class BarRows:
    """Rows of one bar, by table. ``bar`` is None until the bar has ended."""

    bar: int | None = None
    rows: dict[str, list[Row]] = field(default_factory=dict)
    count: int = 0
