# Two commands do everything: `make demo` and `make test`. Both make .venv when it is missing or out of date.

PYTHON ?= python3
# The package index torch comes from, where the default one does not have the build you want: the index URL that
# pytorch.org's install page gives for a CPU or a CUDA build. Example: make demo TORCH_INDEX=<that URL>
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test test-all lint clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo "TORCH_INDEX=<url>  take torch from the index URL that pytorch.org's install page gives (CPU or CUDA build)"
	@echo "PYTHON=<command>   the Python (3.11 or newer) that makes .venv, now: $(PYTHON)"

demo: $(STAMP)  ## Heal a real training and show its story
	$(BIN)/python examples/deep_sigmoid.py

test: lint  ## Lint, types, layers and all tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint  ## The same with the slow tests
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)  ## Lint, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is missing or older than Python 3.11. Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into $(VENV), once; this takes some minutes and about 2 GB."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## Remove .venv, caches and build results; recorded runs and mlflow.db stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find supervisor tests examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
