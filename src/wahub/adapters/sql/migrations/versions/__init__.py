"""One file per step of the schema, oldest first. A released step never changes."""
