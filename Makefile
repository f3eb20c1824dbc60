# All one does with a checkout. Each target first sets up what it needs; a second run finds it there.

VENV ?= .venv
# What pip is asked for where no torch is there; to choose a CPU or GPU build: TORCH='torch==2.13.0 --index-url …'
TORCH ?= torch==2.13.0
# A shipped model's name, or a bundle's path
MODEL ?= rng-s
DEMO ?= demo
# For the ablations: a folder of clean photographs, minutes of training in all, where they are kept, further options
DATA ?=
MINUTES ?= 60
ABLATION ?= runs/ablation
# For training on: a folder of clean photographs, minutes of all three stages, where they are kept, the LPIPS files
RUNDIR ?= runs/more
LPIPS ?= $(RNG_LPIPS)
OPTIONS ?=

# python3 first: what a machine calls so is what its owner meant
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
SUITABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
RUN = $(VENV)/bin/python -m
PIP = $(RUN) pip --disable-pip-version-check install

.PHONY: help demo test check bench train ablation clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.rng-demo  ## denoise real photographs with the shipped model, and show how well
	@$(RUN) rngcli.cli.demo $(DEMO) --model $(MODEL)

test: $(VENV)/.rng-dev  ## run the tests
	@$(RUN) pytest

check: $(VENV)/.rng-dev  ## style and types
	@$(RUN) ruff check rngcli tests
	@$(RUN) mypy

bench: $(VENV)/.rng-demo  ## measure this machine's speed
	@$(RUN) rngcli bench --model $(MODEL)

train: $(VENV)/.rng-demo  ## go on training the shipped model on DATA=FOLDER, all three stages
	@RNG="$(RUN) rngcli" sh models/train.sh "$(or $(DATA),$(error name a folder of clean photographs: make train DATA=…))" \
	  $(RUNDIR) $(MINUTES) "$(or $(LPIPS),$(error name the folder of the LPIPS files: make train LPIPS=…))"

ablation: $(VENV)/.rng-demo  ## train the method's variants on DATA=FOLDER for an hour, and compare them
	@$(RUN) rngcli ablate --data "$(or $(DATA),$(error name a folder of clean photographs: make ablation DATA=…))" \
	  --run $(ABLATION) --minutes $(MINUTES) --report $(ABLATION)/report.md --report $(ABLATION)/report.json $(OPTIONS)

clean:  ## remove what demo, test and check have made; .venv and runs/ stay
	rm -rf $(DEMO) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find rngcli tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.rng-venv:
	@for python in $(PYTHONS); do \
	  if $$python -c '$(SUITABLE)' 2>/dev/null; then $$python -m venv $(VENV) && touch $@; exit; fi; \
	done; \
	echo "No Python 3.11 or newer with its venv module among: $(PYTHONS). Install one, or name it: make PYTHON=…" >&2; \
	exit 1

$(VENV)/.rng-torch: $(VENV)/.rng-venv
	$(VENV)/bin/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' || $(PIP) $(TORCH)
	@touch $@

$(VENV)/.rng-%: $(VENV)/.rng-torch pyproject.toml
	$(PIP) --quiet --editable '.[$*]'
	@touch $@
