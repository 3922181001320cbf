"""Orders say how their size came about, rejects name their regime, and the fills of a bar are numbered.

When a database is upgraded, the rows that it holds have none of these values.
"""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns to orders, rejects and fills."""
    sizes = ("size", "regime_factor", "rho", "correlation_factor", "portfolio_variance", "equity")
    for name in sizes:
        op.add_column("orders", sa.Column(name, sa.Double, nullable=True))
    op.add_column("rejects", sa.Column("regime_id", sa.Text, nullable=True))
    op.add_column("fills", sa.Column("number", sa.BigInteger, nullable=True))
    op.add_column("fills", sa.Column("time", sa.Text, nullable=True))
