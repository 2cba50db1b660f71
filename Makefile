# make demo    install into .venv, build the kernels, train on three daemons of this machine
# make test    install what the tests need, check, and run them all
# make check   format, lint, types, who may import whom, sizes
# make clean   remove everything that make made
#
# Needs Python >= 3.11 with venv, a C++17 compiler and make; nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# What an installed package is made of: it is installed again when any of it changes.
SOURCES := pyproject.toml constraints.txt \
           $(shell find meshd kernels -type f ! -name '*.so' ! -name '*.pyc')

# pip before 25.3 takes the first for its isolated build environment too, later ones the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The installed meshd has the built kernels, the one in this folder has not: never import from here.
export PYTHONSAFEPATH := 1
unexport PYTHONPATH

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/meshd demo

test: check
	$(BIN)/pytest

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_import_direction.py tests/unit/test_size_budget.py

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meshd needs Python 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python $(SOURCES)
	@echo 'installing meshd with its libraries into $(VENV): minutes the first time, seconds later'
	$(BIN)/pip install -q -c constraints.txt '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.python $(SOURCES)
	@echo 'installing meshd with its libraries into $(VENV): minutes the first time, seconds later'
	$(BIN)/pip install -q -c constraints.txt '.[test]'
	touch $(VENV)/.demo $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
