# Everything a contributor or a CI machine runs. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

# The one version of torch that the lock names; `make lock` keeps it.
TORCH := 2.13.0

BIN := $(VENV)/bin
LOCK_STAMP := $(VENV)/.stamp-lock
INSTALL_STAMP := $(VENV)/.stamp-package
LOCK_VENV := build/lock-venv
CLUSTER_VENV := build/cluster-venv
CLUSTER_STAMP := $(CLUSTER_VENV)/.stamp
# What speed is measured against, in an environment of its own: it pins a package that has to be
# compiled (needs a C compiler and the headers of GMP, on Debian libgmp-dev).
INCUMBENT := build/incumbent
INCUMBENT_PACKAGES := morl-baselines==1.3.0 mujoco==3.14.0

PIP := $(BIN)/python -m pip --disable-pip-version-check
# Small matrices: a second thread a process costs more than it brings.
RUN_ENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg
PYTEST := $(RUN_ENV) $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install demo lint test test-slow test-cluster cluster-packages check learning bench bench-incumbent docs lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		awk -F'|' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(INSTALL_STAMP)  ## make the virtual environment from the lock (once)

$(LOCK_STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("requirements.lock needs Python 3.11 or later, this is " \
		+ sys.version.split()[0] + "; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.lock into $(VENV); a few minutes the first time"
	@$(PIP) install --quiet -r requirements.lock
	@touch $@

# The lock holds setuptools, so the editable install needs no build environment of its own.
$(INSTALL_STAMP): $(LOCK_STAMP) pyproject.toml
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALL_STAMP)  ## train C-MORL on a small benchmark and write a report
	$(RUN_ENV) $(BIN)/morl run experiment=demo
	$(RUN_ENV) $(BIN)/morl report runs --output runs/report.html
	@echo "The report: $(CURDIR)/runs/report.html"

lint: $(INSTALL_STAMP)  ## style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p morl
	$(BIN)/lint-imports

test: $(INSTALL_STAMP)  ## the default tests, a few minutes
	$(PYTEST) -n $(WORKERS) --dist loadgroup

test-slow: $(INSTALL_STAMP)  ## also what trains or measures
	$(PYTEST) -m "not cluster"

# In an environment of its own: Ray's launcher pins an old cloudpickle. Tests of servers that are not
# installed are skipped; on Debian: make cluster-packages. CLUSTER=PYTHON names an interpreter that
# has the extras already.
test-cluster: $(if $(CLUSTER),,$(CLUSTER_STAMP))  ## tuning on Slurm, Ray and PostgreSQL of this machine
	$(RUN_ENV) MORL_CLUSTER_RESULTS=$(CURDIR)/experiments/results/cluster.json \
		$(if $(CLUSTER),$(CLUSTER),$(CLUSTER_VENV)/bin/python) -m pytest -m cluster tests/cluster

cluster-packages:  ## install what test-cluster needs from Debian (as root)
	apt-get install --yes --no-install-recommends slurm-wlm munge postgresql

$(CLUSTER_STAMP): pyproject.toml
	$(PYTHON) -m venv $(CLUSTER_VENV)
	$(CLUSTER_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(CLUSTER_VENV)/bin/python -m pip install --quiet torch==$(TORCH) --group dev \
		--editable '.[slurm,ray,postgres,parquet]'
	@touch $@

check: lint test  ## what CI runs

learning: $(INSTALL_STAMP)  ## the runs behind the published figures, hours
	$(RUN_ENV) $(BIN)/python -m morl.experiments.bench.learning

# INCUMBENT=PYTHON names an interpreter that has morl-baselines, to be measured in the same run.
bench: $(INSTALL_STAMP)  ## speed as ratios within one run, constraints, kills and resumes
	$(RUN_ENV) $(BIN)/python -m morl.experiments.bench $(if $(INCUMBENT),--incumbent $(INCUMBENT))
	$(RUN_ENV) $(BIN)/python -m morl.experiments.bench.constraints
	$(RUN_ENV) $(BIN)/python -m morl.experiments.bench.resume
	$(RUN_ENV) $(BIN)/python -m morl.experiments.bench.tuning

docs: $(INSTALL_STAMP)  ## build the documentation, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs
	@echo "The documentation: $(CURDIR)/build/docs/index.html"

lock:  ## write requirements.lock anew from pyproject.toml
	rm -rf $(LOCK_VENV)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet --upgrade pip setuptools
	$(LOCK_VENV)/bin/python -m pip install --quiet torch==$(TORCH) \
		--group dev --group docs --editable '.[all]'
	@{ sed '/^[^#]/,$$d' requirements.lock; \
		$(LOCK_VENV)/bin/python -m pip freeze --all --exclude pip --exclude morl-suite \
		| sed 's/+cpu$$//'; } > build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf $(LOCK_VENV)

clean:  ## remove what was built; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
