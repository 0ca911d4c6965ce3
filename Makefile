# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the others.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DATA := $(wildcard ../shared/data)
# Two threads at the most: the machines this is built for have two cores.
export OMP_NUM_THREADS ?= 2
# Tests run in so many processes side by side, each with one thread.
WORKERS ?= 2
export HF_HUB_OFFLINE = 1
ifneq ($(DATA),)
export MOE2_DATA ?= $(abspath $(DATA))
endif

.PHONY: help demo test check slow results testbed bench derive clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/base: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@touch $@

# torch first and by itself: what depends on it then takes the version that is there.
.venv/dev: .venv/base
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e '.[gate,encoder,dev]'
	@touch $@

demo: .venv/base  ## run the bundled scenario `testbed`: its verdict and the path of its report
	@$(BIN)/moe2 run testbed --out runs/testbed; status=$$?; \
	case $$status in \
	  0) echo "exit status 0: every budget holds";; \
	  1) echo "exit status 1: a budget is violated";; \
	  3) echo "exit status 3: a budget is undecided";; \
	  *) exit $$status;; \
	esac

test: check  ## everything that CI runs

check: .venv/dev  ## style, types, import contracts, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m 'alone and not slow and not hardware' tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'not slow and not hardware and not alone'

slow: .venv/dev  ## the tests that take minutes
	$(BIN)/pytest -m slow

results: .venv/dev  ## write the figures of docs/results.md and run the notebook
	$(BIN)/python -m tools.results
	$(BIN)/python -m tools.notebook

testbed: .venv/dev  ## record a real server on loopback beside its twin, docs/results-testbed.md (on an idle machine)
	$(BIN)/python -m tools.testbed

bench: .venv/dev  ## measure speed
	$(BIN)/python -m benchmarks

derive: .venv/dev  ## derive the bundled answers, gate and profiles from the public data that MOE2_DATA names
	$(BIN)/python -m tools.derive_answers
	$(BIN)/moe2 train --out moe2/data/gate.safetensors
	$(BIN)/python -m tools.derive_profiles

clean:  ## remove the environment and all runs
	rm -rf .venv runs
