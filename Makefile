# Every command of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(NEREUS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nereus)
LOCK := $(shell sha256sum requirements/dev.txt 2>/dev/null | cut -c1-12)
VENV := $(CACHE)/venv/$(LOCK)
FETCH_VENV := $(CACHE)/venv/fetch-$(shell sha256sum requirements/fetch.txt 2>/dev/null | cut -c1-12)
# Bytecode is kept also where the environment forbids it: every worker and every operator of a test would compile anew.
PY := PYTHONPATH=operator PYTHONWARNINGS= PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python
TIER ?= all
export NEREUS_CACHE := $(CACHE)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: venv print-venv
venv: $(VENV)/.complete ## the locked development environment, in the cache
print-venv:
	@echo $(VENV)
$(VENV)/.complete:
	@mkdir -p $(dir $(VENV)) && exec 9>$(VENV).lock && flock 9 && test -f $@ || { \
	  echo "installing the locked development packages into the cache (once per lock file)" && \
	  rm -rf $(VENV) && python3 -m venv $(VENV) && \
	  set -o pipefail && $(VENV)/bin/pip install --progress-bar off --disable-pip-version-check --require-hashes \
	    -r requirements/dev.txt | sed -un 's/^Collecting \([^ ]*\).*/  \1/p; s/^Installing collected.*/  installing/p' && touch $@; }

.PHONY: fetch-venv print-fetch-venv
fetch-venv: $(FETCH_VENV)/.complete ## what the sidecar's image has, for the tests that fetch from object stores
print-fetch-venv:
	@echo $(FETCH_VENV)
$(FETCH_VENV)/.complete:
	@mkdir -p $(dir $(FETCH_VENV)) && exec 9>$(FETCH_VENV).lock && flock 9 && test -f $@ || { \
	  echo "installing the packages of the sidecar's image into the cache (once per lock file)" && \
	  rm -rf $(FETCH_VENV) && python3 -m venv $(FETCH_VENV) && \
	  $(FETCH_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
	    -r requirements/fetch.txt && touch $@; }

.PHONY: lock
lock: venv ## lock the dependencies again (after a change of requirements/*.in)
	@PATH=$(VENV)/bin:$$PATH sh requirements/compile.sh

.PHONY: cluster cluster-down
cluster: ## a real one-node Kubernetes on this machine; prints the KUBECONFIG
	@python3 -m localcluster up
cluster-down: ## take it away again, whole (other clusters: python3 -m localcluster down --all)
	@python3 -m localcluster down

.PHONY: demo demo-down
demo: venv ## a fresh machine to a served model, and how to look at it
	@$(PY) -m demo up
demo-down: ## end the demo and its cluster
	@if [ -x $(VENV)/bin/python ]; then $(PY) -m demo down; else python3 -m localcluster down; fi

.PHONY: test
test: venv ## every tier that this machine can run; TIER=unit|integration|e2e narrows
	@$(PY) -m tests $(TIER)

.PHONY: gpu-test
gpu-test: venv ## what a real NVIDIA card does; one line where there is none
	@PYTHONPATH=operator:. $(VENV)/bin/python -m tests.gpu

# What the checkers remember lies in the cache, so that a fresh clone is checked as fast as an old one. Mypy compares
# what it remembers with the files' content; the lock keeps two checkouts from writing into it at the same time.
CHECKED := $(CACHE)/checked/$(LOCK)
.PHONY: lint
lint: venv ## format, types, import contracts
	@mkdir -p $(CHECKED)
	@export RUFF_CACHE_DIR=$(CHECKED)/ruff; $(VENV)/bin/ruff format --check --quiet . && $(VENV)/bin/ruff check --quiet .
	@MYPYPATH=operator MYPY_CACHE_DIR=$(CHECKED)/mypy flock $(CHECKED)/mypy.lock \
	  $(VENV)/bin/mypy --no-error-summary operator/nereus localcluster demo hack bench tests
	@cd operator && PYTHONPATH=. $(VENV)/bin/lint-imports --config ../pyproject.toml --no-logo 2>/dev/null || (PYTHONPATH=. $(VENV)/bin/lint-imports --config ../pyproject.toml; exit 1)

.PHONY: chart-lint
chart-lint: venv ## helm lint, and every rendered object against the schemas of Kubernetes
	@$(PY) -m hack.chart_lint

.PHONY: format
format: venv ## format the code
	@$(VENV)/bin/ruff format --quiet . && $(VENV)/bin/ruff check --fix --quiet . || true

.PHONY: generate check-generated
generate: venv ## CRD, chart copy of it, goldens and reference pages, from the code
	@$(PY) -m hack.generate
check-generated: venv ## fails when something generated is stale
	@$(PY) -m hack.generate --check

-include bench/bench.mk
