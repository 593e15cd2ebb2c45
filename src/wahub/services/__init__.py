"""Use cases: one function, one transaction; they take `tx` and never commit."""
