"""The first tables: portfolios, bars, signals, regimes, orders, rejects, fills, equity."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def _create(name: str, *columns: sa.Column[str] | sa.Column[int] | sa.Column[float]) -> None:
    keys = {"bars": ("bar", "symbol"), "equity": ("portfolio_id", "bar")}
    key = keys.get(name, (columns[0].name,))
    # The keys grow with the bars, portfolio by portfolio: so the table itself can be in their order.
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_with_rowid=False)


def upgrade() -> None:
    """Create the tables."""
    _create(
        "portfolios",
        _text("portfolio_id"),
        _text("study_hash"),
        _text("strategy"),
        _text("classifier"),
        _text("parameters"),
    )
    _create(
        "bars",
        _whole("bar"),
        _text("time"),
        _text("symbol"),
        *(_real(name) for name in ("open", "high", "low", "close", "volume")),
    )
    _create(
        "signals",
        _text("signal_id"),
        _text("strategy_key"),
        _whole("bar"),
        _text("symbol"),
        _whole("direction"),
        _real("strength"),
        _real("confidence"),
        _text("features"),
    )
    _create("regimes", _text("regime_id"), _text("classifier_key"), _whole("bar"), _whole("code"))
    _create(
        "orders",
        _text("order_id"),
        _text("portfolio_id"),
        _whole("bar"),
        _text("symbol"),
        _text("signal_id", null=True),
        _text("regime_id", null=True),
        _real("quantity"),
        *(_real(name, null=True) for name in ("kelly_value", "budget_value", "cash_value")),
    )
    _create(
        "rejects",
        _text("reject_id"),
        _text("portfolio_id"),
        _whole("bar"),
        _text("symbol"),
        _text("signal_id", null=True),
        _text("reason"),
    )
    _create(
        "fills",
        _text("fill_id"),
        _text("order_id", null=True),
        _text("portfolio_id"),
        _whole("bar"),
        _text("symbol"),
        _text("kind"),
        *(_real(name) for name in ("quantity", "price", "cost", "cash_after", "position_after")),
    )
    _create(
        "equity",
        _text("portfolio_id"),
        _whole("bar"),
        *(_real(name) for name in ("equity", "cash", "exposure", "drawdown")),
    )
