# `make demo` and `make test` set up what they need; nothing else has to be installed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.DEFAULT_GOAL := help
.PHONY: help demo test test-precisions test-slow lint types docs pairs clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
	  || { echo "avel needs Python 3.11 to 3.13: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/avel fetch weights yamnet \
	  || echo "warning: no weights of yamnet yet; avel fetches them where they are wanted first"
	touch $@

demo: $(VENV)/.ready  ## find the events of ten seconds of a film, write a report
	$(BIN)/avel demo demo

test: $(VENV)/.ready  ## the tests
	$(BIN)/python -m pytest -q -n 2

test-precisions: $(VENV)/.ready  ## what hangs on bfloat16, with and without it
	for bf16 in always never; do AVEL_TEST_BF16=$$bf16 \
	  $(BIN)/python -m pytest -q -n 2 tests/features tests/training tests/cli || exit 1; done

test-slow: $(VENV)/.ready  ## the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.ready  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready  ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.ready  ## the documentation as a site: open site/index.html
	$(BIN)/mkdocs build

# Pairs-10 (docs/pairs10.md): whose recordings and photographs, and how many trainings at once.
SOUNDS ?= sounds
IMAGES ?= images
JOBS ?= 2
PAIRS := data/pairs10
# The minis' features are 128 wide, a quarter of the published ones; so are the models' own widths.
TRAINED := data=$(PAIRS) -o reproduced/pairs10 --seeds 5 epochs=10 batch=16 ed_tcn.optimizer=adam avdln.selection=metric \
  cspa_csea.hidden=128 cspa_csea.state=64 av.hidden=128 av.state=64 avsdn.hidden=128 avsdn.state=64 \
  dam.hidden=128 dam.width=128 jca.audio_out=64 jca.visual_out=64 jca.joint_out=128 jca.hidden=64 \
  mmel.epochs=10 mmel.batch=16 avdln.epochs=20 avdln.batch=8 dcca.epochs=100 dcca.batch=256

pairs: $(VENV)/.ready  ## Pairs-10: render, extract, train, judge; SOUNDS= IMAGES= folders, hours
	$(BIN)/avel synth $(PAIRS) --pairs pairs10 --sounds "$(SOUNDS)" --images "$(IMAGES)"
	$(BIN)/avel extract $(PAIRS) -j $(JOBS) --audio mini_audio --visual mini_visual
	$(BIN)/avel pack $(PAIRS)
	pids=; trap 'kill $$pids; exit 130' INT TERM; for i in $$(seq 2 $(JOBS)); do \
	  OMP_NUM_THREADS=1 $(BIN)/avel reproduce systems modalities $(TRAINED) > /dev/null 2>&1 & pids="$$pids $$!"; \
	done; OMP_NUM_THREADS=1 $(BIN)/avel reproduce systems modalities $(TRAINED); wait
	$(BIN)/avel reproduce systems modalities $(TRAINED)
	$(BIN)/python scripts/pairs_results.py reproduced/pairs10
	$(BIN)/python scripts/systems_results.py results/systems.csv results/pairs10.csv
	$(BIN)/python scripts/pairs_maps.py $(PAIRS) reproduced/pairs10
	$(BIN)/python scripts/pairs_robustness.py $(PAIRS) reproduced/pairs10

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist demo site
