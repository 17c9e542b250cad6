# Everything here sets itself up: the first command on a fresh machine makes .venv from the hash-locked requirements.lock.
# `make` turns every failing exit code into 2; the codes of README.md hold for `python -m conformance` and pytest.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

CLUSTER ?= auto
LEVEL ?= extended
N ?= 0

OPTIONS := --cluster=$(CLUSTER) --level=$(LEVEL)
OPTIONS += $(if $(PROFILE),--profile=$(PROFILE))
# A KUBECONFIG that merely stands in the environment must not be taken for the cluster to test.
OPTIONS += $(if $(filter existing,$(CLUSTER)),$(if $(KUBECONFIG),--kubeconfig=$(KUBECONFIG)))
OPTIONS += $(if $(CONTEXT),--context=$(CONTEXT))
SELECTION := $(if $(K),-k "$(K)")
SELECTION += $(if $(filter-out 0,$(N)),-n $(N))

.DEFAULT_GOAL := help
.PHONY: help conformance fuzz walkthrough test lint format doctor cluster bench soak mutants faults lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Options of conformance: CLUSTER=auto|embedded|existing PROFILE=NAME|FILE LEVEL=core|extended K=PATTERN N=WORKERS"

conformance: $(READY) ## prove the mesh: bring a cluster up, run every scenario, write the report
	@$(RUN) -m conformance run $(OPTIONS) $(SELECTION) $(ARGS)

fuzz: $(READY) ## try N generated sets of policies (default 1000); SEED=... for the same ones again
	@$(RUN) -m conformance run $(OPTIONS) -k generated/policies \
	  --fuzz=$(if $(filter-out 0,$(N)),$(N),1000) $(if $(SEED),--fuzz-seed=$(SEED)) $(ARGS)

walkthrough: $(READY) ## type docs/walkthrough.md into a shell, to the letter
	@$(RUN) -m pytest conformance/test_walkthrough.py $(OPTIONS) $(SELECTION) $(ARGS)

# Two at a time; ARGS="-n 0" runs them one after another, as a debugger needs it.
test: $(READY) ## the suite's own tests
	@$(RUN) -m pytest tests -n 2 --dist worksteal $(ARGS)

lint: $(READY) ## ruff, mypy, import contracts, scenario lint
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(RUN) -m conformance lint

format: $(READY) ## let ruff put the code into its form
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

doctor: $(READY) ## what this machine can run and, where not, why and what to do
	@$(RUN) -m conformance doctor

cluster: $(READY) ## keep an embedded cluster up and print its KUBECONFIG
	@$(RUN) -m conformance cluster up

bench: $(READY) ## measure: cluster up, time per scenario, time to enforce, peak memory
	@$(RUN) -m tests.bench

soak: $(READY) ## run everything N times (default 20) and print the tally
	@$(RUN) -m tests.soak $(if $(filter-out 0,$(N)),$(N),20) -- --cluster=$(CLUSTER) $(ARGS)

mutants: $(READY) ## break the mesh on purpose, one requirement at a time; the suite must turn red and name it
	@$(RUN) -m tests.mutants $(ARGS)

faults: $(READY) ## break what is around the suite, one thing at a time; renews the table of docs/faults.md
	@$(RUN) -m tests.faults --write $(ARGS)

lock: ## renew requirements.lock from requirements.in (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --upgrade -q requirements.in -o requirements.lock

clean: ## remove the environment, caches and reports
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The mark is written last: an interrupted installation is made anew. Two at once wait for each other.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: install Python 3.11, or name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@exec 9> $(VENV).lock && flock 9 && { [ $@ -nt $< ] || { \
	  echo "Installing the locked dependencies into $(VENV) (once) ..." && \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) && \
	  $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $< && \
	  touch $@; }; }
