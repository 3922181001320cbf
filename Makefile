# Every target does its own set-up in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/quickstart

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: study
study: $(VENV)/installed ## Run the quickstart study on real bars, export its best set and replay it
	$(BIN)/barsweep run studies/quickstart.toml --out $(OUT) --overwrite
	$(BIN)/barsweep export $(OUT) --out $(OUT)/best.json
	$(BIN)/barsweep replay $(OUT)/best.json
	@echo "what to hold at the next open: $(BIN)/barsweep orders $(OUT)/best.json (docs/trading.md)"

.PHONY: gallery
gallery: $(VENV)/installed ## Run the eight studies of the gallery; each ends with its verdict
	@for study in studies/gallery/*.toml; do \
		$(BIN)/barsweep run $$study --workers 1 --overwrite --quiet \
			--out out/gallery/$$(basename $$study .toml) || exit 1; done

.PHONY: gallery-pictures
gallery-pictures: $(VENV)/installed-dev ## Run the studies of the gallery and take the pictures of their reports for its page
	.ci/chromium
	$(BIN)/python -m tests.support.pictures docs/gallery

.PHONY: test
test: style ## Lint, check types, run the tests
	@$(MAKE) --no-print-directory -j types tests

.PHONY: lint
lint: style types ## Check style and types

.PHONY: style types tests
style: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

tests: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: docs
docs: $(VENV)/installed-dev ## Build the documentation into build/site; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: wheel
wheel: $(VENV)/installed-dev ## Build dist/*.whl with kernels compiled for x86-64-v3 and, where the processor has it, v4
	$(BIN)/python -m deploy.wheel

.PHONY: wheel-test
wheel-test: $(VENV)/installed-dev ## Install the wheel on every Python that is here and use it
	$(BIN)/python -m tests.support.wheel

.PHONY: soak
soak: $(VENV)/installed-dev ## Tests with other random examples; kill studies of every sampler at 50 random moments each, disturb ten thousand trials, compare (over an hour)
	BARSWEEP_EXPLORE=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal
	$(BIN)/python -m tests.support.soak
	$(BIN)/python -m benchmarks.memory

.PHONY: test-ray
test-ray: $(VENV)/installed-dev ## Install Ray (80 MB to load, 240 MB on disk) and test it as a back end
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -q tests/optimizer/engine/test_cluster.py -k ray

.PHONY: bench
bench: $(VENV)/installed-dev ## Measure kernels, simulation, growth and start
	$(BIN)/python -m benchmarks.simulation --write
	$(BIN)/python -m benchmarks.growth --write

PEERS := vectorbt raptorbt backtesting pybroker

.PHONY: bench-peers
bench-peers: $(VENV)/installed-dev $(PEERS:%=$(VENV)/peers/%/installed) ## Compare with other programs, results and time
	$(BIN)/python -m benchmarks.peers --environments $(VENV)/peers $(ARGS)

.PHONY: clean
clean: ## Remove the virtual environment, results and caches
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "barsweep needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed

# A peer that cannot be installed does not stop the others: the comparison prints pip's reason.
$(VENV)/peers/%/installed: benchmarks/peer_workers/%.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(@D)
	@if $(@D)/bin/python -m pip install -q --disable-pip-version-check -r $< 2> $(@D)/pip.txt; \
		then touch $@; else rm -f $@; tail -n 1 $(@D)/pip.txt >&2; fi
