# Everything here sets itself up: the first command on a fresh machine makes .venv from the hash-locked requirements.lock.
# `make` turns every failing exit code into 2; the codes of README.md hold for `python -m conformance` and pytest.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

CLUSTER ?= auto
LEVEL ?= extended
N ?= 0

# Of `report` and `compare`: a folder of reports/.
RUN ?= reports/latest
OPTIONS := --cluster=$(CLUSTER) --level=$(LEVEL)
OPTIONS += $(if $(PROFILE),--profile=$(PROFILE))
# A KUBECONFIG that merely stands in the environment must not be taken for the cluster to test.
OPTIONS += $(if $(filter existing,$(CLUSTER)),$(if $(KUBECONFIG),--kubeconfig=$(KUBECONFIG)))
OPTIONS += $(if $(CONTEXT),--context=$(CONTEXT))
OPTIONS += $(if $(filter existing,$(CLUSTER)),$(if $(MESH_KUBECONFIG),--mesh-kubeconfig=$(MESH_KUBECONFIG)))
OPTIONS += $(if $(filter existing,$(CLUSTER)),$(if $(MESH_CONTEXT),--mesh-context=$(MESH_CONTEXT)))
SELECTION := $(if $(K),-k "$(K)")
SELECTION += $(if $(filter-out 0,$(N)),-n $(N))

.DEFAULT_GOAL := help
.PHONY: help conformance fuzz walkthrough test lint format doctor cluster bench soak nightly image mutants faults report allure compare sample lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Options of conformance: CLUSTER=auto|embedded|kind|existing PROFILE=NAME|FILE LEVEL=core|extended K=PATTERN N=WORKERS"

conformance: $(READY) ## prove the mesh: bring a cluster up, run every scenario, write the report
	@$(PY) -m conformance run $(OPTIONS) $(SELECTION) $(ARGS)

fuzz: $(READY) ## try N generated sets of policies (default 1000); SEED=... for the same ones again
	@$(PY) -m conformance run $(OPTIONS) -k generated/policies \
	  --fuzz=$(if $(filter-out 0,$(N)),$(N),1000) $(if $(SEED),--fuzz-seed=$(SEED)) $(ARGS)

walkthrough: $(READY) ## type docs/walkthrough.md into a shell, to the letter
	@$(PY) -m pytest conformance/test_walkthrough.py $(OPTIONS) $(SELECTION) $(ARGS)

# Two at a time; ARGS="-n 0" runs them one after another, as a debugger needs it. TESTS names some of them.
TESTS ?= tests
test: $(READY) ## the suite's own tests
	@$(PY) -m pytest $(TESTS) -n 2 --dist worksteal $(ARGS)

lint: $(READY) ## ruff, mypy, import contracts, scenarios, Dockerfile, manifests, workflows
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(PY) -m conformance lint
	@$(VENV)/bin/hadolint enforcer/Dockerfile
	@$(PY) -m tests.lint_manifests
	@$(PY) -m tests.lint_workflows

format: $(READY) ## let ruff put the code into its form
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

doctor: $(READY) ## what this machine can run and, where not, why and what to do
	@$(PY) -m conformance doctor

image: $(READY) ## build the one image of everything (needs docker): authz-conformance:dev and by its id
	@$(PY) -m conformance images build $(ARGS)

cluster: $(READY) ## keep an embedded cluster up and print its KUBECONFIG
	@$(PY) -m conformance cluster up

bench: $(READY) ## measure: cluster up, time per scenario, time to enforce, peak memory
	@$(PY) -m tests.bench

soak: $(READY) ## run everything N times (default 20) and print the tally
	@$(PY) -m tests.soak $(if $(filter-out 0,$(N)),$(N),20) -- --cluster=$(CLUSTER) $(ARGS)

nightly: $(READY) ## as the nightly job: MESH=bundled|istio-sidecar|istio-ambient KUBERNETES=1.36 (needs docker and kind)
	@tests/nightly $(or $(MESH),bundled) $(or $(KUBERNETES),1.36) --level=$(LEVEL) $(SELECTION) $(ARGS)

mutants: $(READY) ## break the mesh on purpose, one requirement at a time; the suite must turn red and name it
	@$(PY) -m tests.mutants $(ARGS)

report: $(READY) ## make everything of a run's record anew: RUN=reports/... (default: the last one)
	@$(PY) -m conformance report "$(RUN)" $(ARGS)

allure: $(READY) ## the same, and Allure's page of it (where node is installed)
	@$(PY) -m conformance report "$(RUN)" --allure-page $(ARGS)

compare: $(READY) ## two runs side by side: OLD=reports/... NEW=reports/...
	@$(if $(OLD),,echo "which runs? make compare OLD=reports/... [NEW=reports/...]" >&2; exit 4;) \
	$(PY) -m conformance compare "$(OLD)" "$(or $(NEW),$(RUN))" $(ARGS)

sample: $(READY) ## renew docs/sample-report/ and its screenshots by a run of the embedded cluster (needs chromium)
	@$(PY) -m conformance run --cluster=embedded --report-dir=reports/sample
	@$(PY) -m tests.browser.sample reports/sample/latest docs/sample-report

faults: $(READY) ## break what is around the suite, one thing at a time; renews the table of docs/faults.md
	@$(PY) -m tests.faults --write $(ARGS)

lock: ## renew both locks from requirements.in and requirements.image.in (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --upgrade -q requirements.in -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q -c requirements.lock \
	  requirements.image.in -o requirements.image.lock

clean: ## remove the environment, caches and reports
	rm -rf $(VENV) .actionlint .allure .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
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
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $< && \
	  touch $@; }; }
