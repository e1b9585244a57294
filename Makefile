# One command does one job, and every job first makes the environment it needs: on a fresh machine
# `make test` or `make audit` is all there is to type. `make help` lists the jobs.
#
#   PYTHON   the interpreter the environment is made with (3.11 or newer)
#   JOBS     processes the tests run in
#   ARGS     further arguments for the command a job runs, e.g. make test ARGS="-k ridge -x"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
JOBS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES = $(shell find $(wildcard refblo proofs_check tests asv_bench docs) -name '*.py' \
	-not -path '*/env/*' -not -path '*/_build/*' | sort)

.PHONY: help env test test-full lint format types audit audit-quick audit-full reproduce ledger docs peers rules ordinary-jax agreement equal-cost speed speed-loops detection asv asv-full asv-history asv-publish pictures gate gpu mutation plants clean

help:  ## list the jobs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Made again (in place) whenever what should be in it changes. The stamp is written last, so an
# interrupted installation is taken up by the next command.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make env: no Python 3.11 or newer was found; install one, or name it: make env PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

env: $(STAMP)  ## create or refresh .venv (every other job does this by itself)

# One BLAS thread a process: the problems are small, and two pools on two cores fight each other.
test test-full: export OMP_NUM_THREADS := 1

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-full: $(STAMP)  ## the test suite with the slow tests, and more examples for each property
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "" --timeout 1200 --hypothesis-profile full $(ARGS)

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## apply ruff's formatting and its safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## mypy --strict over all Python in the repository
	@$(BIN)/python -m mypy --strict $(SOURCES)

audit: $(STAMP)  ## the quick audit: every estimator against every truth, in short sweeps
	@echo "the quick audit: short sweeps, few seeds; make audit-full leaves nothing out"
	$(BIN)/refblo audit --quick --html audit-report.html --json audit-report.json $(ARGS)

audit-quick: audit  ## another name of the same

audit-full: $(STAMP)  ## the whole audit: long sweeps, many seeds, and the contracts that the quick one leaves out
	$(BIN)/refblo audit --full --html audit-report.html --json audit-report.json $(ARGS)

reproduce: export OMP_NUM_THREADS := 1

reproduce: $(STAMP)  ## a sample of the papers' experiments at the smoke scale, into a folder that is removed again
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -e && \
		for name in table-5 table-8 table-14; do $(BIN)/refblo reproduce $$name --jobs $(JOBS) --output "$$folder"; done

# With ARGS it is the ledger's own command. Without, errors are planted as well, always the same ones; the
# page of the docs comes from all of them (ARGS=--planted).
EVERY := 4
ledger: $(STAMP)  ## check every claim of the papers, and plant every fourth error in them
	$(BIN)/python -m proofs_check $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m proofs_check --planted --every $(EVERY))

docs: $(STAMP)  ## build the site into docs/_build/html; a warning is an error
	rm -rf docs/_generated
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

# The environment above is the one that is measured, at the commit that is checked out: building another
# for every commit would cost a torch installation each.
# asv writes when it ends, so it is run for one file of benchmarks at a time: an interrupted run keeps the others.
asv asv-full asv-history: export OMP_NUM_THREADS := 1
HERE := $(BIN)/python -m asv_bench.history --here

asv: $(STAMP)  ## count what every estimator needs at this commit, a minute; and time it on a GPU where there is one
	$(HERE) '^counts\.'
	$(HERE) OnAGPU

asv-full: asv  ## all benchmarks at this commit
	$(HERE) '^times\.'
	$(HERE) '^core\.'
	$(HERE) AtScaleOnTheCPU

N ?= 30
asv-history: $(STAMP)  ## count at earlier commits, until N of them have counts (N=30); ARGS=--times for times
	$(BIN)/python -m asv_bench.history --commits $(N) $(ARGS)

asv-publish: $(STAMP)  ## build the benchmark dashboards; they need no network afterwards
	$(BIN)/python -m asv_bench.publish

pictures: $(STAMP)  ## draw docs/pictures.md from the results that are committed
	$(BIN)/python -m asv_bench.pictures

gate: $(STAMP)  ## compare the deterministic costs with the committed baseline
	OMP_NUM_THREADS=1 $(BIN)/python -m asv_bench.gate $(ARGS)

# Other people's libraries, in an environment of their own: their requirements would disturb ours. A library
# that is only in its repository is run where an environment variable points to a checkout: HYPERTORCH, HYPERGRAD.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

$(PEERS_STAMP): pyproject.toml constraints.txt tests/peers/requirements.txt tests/peers/requirements-no-deps.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e . -r tests/peers/requirements.txt
	$(PEERS)/bin/python -m pip install --disable-pip-version-check --no-deps --ignore-requires-python -r tests/peers/requirements-no-deps.txt
	@touch $@

peers: export OMP_NUM_THREADS := 1

peers: $(PEERS_STAMP)  ## the conformance suite on other libraries; writes docs/peers.md
	$(PEERS)/bin/python -m tests.peers.run --jobs $(JOBS) $(ARGS)

rules ordinary-jax agreement equal-cost speed speed-loops: export OMP_NUM_THREADS := 1

rules: $(PEERS_STAMP)  ## every rule beside torch.optim and optax, 1,000 runs each; writes docs/rules.md
	JAX_PLATFORMS=cpu $(PEERS)/bin/python -m tests.rules.page

ordinary-jax: $(PEERS_STAMP)  ## every loss of optax on networks in JAX, right and wrong code; writes docs/ordinary-jax.md
	JAX_PLATFORMS=cpu $(PEERS)/bin/python -m tests.conformance.ordinary_jax.matrix $(ARGS)

HYPERTORCH_IS := prolearner/hypertorch
BENCHMARK_BILEVEL_IS := benchopt/benchmark_bilevel

has-%:  # a variable names a working tree
	@test -d "$($*)" || { echo "$* must be the path of a working tree of $($*_IS), got '$($*)'; clone it, and call make $(MAKECMDGOALS) $*=PATH" >&2; exit 2; }

# Without the constraints: benchopt needs an older joblib than they name.
agreement: has-HYPERTORCH has-BENCHMARK_BILEVEL $(PEERS_STAMP)  ## methods beside public implementations, number by number; writes docs/agreement.md
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -r tests/peers/requirements-agreement.txt
	HYPERTORCH="$(HYPERTORCH)" $(PEERS)/bin/python -m tests.peers.agreement "$(BENCHMARK_BILEVEL)" > docs/agreement.new
	mv docs/agreement.new docs/agreement.md

equal-cost: has-HYPERTORCH $(PEERS_STAMP)  ## methods and libraries at equal cost; writes docs/equal-cost.md
	HYPERTORCH="$(HYPERTORCH)" $(PEERS)/bin/python -m tests.peers.equal_cost $(ARGS) > docs/equal-cost.new
	mv docs/equal-cost.new docs/equal-cost.md

speed: has-HYPERTORCH $(PEERS_STAMP)  ## time against public libraries, one interleaved run; writes docs/speed.md
	PYTHONPATH=.:"$(HYPERTORCH)" $(PEERS)/bin/python -m asv_bench.speed $(ARGS)

speed-loops: has-HYPERTORCH $(PEERS_STAMP)  ## outer loops by default settings against public libraries; writes docs/speed-in-a-loop.md
	PYTHONPATH=.:"$(HYPERTORCH)" $(PEERS)/bin/python -m asv_bench.loops $(ARGS)

detection: export OMP_NUM_THREADS := 1

detection: $(STAMP)  ## count planted bugs found and right code accused; writes docs/how-well-it-detects.md
	$(BIN)/python -m tests.conformance.detection --jobs $(JOBS) $(ARGS)

# On the machine that has the GPU, with its own interpreter: nothing is installed.
gpu:  ## all that a GPU has to show, in 25 minutes: PYTHON=…, COMMIT=… in a plain copy; writes docs/on-a-gpu.md
	$(PYTHON) -m asv_bench.gpu $(if $(COMMIT),--commit $(COMMIT)) $(ARGS)

MUTATION := .mutation

mutation: export OMP_NUM_THREADS := 1

mutation: $(STAMP)  ## random errors in the source, and whether the tests find them; hours
	rm -rf $(MUTATION) && mkdir -p $(MUTATION)
	$(BIN)/python -m coverage run --rcfile=tests/mutation/coverage.ini -m pytest -q -p no:cacheprovider --durations=0 > $(MUTATION)/durations.txt
	$(BIN)/python -m coverage combine --rcfile=tests/mutation/coverage.ini
	$(BIN)/python -m tests.mutation $(MUTATION)/coverage $(MUTATION)/durations.txt $(ARGS)

plants: export OMP_NUM_THREADS := 1

plants: $(STAMP)  ## plant the errors of tests/plants, half an hour of processor time; writes docs/theory/code-plants.md
	$(BIN)/python -m tests.plants $(ARGS)
	$(BIN)/python -m tests.plants --page > docs/theory/code-plants.md

clean:  ## remove what the jobs made, except the environment
	rm -rf docs/_build docs/_generated build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis audit-report.*
	find $(wildcard refblo proofs_check tests asv_bench docs) -name __pycache__ -type d -prune -exec rm -rf {} +
