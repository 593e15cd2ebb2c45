"""`python -m wahub` is the command `wahub`."""

from __future__ import annotations

from wahub.cli import main

if __name__ == "__main__":
    main()
