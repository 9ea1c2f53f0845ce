# Everything a newcomer types. `make serve` and `make test` need nothing but Python 3.11 or newer and the network.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  := $(VENV)/.bench
HOST   ?= 127.0.0.1
PORT   ?= 8000
TESTS  ?= tests
PYTEST := $(BIN)/python -m pytest
# Tests of one file stay together: they share a server. A process takes about 1 GB of memory.
SHARED := -n auto --maxprocesses 4 --dist loadfile
MINUTES ?= 30
SOAK   ?=
TORCH  ?=
# glibc gives large tensors back after every operation; these keep them. `mtlora serve` sets the same for itself.
ALLOCATOR := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456 MALLOC_ARENA_MAX=1

.PHONY: help setup serve test test-slow test-all coverage check fmt bench bench-quick soak train-default generated image-check clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP)  ## make .venv and install the project with its test tools: make setup [TORCH=cpu|cuda|default]

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard mtlora/kernels/src/*)
	@echo 'installing into $(VENV): minutes the first time'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python scripts/install_torch.py --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,train]'
	touch $@

serve: $(STAMP)  ## serve the bundled default adapter set on 127.0.0.1:8000
	$(BIN)/mtlora serve --host $(HOST) --port $(PORT)

test: $(STAMP)  ## run the tests that take minutes: make test [TESTS=tests/app]
	$(PYTEST) $(SHARED) -m 'not slow' $(MEASURE) $(TESTS)

test-slow: $(STAMP)  ## run the others: browsers, server processes, kills, soaks, deploy tools, long runs
	$(PYTEST) $(SHARED) -m slow $(TESTS)
	ALL_EXAMPLES=1 $(PYTEST) $(SHARED) -m 'properties and not slow' $(TESTS)

test-all: test test-slow  ## run all tests

coverage:  ## make test, and say how much of mtlora and app it runs
	$(MAKE) test MEASURE='--cov --cov-report=term:skip-covered'

check: $(STAMP)  ## formatting, lint, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP)  ## format and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH)  ## benchmarks, some hours; results go to benchmarks/results
	$(ALLOCATOR) $(BIN)/python -m benchmarks.bench_forward
	$(ALLOCATOR) $(BIN)/python -m benchmarks.bench_compute
	$(BIN)/python -m benchmarks.bench_swap
	$(BIN)/python -m benchmarks.bench_service

bench-quick: $(BENCH)  ## the same in minutes: shows that they work; results are called quick and not kept
	$(ALLOCATOR) $(BIN)/python -m benchmarks.bench_forward --quick
	$(ALLOCATOR) $(BIN)/python -m benchmarks.bench_compute --quick
	$(BIN)/python -m benchmarks.bench_swap --quick
	$(BIN)/python -m benchmarks.bench_service --quick

$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

soak: $(STAMP)  ## churn against a real server, killed twice: make soak MINUTES=30 [SOAK="--weights random --save"]
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SOAK)

train-default: $(STAMP)  ## train the bundled weights again: make train-default DATA=DIR UNLABELLED=DIR (hours)
	MTLORA=$(BIN)/mtlora scripts/train_default.sh "$(DATA)" "$(UNLABELLED)"

generated: $(STAMP)  ## write again what is made from code: deploy/env.example, Grafana's dashboards, the kernels' interface
	PYTHONPATH=. $(BIN)/python scripts/env_example.py
	PYTHONPATH=. $(BIN)/python scripts/kernel_interface.py
	$(BIN)/python -m deploy.grafana.generate

image-check:  ## build the container image and see it work (Docker, or podman and buildah as root)
	scripts/image_check.sh

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
