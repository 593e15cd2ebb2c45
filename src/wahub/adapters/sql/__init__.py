"""The store on SQL: SQLite for one worker, PostgreSQL for more. `database.open_database` is the way in."""
