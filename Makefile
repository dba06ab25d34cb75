# Every target does its own set-up: a virtual environment in .venv, installed
# once and again only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq -c constraints.txt
EXTRAS := train,viz,vision,ann,ot,dev

DEMO_ARGS ?=
PYTEST_ARGS ?=

INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint docs scatter clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) \
		| expand -t 18
	@echo
	@echo 'Settings: PYTHON=python3.12, DEMO_ARGS=--quick,'
	@echo '          PYTEST_ARGS="-k align", MMGRAPH_DATA=<folder of corpora>'

install: $(INSTALLED)  ## Make .venv and install mmgraph with its tools

$(INSTALLED): pyproject.toml constraints.txt
	@echo '==> Making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)
	@echo '==> Installing PyTorch'
	@$(INSTALL) torch
	@echo '==> Installing mmgraph with [$(EXTRAS)]'
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	@echo '==> Installing the tools for the documentation'
	@$(INSTALL) -e '.[docs]'
	@touch $@

demo: $(INSTALLED)  ## Train MEGA and its text-only twin on synthetic posts
	@$(BIN)/mmgraph demo $(DEMO_ARGS)

test: $(INSTALLED)  ## Run all tests, with coverage
	@echo '==> Testing (real corpora: $(or $(MMGRAPH_DATA),set MMGRAPH_DATA to include them))'
	@$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style (ruff) and types (mypy)
	@echo '==> ruff'
	@$(BIN)/ruff check .
	@echo '==> mypy'
	@$(BIN)/mypy

docs: $(DOCS_INSTALLED)  ## Build the documentation into docs/build/html
	@echo '==> Building the documentation'
	@$(BIN)/python -m sphinx -W --keep-going -q -b html \
		docs/source docs/build/html
	@echo 'Open docs/build/html/index.html'

scatter: $(INSTALLED)  ## Compile torch-scatter, an optional speed-up
	@echo '==> Compiling torch-scatter from source (this takes minutes)'
	@$(INSTALL) ninja setuptools wheel
	@$(INSTALL) --no-build-isolation torch-scatter

clean:  ## Remove .venv and everything that was built
	rm -rf $(VENV) build dist docs/build docs/source/generated *.egg-info \
		.coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
