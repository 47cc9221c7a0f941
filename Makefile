# nightfold. `make backtest` and `make test` need Python 3.11 to 3.13 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 3000
PEERS := benchmarks/engine/.venv

.DEFAULT_GOAL := help
.PHONY: help backtest test ui lint bench-pipeline bench-halving bench-levels bench-search bench-engine bench-forecasters bench-intake bench-truth picture picture-levels

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

bench-search: $(VENV)/.installed  ## pruning, screen, TPE and the ledger of a search: benchmarks/results/search.json
	@$(BIN)/python benchmarks/search.py

bench-truth: $(VENV)/.installed  ## luck and planted edges through the whole chain, 2 processor hours, goes on where it was: benchmarks/results/truth.json
	@$(BIN)/python benchmarks/truth.py $(ARGS)

bench-intake: $(VENV)/.installed-dev  ## reading and checking a million one-minute bars: benchmarks/results/intake.json
	@$(BIN)/python benchmarks/intake.py

bench-forecasters: $(VENV)/.installed-dev  ## skill of the forecasters and Kronos against a plain decoding: benchmarks/results/forecasters.json
	@$(BIN)/python benchmarks/forecasters.py

bench-engine: $(VENV)/.installed $(PEERS)/.installed  ## simulator against vectorbt, backtesting.py, backtrader, TA-Lib in their own environment: benchmarks/results/engine.json (smoke test: ARGS=--quick)
	@$(BIN)/python benchmarks/engine/main.py $(ARGS)

# The scripts' own folder holds a folder named engine; the package comes first with this.
bench-pipeline bench-halving bench-levels bench-search bench-engine bench-forecasters bench-intake bench-truth: export PYTHONPATH := $(CURDIR)

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

$(PEERS)/.installed: benchmarks/engine/requirements.txt
	@echo "Installing the engines to compare with into $(PEERS)."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@
