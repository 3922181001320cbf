"""Alembic's entry: upgrades the database behind the connection that ``optimizer.analytics`` gives.

There is no address in a file here: ``AnalyticsWriter`` and ``import_spill`` upgrade what they open.
A new version is a file in ``versions/`` that names the one before it in ``down_revision``, beside the
same change in ``optimizer.analytics.TABLES``; a test compares the two.
"""

from alembic import context

_attributes = context.config.attributes

context.configure(connection=_attributes["connection"], version_table=_attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
