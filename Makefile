# Every target works as the first thing typed after `git clone`: it needs Python 3.11+ and make.
# Recipes stay short; anything longer is in tools/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV := .tools/bin/uv
# The first run shows what is installed.
RUN := $(UV) run --frozen $(if $(wildcard .venv),--quiet)
# The machine's own Python is used; nothing but packages is downloaded.
export UV_PYTHON_DOWNLOADS ?= never

# make up VENDOR="honeycomb datadog" LAYER=real-providers
LAYERS := $(foreach v,$(VENDOR),--layer vendor-$(v)) $(foreach l,$(LAYER),--layer $(l))
# Where test-e2e finds the stack: it starts one natively, or takes the compose stack that runs.
TARGET ?= native

.PHONY: help install demo up down logs toolchain stack test test-service test-stack test-e2e test-engine check fmt generate check-generated bench bench-dashboards screenshots pictures build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(UV) ## Install the package and the development tools into .venv, from the hash lock
	@$(UV) sync --frozen --quiet
	@echo "ready: .venv/bin/spanledger --help"

demo: $(UV) ## Play the scripted incident: no key, no Docker, under 90 s
	@$(RUN) --no-dev spanledger demo

up: ## Start the stack with Docker, wait until it is ready, print where it is; VENDOR=name adds one
	@python3 tools/compose.py up $(LAYERS)

down: ## Stop the Docker stack; data stays
	@python3 tools/compose.py down $(LAYERS)

logs: ## Follow the Docker stack's logs
	@python3 tools/compose.py logs $(LAYERS)

toolchain: ## Build collector, Prometheus and what tests need with Go into the user's cache (once, minutes)
	@python3 tools/toolchain.py

stack: $(UV) ## Start the stack without Docker; `spanledger stack status` and `down` go with it
	@$(RUN) --no-dev spanledger stack up $(foreach v,$(VENDOR),--vendor $(v))

test: $(UV) ## Run every test (offline, no Docker)
	@$(RUN) pytest

test-service: $(UV) ## Run the tests of one process or a few, without the long ones of test-e2e
	@$(RUN) pytest tests/service

test-stack: $(UV) ## Run the tests of the stack's files and of its parts one by one
	@$(RUN) pytest tests/stack

test-e2e: $(UV) ## Run whole gateways and the whole stack, killed, stormed and searched for secrets
	@SPANLEDGER_E2E=$(TARGET) $(RUN) pytest tests/e2e

test-engine: $(UV) ## Run the compose stack on a Docker engine of its own (root on Debian; minutes)
	@python3 -m tools.engine run -- $(RUN) pytest tests/engine tests/stack/test_compose_reader.py

check: $(UV) ## Verify format, lint, types, import directions and tidiness
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --check --quiet
	@$(RUN) mypy
	@out=$$($(RUN) lint-imports --no-logo) || { echo "$$out"; exit 1; }
	@$(RUN) pytest --quiet tests/test_tidy.py tests/test_docs.py tests/test_docs_names.py

fmt: $(UV) ## Format, and fix what the linter can
	@$(RUN) ruff check --fix --quiet
	@$(RUN) ruff format --quiet

generate: $(UV) ## Write the generated files again
	@for tool in tools/generate_*.py; do $(RUN) python $$tool; done

check-generated: $(UV) ## Fail if a generated file is not what its generator writes
	@for tool in tools/generate_*.py; do $(RUN) python $$tool --check; done

bench: $(UV) ## CPU per request, beside LiteLLM's proxy in the same run (takes minutes)
	@$(RUN) python -m bench.run

bench-dashboards: $(UV) ## How long Prometheus takes for every dashboard and rule, on a month of 1,000 customers
	@$(RUN) python -m bench.dashboards $(if $(STORE),--store $(STORE))

screenshots: ## Take pictures of the dashboards of a running Grafana: GRAFANA_URL=http://127.0.0.1:3000
	@python3 tools/screenshots.py $(if $(SINCE),--since $(SINCE)) $(GRAFANA_URL)

pictures: $(UV) ## Take README's pictures: starts a stack with Grafana and plays 17 minutes of traffic
	@$(RUN) python -m tools.readme_pictures $(if $(STACK),--stack $(STACK))

build: $(UV) ## Build the wheel, install it alone and try it
	@$(RUN) python tools/check_wheel.py

clean: ## Remove everything that was made here, the ledger of .spanledger/ excepted
	@rm -rf .venv .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find service tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@python3 tools/get_uv.py $(UV)
