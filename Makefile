# One way in: `make demo`, `make test`. Every target does its own set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTS  ?=
# Processes that `make test` runs in: one more than the cores we have, because many tests wait. Files of tests stay
# together, and start in the order of tests/conftest.py. One is for debugging.
JOBS   ?= 3
# Of `make chaos`: rounds, what its chance comes from, embedded or cluster.
ROUNDS ?= 50
SEED   ?= 7
MODE   ?= embedded
# Of `make bench-detection`: a folder of recorded attacks.
DATA   ?=

# Without kept bytecode each of the tests' many processes compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-thorough faults chaos lint bench bench-latency bench-soak bench-peers bench-floods bench-scaling bench-detection bench-tables schemas reference dashboards requirements clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv from the pinned, hashed requirements

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "tenantwatch needs Python 3.11, found " + sys.version.split()[0] + ". Install it, or say where it is: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## start everything, replay a day with planted attacks, show what was found
	@$(BIN)/tenantwatch demo $(ARGS)

up: setup ## run the pipeline on this machine until Ctrl-C
	@$(BIN)/tenantwatch up $(ARGS)

test: setup ## the tests, real Kafka and ClickHouse's engine included
	$(BIN)/python -m pytest -m 'not slow and not thorough' -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(TESTS) $(ARGS)

test-thorough: setup ## what `make test` has a short form of: every scenario, route and role; invariants with many examples
	THOROUGH=1 $(BIN)/python -m pytest -m 'thorough and not slow' -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(TESTS) $(ARGS)

faults: setup ## each fault with a test of its own: store, Kafka, disk, signals, hung workers (minutes)
	$(BIN)/python -m pytest -m slow $(ARGS)

chaos: setup ## break everything for some ROUNDS (SEED, MODE=embedded|cluster), compare; writes build/chaos.json
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED) --mode $(MODE) $(ARGS)

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## throughput end to end, and beside a plain Faust agent; writes build/bench.json
	$(BIN)/python -m bench.pipeline $(ARGS)

bench-latency: setup ## produce to alert and to webhook at 5,000 and 50,000 events/s, 1 partition; build/latency.json
	$(BIN)/python -m bench.latency --partitions 1 $(ARGS)

bench-soak: setup ## memory with a million users over 10 minutes; build/soak.json
	$(BIN)/python -m bench.soak $(ARGS)

bench-peers: setup ## beside Bytewax and Quix Streams, installed under build/; build/peers.json
	$(BIN)/python -m bench.peers $(ARGS)

bench-floods: setup ## other tenants' latency while one floods; build/floods.json
	$(BIN)/python -m bench.floods $(ARGS)

bench-scaling: setup ## unit costs with 1, 2 and 3 workers, and what more events need; build/scaling.json
	$(BIN)/python -m bench.scaling $(ARGS)

bench-detection: setup ## what the detectors find in DATA (logins, windows, ssh, nab) and in a benign month; build/detection.json
	$(BIN)/python -m bench.detection $(if $(DATA),--data $(DATA)) $(ARGS)

bench-tables: setup ## put the numbers of build/*.json into docs/performance.md, scaling.md and detection.md
	$(BIN)/python -m bench.tables

schemas: setup ## regenerate schemas/json from the models
	$(BIN)/python -m schemas.generate

reference: setup ## write docs/reference.md anew: settings and metrics
	$(BIN)/python -m tenantwatch.reference

dashboards: setup ## regenerate the Grafana JSON from its code
	$(BIN)/python -m dashboards.grafana

requirements: setup ## pin and hash the dependencies anew (needs uv)
	uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header --extra build -o requirements/runtime.txt
	uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header --extra build --extra dev -o requirements/dev.txt

clean: ## remove what the targets made
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
