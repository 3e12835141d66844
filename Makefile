# Every target works straight after `git clone`; it needs only Python 3.11+ and make.
# Recipes stay short; anything longer is in tools/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV := .tools/bin/uv
# Only the first run shows what is being installed.
RUN := $(UV) run --frozen $(if $(wildcard .venv),--quiet)
# Uses the machine's own Python; only packages are downloaded.
export UV_PYTHON_DOWNLOADS ?= never

# make up VENDOR="honeycomb datadog" LAYER=real-providers
LAYERS := $(foreach v,$(VENDOR),--layer vendor-$(v)) $(foreach l,$(LAYER),--layer $(l))
# The stack for test-e2e: `native` starts one, `compose` uses the one that is running.
TARGET ?= native

.PHONY: help install demo up down logs toolchain stack test test-service test-stack test-e2e test-engine test-postgres test-clients prove prove-holds prove-spending check fmt generate check-generated bench bench-dashboards screenshots pictures build dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(UV) ## Install the package and the development tools into .venv, from the hash lock
	@$(UV) sync --frozen --quiet
	@echo "ready: .venv/bin/spanledger --help"

demo: $(UV) ## Run the scripted incident: no API key, no Docker, under 90 s
	@$(RUN) --no-dev spanledger demo

up: ## Start the stack with Docker, wait until it is ready, print its addresses; VENDOR=name adds a vendor
	@python3 tools/compose.py up $(LAYERS)

down: ## Stop the Docker stack; its data is kept
	@python3 tools/compose.py down $(LAYERS)

logs: ## Follow the Docker stack's logs
	@python3 tools/compose.py logs $(LAYERS)

toolchain: ## Build the collector, Prometheus and test tools with Go into the user's cache (once, takes minutes)
	@python3 tools/toolchain.py

stack: $(UV) ## Start the stack without Docker; see also `spanledger stack status` and `down`
	@$(RUN) --no-dev spanledger stack up $(foreach v,$(VENDOR),--vendor $(v))

test: $(UV) ## Run every test (offline, no Docker)
	@$(RUN) pytest

test-service: $(UV) ## Run the service's tests, without the long ones of test-e2e
	@$(RUN) pytest tests/service

test-stack: $(UV) ## Test the stack's files, and its parts one by one
	@$(RUN) pytest tests/stack

test-e2e: $(UV) ## Test complete gateways and the complete stack: crashes, load, leaked secrets
	@SPANLEDGER_E2E=$(TARGET) $(RUN) pytest tests/e2e

test-engine: $(UV) ## Test the Compose stack on its own Docker engine (needs root on Debian; takes minutes)
	@python3 -m tools.engine run -- $(RUN) pytest tests/engine tests/stack/test_compose_reader.py

test-postgres: $(UV) ## Test the ledger on another version of PostgreSQL, fetched with npm: VERSION=18, 17, 16 or 14
	@bin=$$(python3 -m tools.postgres fetch $(or $(VERSION),18)); \
	SPANLEDGER_POSTGRES_BIN=$$bin $(RUN) pytest $(or $(TESTS),tests/service/ledger) -k postgres

test-clients: $(UV) ## Test people's client packages at a gateway; installs them into the user's cache first
	@$(RUN) python -m tests.clients.install
	@SPANLEDGER_TEST_CLIENTS=1 $(RUN) pytest tests/clients

prove: $(UV) ## Prove the ledger's promises by seeds; PROVE="kills --store sqlite --seeds 100 --minutes 40"
	@$(RUN) python -m tests.prove $(PROVE)

prove-holds: $(UV) ## Ask at random in every wire, and compare holds and ledger with the bill: REQUESTS=10000 SEED=1
	@$(RUN) python -m tests.bounds.prove --requests $(or $(REQUESTS),10000) --seed $(or $(SEED),1) $(PROVE)

prove-spending: $(UV) ## Let agents spend budgets to their end: how much was spent at the first refusal; PROVE="--limit 2 --seeds 5"
	@$(RUN) python -m tests.bounds.spend $(PROVE)

check: $(UV) ## Check format, lint, types, import directions and tidiness
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet
	@$(RUN) mypy
	@out=$$($(RUN) lint-imports --no-logo) || { echo "$$out"; exit 1; }
	@$(RUN) pytest --quiet tests/test_tidy.py tests/test_words.py tests/test_docs.py tests/test_docs_names.py

fmt: $(UV) ## Format the code, and fix what the linter can
	@$(RUN) ruff check --fix --quiet
	@$(RUN) ruff format --quiet

generate: $(UV) ## Regenerate the generated files
	@for tool in tools/generate_*.py; do $(RUN) python $$tool; done

check-generated: $(UV) ## Fail if a generated file is out of date
	@for tool in tools/generate_*.py; do $(RUN) python $$tool --check; done

bench: $(UV) ## Measure CPU per request, next to LiteLLM's proxy in the same run (takes minutes)
	@$(RUN) python -m bench.run

bench-dashboards: $(UV) ## Measure how long Prometheus takes for every dashboard and rule, on a month of 1,000 customers
	@$(RUN) python -m bench.dashboards $(if $(STORE),--store $(STORE))

screenshots: ## Take screenshots of a running Grafana's dashboards: GRAFANA_URL=http://127.0.0.1:3000
	@python3 tools/screenshots.py $(if $(SINCE),--since $(SINCE)) $(GRAFANA_URL)

pictures: $(UV) ## Take the README's pictures: starts a stack with Grafana and runs 17 minutes of traffic
	@$(RUN) python -m tools.readme_pictures $(if $(STACK),--stack $(STACK))

build: $(UV) ## Build the package twice, compare, install it on its own, and run its demo
	@$(RUN) python tools/check_wheel.py

dist: $(UV) ## Build the last commit as a release publishes it, into dist/ (needs Go for Helm)
	@python3 tools/toolchain.py helm
	@$(RUN) python tools/package.py

clean: ## Remove everything that was built here, except the ledger in .spanledger/
	@rm -rf .venv .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find service tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@python3 tools/get_uv.py $(UV)
