# `make demo` and `make test` set up what they need; nothing else has to be installed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types docs clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
	  || { echo "avel needs Python 3.11 to 3.13: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.ready  ## render a clip nobody has seen, find its events, write a report
	$(BIN)/avel demo demo

test: $(VENV)/.ready  ## the tests
	$(BIN)/python -m pytest -q -n 2

test-slow: $(VENV)/.ready  ## the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.ready  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready  ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.ready  ## the documentation as a site: open site/index.html
	$(BIN)/mkdocs build

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist demo site
