# nightfold. `make backtest` and `make test` need Python 3.11 to 3.13 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help backtest test ui lint bench-pipeline bench-halving bench-levels picture picture-levels

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

backtest: $(VENV)/.installed  ## install, run the main job on all symbols, print leaderboard and paths (exact exit codes: docs/settings.md)
	@$(BIN)/python -m pipelines.run

test: $(VENV)/.installed-dev  ## install what the tests need and run them (slow ones: make test ARGS="-m slow")
	@$(BIN)/python -m pytest -q $(ARGS)

ui: $(VENV)/.installed  ## the Dagster web UI with its daemon, on this machine only; another port: make ui PORT=3001
	@echo "Web UI: http://127.0.0.1:$(PORT). After an edit of nightfold.yaml: Deployment > Reload definitions."
	@$(BIN)/dagster dev -h 127.0.0.1 -p $(PORT)

lint: $(VENV)/.installed-dev  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench-pipeline: $(VENV)/.installed  ## cold run, unchanged run, one more bar, memory: benchmarks/results/pipeline.json
	@$(BIN)/python benchmarks/pipeline.py

bench-halving: $(VENV)/.installed  ## what pruning at folds loses: benchmarks/results/halving.json
	@$(BIN)/python benchmarks/halving.py

bench-levels: $(VENV)/.installed  ## levels solvers against the exact one, speed, out of sample: benchmarks/results/levels.json, docs/levels.md
	@$(BIN)/python benchmarks/levels.py && $(BIN)/python docs/levels_tables.py

picture: $(VENV)/.installed-dev  ## the README's picture, from the report of the last run (needs chromium)
	@$(BIN)/python docs/picture.py

picture-levels: $(VENV)/.installed-dev  ## the picture of docs/levels.md: what every pair of offsets earns (needs chromium)
	@$(BIN)/python docs/levels_picture.py

# Kernels are compiled at the end of the install, so that no run pays for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "nightfold needs Python 3.11 to 3.13; found $$($(PYTHON) --version). Name another: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV); this takes a few minutes once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -c "import pipelines; from engine import kernel_cache; kernel_cache.warm()"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
