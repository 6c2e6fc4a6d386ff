# `make help` lists the targets. Everything is installed into .venv, at the versions of constraints.txt.

VENV     ?= .venv
DEMO_OUT ?= demo_out
LABS_OUT ?= build/labs
PORT     ?= 8866
# The first Python of at least 3.11, asked for its version because a name on PATH may be a shim that leads nowhere.
PYTHON   ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)

BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# A visitor's kernel may not write: what is not compiled before it starts, each of them compiles anew.
COMPILE := $(BIN)/python -m compileall -q -j 0 codesign_kernel widgets
# The first evaluation has numba compile the search for mappings, for 12 s; the tests would do it in several processes.
NUMBA   := $(BIN)/python -c 'import codesign_kernel as ck; from codesign_kernel.session import catalogue; \
	ck.evaluate(catalogue.network("lenet5").workload, ck.accelerator.catalog("edge_tpu"))'

# Tests wait for browsers, servers and clusters: two workers more than there are processors keep those busy.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

# Empty: compiled code is kept, also where the environment says otherwise. The tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo lab labs apps test lint bench picture validation clean distclean check-python system-packages

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.core ## train, choose, generate and prove one accelerator; the report is in demo_out (DEMO_OUT=folder)
	$(BIN)/codesign demo --out "$(DEMO_OUT)"

labs: $(VENV)/.all ## make the course's student versions and check them; they are in build/labs (LABS_OUT=folder)
	$(BIN)/python notebooks/labs/course.py "$(LABS_OUT)"

lab: $(VENV)/.all ## open the lessons in JupyterLab
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks

apps: $(VENV)/.all ## serve the apps on this machine only, each visitor's kernel confined (PORT=number)
	@$(COMPILE)
	$(BIN)/codesign serve --port $(PORT) --apps voila_apps

test: $(VENV)/.all system-packages lint ## format, lint, types and every test
	@$(COMPILE)
	$(NUMBA) & \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.all ## format, lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.all ## run every benchmark
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

picture: $(VENV)/.all ## make the picture of the README from the demo's report (needs Chromium)
	@test -f "$(DEMO_OUT)/report.html" || $(BIN)/codesign demo --out "$(DEMO_OUT)"
	$(BIN)/python docs/picture.py "$(DEMO_OUT)/report.html" docs/front.png

validation: $(VENV)/.all ## bring the tables and the picture of docs/validation.md up to date
	$(BIN)/python docs/validation.py --picture

clean: ## remove caches and results
	rm -rf build dist ./*.egg-info demo_out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		version=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null) || version='not there'; \
		echo "Python 3.11 or newer is needed, but $(PYTHON) is $$version; install one," \
			"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }

$(BIN)/python: | check-python
	$(PYTHON) -m venv "$(VENV)" || { rm -f $@; exit 1; }

# Stamps: a target reinstalls only when what it installs from has changed.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[serve]"
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[all]"
	@touch $@ $(VENV)/.core

# What the tests run besides Python. Without the right to install them, the tests that need them skip and say why. What
# this release of Debian or Ubuntu does not have must not keep the others out.
system-packages:
	@lacking() { for package in $$(cat tests/apt.txt); do \
		dpkg -s "$$package" 2>/dev/null | grep -q '^Status: install ok installed' || printf ' %s' "$$package"; \
	done; }; \
	missing=$$(lacking); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update; \
		known=$$(for package in $$missing; do apt-cache show "$$package" >/dev/null 2>&1 && echo "$$package"; done); \
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$known; \
		missing=$$(lacking); [ -z "$$missing" ] || \
			echo "Could not be installed, so tests that need it will be skipped (in CI they fail):$$missing"; \
	else \
		echo "Tests that need one of these will be skipped:$$missing. On Debian or Ubuntu:" \
			"sudo apt-get install --no-install-recommends$$missing"; \
	fi
