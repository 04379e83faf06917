# make train : train a classifier of handwritten digits on the CPU
# make test  : run the test suite
# make test-lowest : the same with the lowest versions that pyproject.toml allows, on Python 3.11 or 3.12
# make lint  : style, types, and who imports whom
# make docs  : the pages, the lectures and the reference as a site, in build/docs; without network, but to install
# make package : the wheel and the source archive, in dist, checked, and tried in an empty environment
# make setup : all of it for people who work on portnn, and the hooks of pre-commit
# make clean : remove what the others have made
#
# Everything is installed into VENV. WITH adds packages to the tests, for example
#   make test WITH="torch jax cupy-cuda13x"

PYTHON ?= python3
VENV ?= .venv
WITH ?=
PINS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: train test test-lowest lint docs package setup clean

train: $(VENV)/.train
	$(BIN)/python scripts/train_mnist.py --device cpu --epochs 5
	@echo
	@echo "What to try next: a network of convolutions, and what else can be computed on here:"
	@echo "    $(BIN)/python scripts/train_mnist.py --model cnn-fast --save model.safetensors"
	@echo "    $(BIN)/python -m portnn"

test: $(VENV)/.test
	$(if $(WITH),$(PIP) $(PINS) $(WITH))
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# In an environment of its own, which is thrown away, as is what its Numba compiles: of two versions that share a cache,
# one may read what the other has written.
test-lowest:
	set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	$(PYTHON) .ci/lowest_versions.py > "$$place/lowest.txt"; \
	NUMBA_CACHE_DIR="$$place/numba" $(MAKE) --no-print-directory test VENV="$$place/venv" WITH=numba \
	    PINS="--only-binary :all: --constraint $$place/lowest.txt"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/docs

# The wheel alone, in an environment and a folder of its own: what it lacks is not found beside it.
package: $(VENV)/.package
	rm -rf dist build/lib build/bdist.*
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	$(PYTHON) -m venv "$$place/venv"; wheel=$$(echo "$$PWD"/dist/*.whl); cp .ci/trained_digits.py "$$place"; cd "$$place"; \
	venv/bin/python -m pip install --quiet --disable-pip-version-check "$$wheel[sklearn]"; venv/bin/python trained_digits.py

setup: $(VENV)/.dev $(VENV)/.docs
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) build dist docs/lectures docs/reference *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "portnn needs Python 3.11 or newer, not %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV) || (rm -rf $(VENV); exit 1)

$(VENV)/.train: pyproject.toml | $(BIN)/python
	$(PIP) --only-binary numba,llvmlite --editable ".[data,sklearn,fast]" || { $(PIP) --editable ".[data,sklearn]" \
	    && echo "NOTE: there is no Numba for this system, so training takes longer; everything works without it."; }
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) $(PINS) --editable ".[test]"
	touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[docs]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.package: pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[package]"
	touch $@
