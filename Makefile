# Everything a newcomer needs. Assumes make and Python >= 3.11; makes .venv by itself.
#   make demo PYTHON=python3.12       another Python
#   make demo PIP="uv pip"            another installer
PYTHON = python3
PIP =
VENV = .venv

INSTALL = $(PYTHON) -I ganserve/install.py --venv "$(VENV)" --pip "$(PIP)" --extras
BIN = $(VENV)/bin

.PHONY: help demo test test-fast check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## install, export the zoo, serve it, ask for pictures, write them to out/
	@$(INSTALL) cpu,export,native
	@$(BIN)/python -m demo

test: ## install what is missing and run all tests
	@$(INSTALL) cpu,dev,export,tensorrt-rtx
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

test-fast: ## the tests that take less than a second each
	@$(INSTALL) cpu,dev,export,tensorrt-rtx
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

check: ## formatting, lint, types, generated protos
	@$(INSTALL) cpu,dev,export,tensorrt-rtx
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	PATH="$$(cd "$(BIN)" && pwd):$$PATH" $(BIN)/python -m protos --check

clean: ## delete what builds, tests and the demo made; .venv stays
	rm -rf build dist out repository .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path "./$(VENV)" -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
