"""Alembic's entry. The connection, with its open transaction, comes from `migrate.upgrade`."""

from __future__ import annotations

from alembic import context

from wahub.adapters.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter columns: Alembic copies the table instead.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
