# Each target prints the plain command it runs; these work by hand in the activated environment too (. .venv/bin/activate).
.DEFAULT_GOAL := first
.PHONY: first setup reproduce smoke test pull benchmark help

PYTHON ?= python3
BIN := .venv/bin
# Without compiled sources every job would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

first: setup  ## MNIST part of the first table, from the data in this repository (about a minute after set-up)
	snakemake --quiet rules --config only=mnist -- krr_recovery
	@stillhouse table results/report/krr_recovery.md
	@echo "Page with table, pictures and recipes: results/report/krr_recovery.html"

reproduce: setup  ## everything that params.yaml asks for
	snakemake

smoke: setup  ## the whole workflow on scikit-learn's digits (two to three minutes)
	snakemake --configfile scales/smoke.yaml

test: setup  ## all tests
	pytest

pull: setup  ## data and results of this commit from the DVC remote
	@dvc remote list | grep -q . || { echo "No DVC remote is known: dvc remote add -d NAME URL (README: Data and results through DVC)."; exit 1; }
	dvc pull

benchmark: setup  ## speed and memory, as ratios in one run
	for each in benchmarks/*.py; do echo "== $$each"; python $$each || exit 1; done

setup: .venv/.installed  ## the environment, in .venv

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,remotes]'
	@touch $@

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
