# make demo   the main job on real data, all three kinds      make test   every check there is
# Both build the virtual environment .venv first, and again when what it is made from changes.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test servers venv format lint types audit wheel clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo     build .venv, then digits, EEG and a questionnaire end to end (minutes)'
	@echo 'make test     build .venv, then format, lint, layers, types and tests'
	@echo 'make servers  the tests that wait for a schedule and walk through the servers'"'"' pages'
	@echo 'make venv     build .venv only (PYTHON=python3.12 for another interpreter)'
	@echo 'make format   put the code into shape          make lint, make types   those checks alone'
	@echo 'make docs     the documentation, into build/docs'
	@echo 'make audit    known vulnerabilities in constraints.txt'
	@echo 'make wheel    dist/*.whl                       make clean   remove what these made'

demo: venv
	@$(BIN)/ae-pipeline demo

# The cheap checks come first, and the first that fails ends it.
test: lint types
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Minutes of waiting: a schedule whose time comes, both servers' user interfaces in a browser.
servers: venv
	@$(BIN)/pytest -m servers

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "$(PYTHON) is not a Python of at least 3.11 with venv; install one (Debian:" \
	            "python3-venv) or name it: make PYTHON=python3.12" >&2; exit 1; }
	@echo 'Building .venv (some minutes the first time) ...' >&2
	@$(PYTHON) -m venv .venv
	@torch=$$(.ci/torch $(BIN)/python) && \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
	    $$torch -e '.[dev]'
	@touch $@

format: venv
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

lint: venv
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/bandit -q -ll --skip B704 -r ae_pipeline flows  # B704: Markup is for what we drew

types: venv
	@$(BIN)/mypy

# Its own environment: what it needs is no part of the tested set.
audit:
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && \
	  .venv-audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit; }
	@.venv-audit/bin/python .ci/audit .venv-audit/bin/pip-audit

docs: venv
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo build/docs/index.html

wheel: venv
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps -w dist .
	@ls -1 dist/*.whl

clean:
	rm -rf .venv .venv-audit build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
