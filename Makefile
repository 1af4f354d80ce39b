# Everything runs in a virtual environment that make creates, and updates when pyproject.toml or the constraints
# change. Any of these variables can be set on the command line: make test JOBS=4

PYTHON ?= python3# creates the virtual environment; 3.11 or newer
OLDEST_PYTHON ?= python3.11# of test-oldest
NEWEST_PYTHON ?= python3.13# of test-newest
VENV ?= .venv# its folder
CONSTRAINTS ?= constraints.txt# versions to install; empty for the newest that fit
PIP_ARGS ?=# added to every pip install, e.g. "--index-url URL"
JOBS ?= 2# test processes
TEST_EXTRAS ?= test,docs,dt# what is installed for the tests
ARGS ?=# added to the command, e.g. "--seed 1" or "-k cartpole"

BIN := $(VENV)/bin
CLI := $(BIN)/rltrain
INPUTS := pyproject.toml $(CONSTRAINTS)
# All tests of a file run in one process: some share what takes long to set up.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: help train test test-oldest test-newest test-litert test-clouds test-dvc test-dockerfile check docs torture bench clean
.DEFAULT_GOAL := help

help:  ## print this list
	@echo 'make train   train PPO on CartPole until it is solved'
	@echo 'make test    run the tests'
	@echo 'make test-oldest, make test-newest'
	@echo '             run the tests with the oldest supported versions, and with the newest ones, each in its own'
	@echo '             virtual environment; torch takes several gigabytes there'
	@echo 'make test-litert'
	@echo '             try the export to LiteRT, in a virtual environment of its own'
	@echo 'make test-clouds'
	@echo '             let the libraries of cloud platforms read our job files, each in a virtual environment of its own'
	@echo 'make test-dvc'
	@echo '             install DVC and run its template, with a folder as the remote'
	@echo 'make test-dockerfile'
	@echo '             run the steps of the Dockerfile in a fresh virtual environment, and ask the service that they start'
	@echo 'make check   lint, check formatting and types'
	@echo 'make docs    build the documentation as a site, in build/docs'
	@echo 'make torture ROW=8'
	@echo '             try a row of the scorecard of what happens when things go wrong; without ROW, all, within 150 minutes'
	@echo 'make bench   compare rltrain with other libraries, each in its own virtual environment, in half an hour'
	@echo 'make clean   remove the virtual environment, builds and caches (runs/ stays)'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) VENV=$(VENV) CONSTRAINTS=$(CONSTRAINTS) PIP_ARGS=$(PIP_ARGS) JOBS=$(JOBS) ARGS=$(ARGS)'

train: $(VENV)/.has-run
	$(CLI) train ppo rltrain/CartPole-v1 --stop-at-reward 475 $(ARGS)

test: $(VENV)/.has-test
	$(PYTEST) $(ARGS)

test-oldest:
	@$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt PYTHON=$(OLDEST_PYTHON) TEST_EXTRAS=test

test-newest:
	@$(MAKE) test VENV=.venv-newest CONSTRAINTS= PYTHON=$(NEWEST_PYTHON)

# LiteRT's converter needs older versions of some packages than constraints.txt has; torch is the pinned one.
test-litert: .venv-litert/.has-litert
	OMP_NUM_THREADS=1 .venv-litert/bin/python -m pytest tests/export/test_litert.py $(ARGS)

.venv-litert/.has-litert: $(INPUTS)
	@test -e .venv-litert/pyvenv.cfg || $(PYTHON) -m venv .venv-litert
	@grep '^torch==' constraints.txt > .venv-litert/torch.txt
	@.venv-litert/bin/python -m pip install -q --disable-pip-version-check -c .venv-litert/torch.txt $(PIP_ARGS) \
	  -e '.[litert]' pytest
	@touch $@

# Each platform's library in a virtual environment of its own: they pull hundreds of packages, and not the same ones.
CLOUDS ?= sagemaker sagemaker-training vertex azureml azureml-mlflow skypilot
test-clouds: $(VENV)/.has-test $(CLOUDS:%=.venv-clouds/%/.has)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cloud/test_validators.py \
	  tests/cloud/test_sagemaker_toolkit.py tests/cloud/test_azureml_mlflow.py $(ARGS)

.venv-clouds/%/.has: tests/cloud/validators/%.txt
	@test -e .venv-clouds/$*/pyvenv.cfg || $(PYTHON) -m venv .venv-clouds/$*
	@.venv-clouds/$*/bin/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -r $<
	@touch $@

# DVC pulls sixty packages that nothing else here needs.
test-dvc: $(VENV)/.has-test
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) $(PIP_ARGS) -e '.[dvclive]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/pipelines/test_dvc.py $(ARGS)

test-dockerfile: $(VENV)/.has-run
	$(BIN)/python tests/serving/dockerfile_steps.py .venv-dockerfile $(PIP_ARGS)

check: $(VENV)/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.has-test
	$(BIN)/python -m docs.site $(ARGS)

torture: $(VENV)/.has-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture $(if $(ROW),--row $(ROW)) $(ARGS)

bench: $(VENV)/.has-run
	$(BIN)/python -m benchmarks --pip-args="$(PIP_ARGS)" $(ARGS)

clean:
	@if [ -e $(VENV)/.ours ]; then rm -rf $(VENV); fi
	rm -rf .venv-bench .venv-oldest .venv-newest .venv-litert .venv-clouds .venv-dockerfile build dist rltrain.egg-info src/rltrain.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . \( -name .git -o -name '.venv*' \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The set-up. A virtual environment created here contains a file .ours. Its file .ready is missing while something is
# being installed, so one that was interrupted is created anew. A virtual environment that existed before is used as it
# is and never removed.

STAMPS := $(addprefix $(VENV)/,.ready .has-run .has-test .has-dev)
INSTALL = rm -rf $(STAMPS) rltrain.egg-info && echo 'installing into $(VENV); the first time this takes a minute or two' && \
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	$(addprefix -c ,$(CONSTRAINTS)) $(PIP_ARGS)

$(VENV)/.has-run: $(INPUTS) | $(VENV)/.ready
	@$(INSTALL) -e .
	@touch $(VENV)/.ready $@

$(VENV)/.has-test: $(INPUTS) | $(VENV)/.ready
	@$(INSTALL) -e '.[$(TEST_EXTRAS)]'
	@touch $(VENV)/.ready $(VENV)/.has-run $@

$(VENV)/.has-dev: $(INPUTS) | $(VENV)/.ready
	@$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.ready $(VENV)/.has-run $(VENV)/.has-test $@

$(VENV)/.ready:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: there is no command '$(PYTHON)'." >&2; \
	  echo "Fix: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: rltrain needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "Fix: name a newer one: make PYTHON=python3.11" >&2; exit 1; }
	@if [ -e $(VENV)/.ours ]; then rm -rf $(VENV); fi
	@if [ ! -e $(VENV)/pyvenv.cfg ]; then \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: $(PYTHON) cannot make virtual environments: its module venv or ensurepip is missing." >&2; \
	    echo "Fix: install it (Debian, Ubuntu: apt install python3-venv), or: make PYTHON=/path/to/another/python" >&2; \
	    exit 1; }; \
	  mkdir -p $(VENV) && touch $(VENV)/.ours && $(PYTHON) -m venv $(VENV); \
	fi
	@touch $@
