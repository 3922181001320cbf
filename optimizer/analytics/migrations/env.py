"""Alembic's entry: upgrades the database of the connection that ``optimizer.analytics`` passes.

No file here holds an address: ``AnalyticsWriter`` and ``import_spill`` upgrade the database they open.
A new version is a file in ``versions/`` whose ``down_revision`` names the version before, together with
the same change in ``optimizer.analytics.tables``; a test compares the two.
"""

from alembic import context

_attributes = context.config.attributes

context.configure(connection=_attributes["connection"], version_table=_attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
