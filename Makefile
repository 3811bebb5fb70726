# Every target sets up the virtual environment .venv that it needs from the project's files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 4
TORTURE_CYCLES ?= 500
FUZZ_REQUESTS ?= 20000
# Use memory for temporary files where there is enough: no test waits for a disk.
MEMORY := $(shell [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 2000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)
PYTEST := env PYTHONDONTWRITEBYTECODE= $(MEMORY) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
REGENERATIONS := $(BIN)/python -m tests.faults.regenerations --count 1000
TORTURE := $(BIN)/python -m tests.faults.torture --cycles $(TORTURE_CYCLES) $(TORTURE_SEED:%=--seed %)

.PHONY: help demo test test-all bench pictures settings torture lint types imports clean

help:
	@echo "make demo     run both services and the whole story, in about a minute;"
	@echo "              ARGS=--stay keeps both running, with a sign-in, until Ctrl-C"
	@echo "make test     run the tests except the long ones; all of them in CI, or those in ARGS"
	@echo "make test-all run the long tests too; with TEST_POSTGRES_URL, those on PostgreSQL too"
	@echo "make bench    measure what a grade sync costs; a few minutes"
	@echo "make pictures make the pictures of the pages in docs/pictures; needs chromium"
	@echo "make settings write .env.example and docs/settings.md from the settings classes"
	@echo "make torture  kill -9 cycles, fuzzing, an outage, new tokens, long histories (TORTURE_CYCLES, TORTURE_SEED)"
	@echo "make lint     ruff: style and errors"
	@echo "make types    mypy, strict"
	@echo "make imports  import-linter: which package may import which"
	@echo "make clean    remove the virtual environment"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=…")'
	@echo "setting up $(VENV) (once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python -m demo $(ARGS)

ifneq ($(CI)$(ARGS),)
test: test-all
else
test: $(READY)
	@$(PYTEST) -q -m "not torture and not long"
	@echo "Without the long tests (browser, killed processes); \`make test-all\` runs them too."
endif

test-all: $(READY)
	@$(PYTEST) -q $(ARGS)

bench: $(READY)
	@$(BIN)/python -m benchmarks.sync $(ARGS)

pictures: $(READY)
	@$(BIN)/python -m tests.browser.pictures

settings: $(READY)
	@$(BIN)/python -m tests.consistency.settings_docs

# On SQLite, and on PostgreSQL too if TEST_POSTGRES_URL is set.
torture: $(READY)
	@$(TORTURE)
ifdef TEST_POSTGRES_URL
	@$(TORTURE) --database-url "$(TEST_POSTGRES_URL)"
endif
	@$(BIN)/python -m tests.faults.fuzz --requests $(FUZZ_REQUESTS)
	@$(BIN)/python -m tests.faults.outage --events 100000
	@$(REGENERATIONS)
ifdef TEST_POSTGRES_URL
	@$(REGENERATIONS) --database-url "$(TEST_POSTGRES_URL)"
endif
	@$(BIN)/pytest -q -m torture

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports

clean:
	@rm -rf $(VENV)
