# Helix: everything a person types here does its own set-up first (tools/setup.sh; quick when nothing changed).
SHELL := /bin/bash
VENV  ?= .venv
BIN   := $(VENV)/bin
PY    := $(BIN)/python

.PHONY: help setup kernels demo test check man bench clean

help:
	@echo "make demo   a cluster of one controller and four nodes runs batch scripts and an array, then goes away"
	@echo "make test   all tests"
	@echo "make kernels  compile the scheduling kernels ahead of their first use"
	@echo "make check  linters, types, import rules, generated files, man pages"
	@echo "make bench  the measurements of tests/bench"
	@echo "make man    write the generated pages, completion and state tables again"
	@echo "make clean  remove what was built (not spool/)"

setup:
	@VENV=$(VENV) tools/setup.sh

demo: setup
	@tools/demo.sh $(BIN)

kernels: setup
	@NUMBA_CACHE_DIR=$${NUMBA_CACHE_DIR:-$(CURDIR)/spool/kernels} $(PY) -m helix_native.warm

test: kernels
	$(PY) -m pytest $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tools $(BIN)/mypy tools/*.py
	$(BIN)/lint-imports
	$(PY) tools/generate.py --check
	@command -v mandoc >/dev/null || { echo "make check: mandoc is not installed: apt-get install mandoc" >&2; exit 1; }
	mandoc -T lint -W warning man/man1/* man/man5/* man/man7/* man/man8/*

man: setup
	$(PY) tools/generate.py

bench: kernels
	@set -e; for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(PY) $$bench; done

clean:
	rm -rf build dist *.egg-info helixd/libexec .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -path ./.git -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
	find native -name '*.so' -delete
	rm -f $(VENV)/.helix-stamp
