# What can be done here: `make help`. Everything works on a clean clone with nothing but Python
# (a C compiler makes it fast; without one the kernel runs as plain Python).

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast check format bench nightly clean

help:  ## say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv:  ## create .venv with everything development needs
	$(PYTHON) scripts/prepare.py test

demo:  ## a small shop on SQLite: what sojourn does, the statements it sends, how fast it is
	$(PYTHON) scripts/prepare.py demo
	$(BIN)/python -m demo

test: venv  ## every test: SQLite, private PostgreSQL and MariaDB, compiled and not, each Python found
	$(BIN)/python scripts/run_tests.py

test-fast: venv  ## the tests that need no server and no patience
	SOJOURN_TEST_DATABASES=sqlite,aiosqlite $(BIN)/python -m pytest -q -m "not slow"

check: venv  ## style, types, architecture, documents: what review should not have to say
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/python scripts/errors_page.py --check
	$(BIN)/python -m pytest -q tests/architecture tests/docs

format: venv  ## let ruff mend what it can, and write generated documents anew
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/errors_page.py

bench:  ## sojourn beside the raw driver and SQLAlchemy's ORM
	$(PYTHON) scripts/prepare.py bench
	$(BIN)/python -m bench

nightly: venv  ## everything, everywhere, then the benchmark with all its contenders
	$(BIN)/python scripts/run_tests.py --everything
	$(PYTHON) scripts/prepare.py bench
	$(BIN)/python -m bench --contenders all --kernel both --gate

clean:  ## remove what builds and runs left behind, environments too
	rm -rf .venv .venvs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find src tests bench demo scripts -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info src/sojourn/*/*.so src/sojourn/*/*.c
