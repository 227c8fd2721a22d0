# `make help` lists everything. Each target sets up what it needs; only Python 3.11+, make and the registries are assumed.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.13 >/dev/null 2>&1 && python3.13 -c '' 2>/dev/null && echo python3.13 || (command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12) || echo python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test unit check format docs bench requirements clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(VENV)/runtime ## Gateway and simulated vendors, one answer per dialect, then keeps serving (ARGS=--once ends)
	@$(BIN)/python -m cliproxy demo $(ARGS)

test: $(VENV)/dev ## The whole suite (ARGS="-k name" for a part)
	@$(BIN)/python -m pytest $(ARGS)

unit: $(VENV)/dev ## The suite without real sockets' flows: seconds
	@$(BIN)/python -m pytest -m 'not flow' $(ARGS)

check: $(VENV)/dev ## Format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports --no-cache --config pyproject.toml

format: $(VENV)/dev ## Format the code and mend what the linter can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: $(VENV)/runtime ## Write the generated pages anew: docs/management-api.md
	@$(BIN)/python -m cliproxy.server.management.reference > docs/management-api.md

bench: $(VENV)/runtime ## Costs per request and event beside nginx, as ratios in one run (ARGS="--quick")
	@command -v nginx >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light gcc >/dev/null; } || echo "nginx is not here and cannot be installed: its rows are left out"
	@$(BIN)/python benchmarks/run.py $(ARGS)

requirements: ## Write the pinned requirement files anew
	@test -x $(VENV)/tools/bin/uv || { $(PYTHON) -m venv $(VENV)/tools && $(VENV)/tools/bin/pip install -q uv; }
	@$(VENV)/tools/bin/uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 --no-header pyproject.toml -o requirements/runtime.txt
	@$(VENV)/tools/bin/uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 --no-header pyproject.toml requirements/build.in --group test --group check -o requirements/dev.txt

clean: ## Remove what the targets made
	@rm -rf $(VENV) build dist .scratch

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "Setting up: runtime requirements"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@echo "$(CURDIR)/src" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/cliproxy-source.pth"
	@touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml | $(VENV)/runtime
	@echo "Setting up: what tests and checks need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@
