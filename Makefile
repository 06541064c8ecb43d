# One command each, on a machine that has only Python 3.11 or newer and make: every target sets up what it needs.
# Where packages come from is pip's own business (its configuration, its environment); nothing here names an address.

PYTHON  ?= python3
VENV    ?= .venv
# One more than the two processors that the limit of 15 minutes is for: a quarter of the time of the tests is waiting.
WORKERS ?= 3
ARGS    ?=
SOAK_TIMEOUT ?= 14400

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install --progress-bar off
# What exists of it: a young repository need not have every folder yet.
TYPED   := $(wildcard src tests examples benchmarks)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve demo test browser pictures check lint format types imports bench soak lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Variables: ARGS=… goes to the program, WORKERS=$(WORKERS) pytest processes (0: none besides the first),"
	@echo "  PYTHON=$(PYTHON) and VENV=$(VENV) choose the interpreter and where its environment is kept."

serve: $(VENV)/.stamp-package  ## run the chat example and the server beside it, for development on SQLite
	@exec $(BIN)/python -m examples.chat $(ARGS)

test: $(VENV)/.stamp-test  ## run the tests (ARGS="-k name" picks some)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

browser: $(VENV)/.stamp-browser  ## run the tests in a real browser (needs Chromium on this machine)
	$(BIN)/python -m pytest -n $(WORKERS) -m browser tests/browser $(ARGS)

pictures: $(VENV)/.stamp-browser  ## take the pictures of the chat in docs/images again (needs Chromium)
	HOLDFAST_TEST_PICTURES=docs/images $(BIN)/python -m pytest -m browser tests/browser/test_pictures.py $(ARGS)

check: lint types imports  ## lint, format, types and import rules

lint: $(VENV)/.stamp-lint  ## lint and formatting only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-lint  ## put the code into its format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.stamp-lint  ## types only
	$(BIN)/mypy $(TYPED)

imports: $(VENV)/.stamp-lint  ## import rules only
	$(BIN)/lint-imports

demo: $(VENV)/.stamp-test  ## watch a move from SQLite to PostgreSQL and back, under a hundred clients (two minutes)
	@$(BIN)/python -m holdfast demo $(ARGS)

bench: $(VENV)/.stamp-bench  ## measure, side by side with the peers
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.stamp-test  ## run the tests that take minutes or hours
	$(BIN)/python -m pytest -m soak --timeout $(SOAK_TIMEOUT) $(ARGS)

clean:  ## remove the environment and everything generated; keeps data/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist .coverage .coverage.* htmlcov
	find $(TYPED) -name __pycache__ -type d -prune -exec rm -rf {} +


# --- set-up: a stamp for each requirement file, newer than the file once it is installed ----------------------------

$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	    echo "holdfast: no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "holdfast: needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "holdfast: making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "holdfast: $(PYTHON) cannot make a virtual environment; some systems keep that in a package of its own (python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.stamp-build: requirements/build.txt $(VENV)/.stamp-venv
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

$(VENV)/.stamp-runtime: requirements/runtime.txt $(VENV)/.stamp-build
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

# The package itself, as links into src/: again only when its metadata changes.
$(VENV)/.stamp-package: pyproject.toml $(VENV)/.stamp-runtime
	@echo "holdfast: installing the package from src/"
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.stamp-test: requirements/test.txt $(VENV)/.stamp-package
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

$(VENV)/.stamp-browser: requirements/browser.txt $(VENV)/.stamp-test
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

# On top of the browser's list too: types are checked in its tests as well.
$(VENV)/.stamp-lint: requirements/lint.txt $(VENV)/.stamp-browser
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

$(VENV)/.stamp-bench: requirements/bench.txt $(VENV)/.stamp-package
	@echo "holdfast: installing $<"
	@$(INSTALL) --require-hashes -r $<
	@touch $@


# --- pins -----------------------------------------------------------------------------------------------------------

# Each list is made on top of the ones before it, so that one environment can hold them all.
LISTS := build runtime test browser lint bench
COMPILE := $(VENV)-lock/bin/pip-compile --quiet --no-config --strip-extras --generate-hashes --no-header \
           --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

$(VENV)-lock/.stamp: requirements/lock.txt
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip --quiet --disable-pip-version-check --no-input install --require-hashes -r $<
	@touch $@

lock: $(VENV)-lock/.stamp  ## pin again after a change to requirements/*.in (ARGS=--upgrade takes new versions)
	for list in $(LISTS); do $(COMPILE) $(ARGS) --output-file requirements/$$list.txt requirements/$$list.in || exit 1; done
	$(COMPILE) $(ARGS) --allow-unsafe --output-file requirements/lock.txt requirements/lock.in
