"""Orders say what they wanted and how the budget scaled it.

All orders of a close share the budget. The position wanted, the budget's factor and the target take the
place of the three values of which an order took the smallest, in turn. When a database is upgraded, the
orders that it holds lose those values, and have none of the new ones.
"""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def upgrade() -> None:
    """Rebuild orders: not every SQLite can drop a column."""
    kept = (
        _text("order_id"),
        _text("portfolio_id"),
        sa.Column("bar", sa.BigInteger, nullable=False),
        _text("symbol"),
        _text("signal_id", null=True),
        _text("regime_id", null=True),
        sa.Column("quantity", sa.Double, nullable=False),
    )
    new = (sa.Column(name, sa.Double) for name in ("wanted", "budget_share", "target"))
    key = sa.PrimaryKeyConstraint("order_id")
    op.create_table("orders_3", *kept, *new, key, sqlite_with_rowid=False)
    names = ", ".join(f'"{column.name}"' for column in kept)
    op.execute(f'INSERT INTO "orders_3" ({names}) SELECT {names} FROM "orders"')
    op.drop_table("orders")
    op.rename_table("orders_3", "orders")
