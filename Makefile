# Every target sets up what it needs: a virtual environment in .venv, from the project's own files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORTURE_CYCLES ?= 5000

.PHONY: help demo test torture mutants lint types imports clean

help:
	@echo "make demo     both services as real processes, and the whole story in under a minute"
	@echo "make test     every test; those that need PostgreSQL run if TEST_POSTGRES_URL names one"
	@echo "make torture  thousands of cycles of kill -9 and restart (TORTURE_CYCLES, TORTURE_SEED)"
	@echo "make mutants  takes each safeguard away in a copy, and shows which test notices"
	@echo "make lint     ruff: style and faults"
	@echo "make types    mypy, strict"
	@echo "make imports  import-linter: which room may know which"
	@echo "make clean    take the virtual environment away"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@echo "setting up $(VENV) (once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python -m demo $(ARGS)

test: $(READY)
	@$(BIN)/pytest $(ARGS)

# On SQLite, and on PostgreSQL too if TEST_POSTGRES_URL names a server.
torture: $(READY)
	@$(BIN)/python -m tests.faults.torture --cycles $(TORTURE_CYCLES) $(TORTURE_SEED:%=--seed %)
ifdef TEST_POSTGRES_URL
	@$(BIN)/python -m tests.faults.torture --cycles $(TORTURE_CYCLES) $(TORTURE_SEED:%=--seed %) \
		--database-url "$(TEST_POSTGRES_URL)"
endif
	@$(BIN)/pytest -m torture tests/faults/model

mutants: $(READY)
	@$(BIN)/python -m tests.faults.mutants

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports

clean:
	@rm -rf $(VENV)
