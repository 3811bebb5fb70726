# Every target sets up what it needs: a virtual environment in .venv, from the project's own files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 4
TORTURE_CYCLES ?= 5000
FUZZ_REQUESTS ?= 100000
# No commit waits for a disk where memory is enough, and no process compiles what another has.
MEMORY := $(shell [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 2000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)
PYTEST := env PYTHONDONTWRITEBYTECODE= $(MEMORY) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TORTURE := $(BIN)/python -m tests.faults.torture --cycles $(TORTURE_CYCLES) $(TORTURE_SEED:%=--seed %)
LEFT_OUT := Left out: the long tests (a browser, real processes that are killed, the whole story). \`make test-all\` runs them too.

.PHONY: help demo test test-all bench pictures settings torture lint types imports clean

help:
	@echo "make demo     both services as real processes, and the whole story in about a minute;"
	@echo "              with ARGS=--stay both stay up afterwards, with a sign-in, until Ctrl-C"
	@echo "make test     every test but the long ones; all of them where CI is set, or ARGS names some"
	@echo "make test-all the long ones too; those for PostgreSQL if TEST_POSTGRES_URL names one"
	@echo "make bench    what a grade sync costs, beside the run of old; a few minutes"
	@echo "make pictures the pictures of the pages in docs/pictures, anew; needs chromium"
	@echo "make settings .env.example and docs/settings.md, from the settings classes"
	@echo "make torture  kill -9 and restart, fuzz, outage, long histories (TORTURE_CYCLES, TORTURE_SEED)"
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

# In CI nothing is left out; tests/house holds that.
ifneq ($(CI)$(ARGS),)
test: test-all
else
test: $(READY)
	@$(PYTEST) -m "not torture and not long"; code=$$?; echo "$(LEFT_OUT)"; exit $$code
endif

test-all: $(READY)
	@$(PYTEST) $(ARGS)

bench: $(READY)
	@$(BIN)/python -m benchmarks.sync $(ARGS)

pictures: $(READY)
	@$(BIN)/python -m tests.browser.pictures $(ARGS)

settings: $(READY)
	@$(BIN)/python -m tests.house.settings_docs

# Kills on SQLite, and on PostgreSQL too if TEST_POSTGRES_URL names a server; an hour and more.
torture: $(READY)
	@$(TORTURE)
ifdef TEST_POSTGRES_URL
	@$(TORTURE) --database-url "$(TEST_POSTGRES_URL)"
endif
	@$(BIN)/python -m tests.faults.fuzz --requests $(FUZZ_REQUESTS)
	@$(BIN)/python -m tests.faults.outage --events 100000
	@$(BIN)/pytest -m torture
	@$(BIN)/python -m tests.faults.mutation_check

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports

clean:
	@rm -rf $(VENV)
