"""Alembic's environment and the steps of the schema. `migrate.py` runs them."""
