# Everything that one does with this checkout. Needs make and Python >= 3.11; the rest goes into $(VENV).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -qq
BIN := $(VENV)/bin
JOBS ?= 2

# One thread per process: fits and tests run side by side, and small matrices gain nothing from more.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export XLA_FLAGS ?= --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1
export MPLBACKEND ?= Agg

.PHONY: help demo test test-slow bench studies-smoke notebooks docs lint format unit coverage clean distclean
help:
	@echo "make demo       fit a real DESI galaxy: table, posterior file, figures and a gallery under demo/"
	@echo "make test       lint, types and the tests (about ten minutes on two cores)"
	@echo "make coverage   the tests with line coverage"
	@echo "make test-slow  the long studies"
	@echo "make bench      timings (bench/README.md)"
	@echo "make studies-smoke  every study, small: does it run? (studies/README.md says how to run one in full)"
	@echo "make notebooks  execute all notebooks again, and keep what they show"
	@echo "make docs       documentation under docs/_build/html"
	@echo "make lint       ruff, mypy and numpydoc;  make format  applies ruff's format"
	@echo "make clean      what the above wrote; distclean: $(VENV) too"

# ---- environments: one folder, a stamp per set of extras, redone when pyproject.toml changes -------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "provabgs needs Python >= 3.11; none found (or: make PYTHON=/path/to/python3.12)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	@echo "installing provabgs into $(VENV) (some minutes the first time)"
	$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing provabgs and its development tools into $(VENV) (some minutes the first time)"
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[docs]'
	@touch $@

# ---- demo ------------------------------------------------------------------------------------------------------------

DEMO := demo
FASTSPECFIT := 3.6.1
TARGETID := 39633345008634465
COADD := $(DEMO)/data/coadd-4-80613-thru20210324.fits
REDROCK := $(DEMO)/data/redrock-4-80613-thru20210324.fits
TRACTOR := $(DEMO)/data/tractor-1054p567.fits

# Real DESI data travel in the tests of the fastspecfit wheel (BSD-3); the wheel is unpacked, not installed.
$(COADD): | $(BIN)/python
	@echo "getting a real DESI galaxy (test data of fastspecfit $(FASTSPECFIT))"
	@mkdir -p $(DEMO)/wheel
	$(PIP) download --no-deps --only-binary :all: --dest $(DEMO)/wheel fastspecfit==$(FASTSPECFIT)
	$(BIN)/python -m zipfile -e $(DEMO)/wheel/fastspecfit-$(FASTSPECFIT)-*.whl $(DEMO)/wheel/unpacked
	@mkdir -p $(DEMO)/data
	for name in $(notdir $(REDROCK) $(TRACTOR) $(COADD)); do \
		find $(DEMO)/wheel/unpacked/fastspecfit/test/data -name $$name -exec cp {} $(DEMO)/data/ \; ; \
	done
	@ls $(REDROCK) $(TRACTOR) $(COADD) >/dev/null
	@rm -rf $(DEMO)/wheel

# A starburst: its weak lines are masked too. JAX keeps what it compiled, so that a second run starts at once.
demo: export PROVABGS_COMPILATION_CACHE ?= $(CURDIR)/$(DEMO)/cache
demo: $(VENV)/.runtime $(COADD)
	$(BIN)/provabgs fit $(COADD) --redrock $(REDROCK) --photometry $(TRACTOR) --targetid $(TARGETID) \
		--line-mask extended -o $(DEMO)/galaxy.h5
	$(BIN)/provabgs plot $(DEMO)/galaxy.h5 -o $(DEMO)/figures
	$(BIN)/provabgs demo -o $(DEMO) --also $(DEMO)/galaxy.h5

# ---- tests -----------------------------------------------------------------------------------------------------------

test: lint unit

DOCUMENTED = $(shell find $(addprefix provabgs/,sps observe inference catalog population) -name '*.py')

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/numpydoc lint $(DOCUMENTED)

PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not benchmark" --benchmark-disable -p no:cacheprovider -q --durations=40

unit: $(VENV)/.dev
	$(PYTEST)

coverage: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=xml

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python -m pytest bench -m benchmark --benchmark-only -s

studies-smoke: $(VENV)/.dev
	$(BIN)/python -m pytest tests/integration/test_studies.py -n $(JOBS) --dist worksteal -p no:cacheprovider -q

notebooks: $(VENV)/.dev
	$(BIN)/python notebooks/execute.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	rm -rf docs/_api
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# ----------------------------------------------------------------------------------------------------------------------

clean:
	rm -rf $(DEMO) build dist docs/_build docs/_api .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage coverage.xml *.egg-info

distclean: clean
	rm -rf $(VENV)
