"""A table for what happens to a trading session: orders sent and missed, outages, limits."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of events."""
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("portfolio_id", sa.Text, nullable=False),
        sa.Column("bar", sa.BigInteger, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=True),
        sa.Column("order_id", sa.Text, nullable=True),
        sa.Column("detail", sa.Text, nullable=False),
    )
