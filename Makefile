# Every target first sets up .venv from pdm.lock, with PDM, if it is missing or out of date.
# Needed on the machine: git, make, and CPython 3.11 or newer with its venv module.

.DEFAULT_GOAL := help

# What PDM's own release pins (its extra `locked`), so that a newer dependency cannot break it.
PDM := pdm[locked]==2.29.3

VENV := .venv
TOOLS := .pdm-tools
SYNCED := $(VENV)/.synced
INSTALLED := $(TOOLS)/.installed

# The settings of the user's PDM that would put the environment elsewhere; mirrors stay in force.
PDM_ENV := PDM_CHECK_UPDATE=0 PDM_IGNORE_ACTIVE_VENV=1 PDM_USE_VENV=1 PDM_VENV_IN_PROJECT=1 \
	PDM_IGNORE_SAVED_PYTHON=1 PDM_NON_INTERACTIVE=1

SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON = $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c '$(SUITABLE)' 2>/dev/null && { echo "$$python"; break; }; done)
MISSING := this needs CPython 3.11 or newer with its venv and ensurepip modules (Debian, Ubuntu: \
	the package python3-venv); name it with `make PYTHON=/path/to/python …`

.PHONY: help setup demo test test-slow test-fresh mutants bench reference lint format clean

help:  ## print the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' Makefile | expand -t 12

setup: $(SYNCED)  ## make .venv, with `stackbuild` in .venv/bin

demo: $(SYNCED)  ## lock, publish and install the stack of this repository, move it and run it
	@$(VENV)/bin/python -m tools.demo

test: lint  ## linters, type checker, all tests but the slow ones
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-slow: $(SYNCED)  ## the slow tests alone, then test-fresh
	$(VENV)/bin/python -m pytest -m slow
	$(VENV)/bin/python -m tools.fresh

test-fresh: $(SYNCED)  ## `make test` and `make demo` on minimal Debians (root; MACHINES="…")
	$(VENV)/bin/python -m tools.fresh $(MACHINES)

mutants: $(SYNCED)  ## change the code that guards integrity; print what no test notices
	@$(PDM_ENV) $(TOOLS)/bin/pdm sync --quiet --group mutants
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" nice -n 19 $(VENV)/bin/python -m tools.mutants $(MUTANTS)

bench: $(SYNCED)  ## time stackbuild against its peers and print the ratios
	$(VENV)/bin/python -m bench

reference: $(SYNCED)  ## write the table and the JSON Schema of policy fields in docs/
	$(VENV)/bin/python -m tools.policy_reference

lint: $(SYNCED)  ## linters and type checker
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(SYNCED)  ## correct what the linters can correct
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

clean:  ## remove the environments and everything that was built here
	rm -rf $(VENV) $(TOOLS) .pdm-build build dist demo mutants wheelhouse .stackbuild .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache
	find exports -mindepth 1 ! -name README.md -delete

$(SYNCED): pyproject.toml pdm.lock | $(INSTALLED)
	@echo "setting up $(VENV) from pdm.lock"
	@$(VENV)/bin/python -c '' 2>/dev/null || \
		$(TOOLS)/bin/python -m venv --clear --without-pip $(VENV)
	@$(PDM_ENV) $(TOOLS)/bin/pdm sync --quiet --group test --group lint
	@touch $@

$(INSTALLED):
	$(if $(PYTHON),,$(error $(MISSING)))
	@echo "installing $(PDM) for the set-up into $(TOOLS), with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check '$(PDM)'
	@touch $@
