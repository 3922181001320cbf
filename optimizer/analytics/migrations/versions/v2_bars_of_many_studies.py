"""Bars have IDs, so that one database holds studies on different bars.

Signals and fills name their bar, portfolios the hash of their bars, and rejects the order for which
there was no cash. The fill of a stop names the order that opened its position and the level of the stop.

The first schema could hold the bars of one study only. When a database is upgraded, the IDs of its bars,
also those that signals and fills name, begin with ``schema1``.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None

_Columns = tuple[sa.Column[str] | sa.Column[int] | sa.Column[float], ...]


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


_BAR_ID = {"bar_id": "'schema1.' || CAST(bar AS TEXT) || '.' || symbol || '.bar'"}


def _rebuild(name: str, columns: _Columns, new: Mapping[str, str]) -> None:
    """Replace a table by one with ``columns``; ``new`` gives in SQL the columns that are new.

    SQLite cannot add a column that must not be null, or a key.
    """
    key = sa.PrimaryKeyConstraint(columns[0].name)
    op.create_table(f"{name}_2", *columns, key, sqlite_with_rowid=False)
    names = [column.name for column in columns]
    into = ", ".join(f'"{column}"' for column in names)
    values = ", ".join(new.get(column, f'"{column}"') for column in names)
    op.execute(f'INSERT INTO "{name}_2" ({into}) SELECT {values} FROM "{name}"')
    op.drop_table(name)
    op.rename_table(f"{name}_2", name)


def upgrade() -> None:
    """Rebuild portfolios, bars, signals and fills; add a column to rejects."""
    _rebuild(
        "portfolios",
        (
            _text("portfolio_id"),
            _text("study_hash"),
            _text("strategy"),
            _text("classifier"),
            _text("parameters"),
            _text("data_hash"),
        ),
        {"data_hash": "'schema1'"},
    )
    _rebuild(
        "bars",
        (
            _text("bar_id"),
            _whole("bar"),
            _text("time"),
            _text("symbol"),
            *(_real(name) for name in ("open", "high", "low", "close", "volume")),
        ),
        _BAR_ID,
    )
    _rebuild(
        "signals",
        (
            _text("signal_id"),
            _text("strategy_key"),
            _whole("bar"),
            _text("symbol"),
            _whole("direction"),
            _real("strength"),
            _real("confidence"),
            _text("features"),
            _text("bar_id"),
        ),
        _BAR_ID,
    )
    _rebuild(
        "fills",
        (
            _text("fill_id"),
            _text("order_id", null=True),
            _text("portfolio_id"),
            _whole("bar"),
            _text("symbol"),
            _text("kind"),
            *(_real(name) for name in ("quantity", "price", "cost", "cash_after")),
            _real("position_after"),
            _text("bar_id"),
            _text("opening_order_id", null=True),
            _real("stop_level", null=True),
        ),
        {**_BAR_ID, "opening_order_id": "NULL", "stop_level": "CAST(NULL AS DOUBLE PRECISION)"},
    )
    op.add_column("rejects", _text("order_id", null=True))
