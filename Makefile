# Everything a newcomer needs. Assumes make and Python 3.11 or newer; makes .venv by itself.
#   make demo PYTHON=python3.12             another Python
#   make demo PIP="uv pip"                  another installer
#   make demo MODELS=faces,digits           only these models of the zoo
# PyPI's torch, which only exporting needs, is its CUDA build, 2 GB more than the build for CPUs:
#   make demo PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
MODELS =
KIT =
# Some tests are about clocks, and others keep both processors busy: what failed decides in a run of its own.
FAILED_ALONE = OMP_NUM_THREADS=1 $(BIN)/python -m tests.again

.PHONY: help demo test test-fast node gpu-check check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## install, export the zoo, serve it, request images, write them to out/
	@$(BIN)/python -m demo $(if $(MODELS),--models "$(MODELS)")

test: $(VENV)/dev.stamp ## install what is missing and run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup || $(FAILED_ALONE)

test-fast: $(VENV)/dev.stamp ## the tests that take less than a second each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

node: $(VENV)/dev.stamp ## install what the test of Node's gRPC client needs
	npm install --prefix $(VENV)/node --no-audit --no-fund --ignore-scripts --loglevel error \
	  @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1

gpu-check: ## all that only a GPU shows, in 8 minutes; KIT=PIECES from `python -m bench gpu-kit`
	$(PYTHON) bench/gpu/check.py $(if $(KIT),--kit "$(KIT)")

check: $(VENV)/dev.stamp ## formatting, lint, types, generated protos
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	PATH="$$(cd "$(BIN)" && pwd):$$PATH" $(BIN)/python -m protos --check

clean: ## delete what builds, tests and the demo made; .venv stays
	rm -rf build dist out repository .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path "./$(VENV)" -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say which extras are installed; dev contains what the demo needs.
$(VENV)/demo.stamp: EXTRAS = cpu,export,native
$(VENV)/dev.stamp: EXTRAS = cpu,dev,export,tensorrt-rtx
CHECK_PYTHON = import sys; v = sys.version_info; \
  v >= (3, 11) or sys.exit("ganserve: $(PYTHON) is Python %d.%d, 3.11 or newer is needed; try: make PYTHON=python3.12" % v[:2]); \
  import importlib.util as u; \
  u.find_spec("ensurepip") or sys.exit("ganserve: $(PYTHON) has no ensurepip; on Debian: apt-get install python3-venv")

$(VENV)/%.stamp: pyproject.toml
	@$(BIN)/python -c '' 2> /dev/null || { $(PYTHON) -c '$(CHECK_PYTHON)' && $(PYTHON) -m venv --clear "$(VENV)"; }
	@echo "installing ganserve[$(EXTRAS)] into $(VENV); the first time this takes some minutes"
	@test -n "$$PIP_EXTRA_INDEX_URL$$PIP_INDEX_URL" || echo "PyPI's torch brings CUDA; for the CPU build see the Makefile"
	@VIRTUAL_ENV="$(abspath $(VENV))" $(PIP) install $$(test -t 1 || echo --quiet) --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/demo.stamp
