# Everything here works on a fresh machine with Python 3.11 or newer and make: each target sets up what it needs.
.PHONY: help setup test check format demo demo-once soak chaos bench lock clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup:  ## install everything into .venv (again only if something changed)
	@PYTHON="$(PYTHON)" scripts/setup

test: setup  ## style, types, import contracts and tests: what CI runs
	@scripts/check

check: setup  ## the same without the tests
	@scripts/check --fast

format: setup  ## put the code into shape
	@.venv/bin/ruff check --fix-only --quiet . && .venv/bin/ruff format .

demo: setup  ## a whole round trip on this machine; stays up and says what to try
	@.venv/bin/wahub demo

demo-once: setup  ## the same round trip, then end
	@.venv/bin/wahub demo --once

soak: setup  ## half an hour of faults and traffic in three parts, and the other long tests; PART=n: only that part; LONG=1: in one
	@.venv/bin/python -m tests.soak $(if $(SEED),--seed $(SEED)) $(if $(PART),--part $(PART)) $(if $(LONG),--long) $(if $(SECONDS),--seconds $(SECONDS))
	@$(if $(PART)$(LONG),,scripts/test --soak)

chaos: setup  ## at least 300 kills in nine parts, what is sent and what comes in; SEED=n PART=n repeats one
	@.venv/bin/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(PART),--part $(PART)) $(if $(KILLS),--kills $(KILLS))

bench: setup  ## the benchmarks of docs/benchmarks.md
	@.venv/bin/python -m bench

lock:  ## write the lock files anew from pyproject.toml
	@scripts/lock

clean:  ## remove .venv and what tools left behind (never data)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
