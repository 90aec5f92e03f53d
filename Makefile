# `make repro` and `make test` set up what they need; the second time there is nothing to do.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# DVC, Ray and MLflow report usage to their makers unless told not to.
export DVC_NO_ANALYTICS := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
# faiss comes for the CPU unless `make setup EXTRA=gpu` has chosen before.
CHOSEN := $(patsubst .venv/.installed-%,%,$(firstword $(wildcard .venv/.installed-*)))
# `cpu` is what `search` was called before.
EXTRA ?= $(patsubst cpu,search,$(or $(CHOSEN),search))
PORT ?= 5000

.PHONY: help repro data-report tune study test test-all golden pml-table lint docs format wheel audit ui clean setup

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

repro: setup  ## run the whole pipeline: fetch, preprocess, train, evaluate, report
	@dvc repro
	@echo "Results: report/index.html; every run so far: make ui"

data-report: setup  ## look at the data before training: data_report/index.html
	@dvc repro data_report

tune: setup  ## search settings on held-out classes: make tune TUNE=default ARGS='tune.trials=30'
	@python -m pipelines.tune tune=$(or $(TUNE),default) $(ARGS)

study: setup  ## compare methods over seeds: make study STUDY=glyphs ARGS='study.seeds=[0,1]'
	@python -m pipelines.study study=$(or $(STUDY),glyphs) $(ARGS)

test: setup  ## the tests (minutes)
	@pytest -m "not slow"

test-all: setup  ## the tests, the slow ones too
	@pytest

pml-table: setup  ## write the table of pytorch-metric-learning's losses into docs/methods.md anew
	@PYTHONPATH=.:tests/helpers python -m pml_table

golden: setup  ## write tests/assets/losses/ anew, where training is meant to have other digits
	@PYTHONPATH=.:tests/helpers python -m golden

lint: setup  ## style, types, and who imports whom
	@ruff check .
	@ruff format --check .
	@mypy
	@said=$$(lint-imports --no-logo --no-cache) || { echo "$$said"; exit 1; }

docs: setup  ## the manual as a site: site/index.html
	@[ ! -e site ] || [ -e site/objects.inv ] || { echo "site/ is not the manual's: move it elsewhere."; exit 1; }
	@NO_MKDOCS_2_WARNING=true mkdocs build --strict --quiet
	@echo "Manual: site/index.html; with its search: python -m http.server -b 127.0.0.1 -d site 8000"

format: setup  ## put style right
	@ruff check --fix-only -q .
	@ruff format .

wheel: setup  ## build dist/rhs_dml-*.whl, which needs torch alone; extras bring the pipeline
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT \
		&& printf '[build]\nbuild_base = %s\n' "$$work" > "$$work/setup.cfg" \
		&& DIST_EXTRA_CONFIG="$$work/setup.cfg" pip wheel -q --no-deps --no-build-isolation -w dist . \
		&& ls dist/rhs_dml-*.whl

audit: setup  ## known vulnerabilities of the pinned versions (asks the package index)
	@python3 -m venv .venv/audit && .venv/audit/bin/pip install -qq pip-audit
	@.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

ui: setup  ## browse the runs in MLflow, on this machine alone
	@echo "MLflow: http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning  (Ctrl-C ends it)"
	@PYTHONWARNINGS=ignore MLFLOW_LOGGING_LEVEL=WARNING mlflow server --host 127.0.0.1 --port $(PORT) --uvicorn-opts "--log-level warning" \
		--backend-store-uri "$$(python -m rhs.tracking.tracking_uri)"

clean:  ## delete what the pipeline made (not .venv, downloads, DVC's cache, files of yours)
	@$(or $(wildcard $(PY)),python3) -m rhs.storage.clean

setup: .venv/.installed-$(EXTRA)

# torch first: what comes after must find the pinned one and not bring its own.
.venv/.installed-$(EXTRA): pyproject.toml constraints.txt
	@python3 -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) \
		else f"python3 is {v[0]}.{v[1]}; Python 3.10 to 3.13 is needed.")'
	@echo "Setting up .venv (some minutes, once)"
	@python3 -m venv .venv
	@echo "  1/2 torch"
	@$(PY) -m pip install -qq "$$(grep -E '^torch==' constraints.txt)"
	@echo "  2/2 everything else"
	@$(PY) -m pip install -qq -c constraints.txt -e '.[$(EXTRA),dev]'
	@touch $@
