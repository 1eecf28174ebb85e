# What is done with this repository from a shell. `make` alone lists it.

VENV ?= .venv
EXTRAS ?= dev
WRITER ?= threaded
SECONDS ?= 600
EXAMPLES ?= 1_000
TESTS ?=# which of their tests `make explore` and `make soak` run; all unless given, such as TESTS=tests/security
SPANS ?= 10_000_000
SINK ?= beaver
PYTHON ?=# an interpreter to use instead of the newest found
KINDS ?=# what `make bench` measures; everything unless given, such as KINDS="cost lag"
ROUNDS ?= 3
ONLY ?=# what `make break` breaks: what has this in its promise, file or tests; everything unless given
BENCH ?=# more of its options, such as BENCH="--ours --largest 1e6"

BIN := $(VENV)/bin
READY := $(VENV)/.ready
TRACE := demo/service.db
FUNCTIONS := demo/functions.db

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup browser demo test lint format types docs pytest soak soak-long explore break bench bench-compare bench-keep clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Make .venv with the newest tested Python there is, and all that development needs

browser: ## Install Chromium, in which the tests look at the page, where that can be done
	@for one in chromium chromium-browser google-chrome; do \
		if command -v $$one >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null \
		|| echo 'Chromium could not be installed: the tests of the page are skipped.'; \
	else echo 'No Chromium is installed, so the tests of the page are skipped.'; \
		echo 'Install your system'"'"'s package chromium, or run: $(BIN)/playwright install chromium'; fi

demo: setup ## Record a busy web service, and the functions of a program, and look at what they did
	@mkdir -p $(dir $(TRACE))
	@$(BIN)/python examples/service.py --writer $(WRITER) --db $(TRACE)
	@echo
	$(BIN)/ferret runs $(TRACE)
	@echo
	$(BIN)/ferret analyze $(TRACE) --limit 8
	@echo
	$(BIN)/ferret analyze $(TRACE) --tree --depth 3
	@echo
	$(BIN)/ferret export $(TRACE) --output demo/service.html
	@printf '\n%s\n\n' 'So much for spans that a program makes itself. Now all functions of one that knows nothing of ferret:'
	$(BIN)/ferret run --all --output $(FUNCTIONS) -m pygments -f html -o demo/highlighted.html examples/service.py
	@echo
	$(BIN)/ferret analyze $(FUNCTIONS) --limit 8
	@echo
	$(BIN)/ferret export $(FUNCTIONS) --output demo/functions.html
	@printf '\n%s\n' 'Open demo/service.html and demo/functions.html in a browser. What to try next:'
	@printf '  %s\n' \
		'$(BIN)/ferret view $(TRACE)' \
		'$(BIN)/ferret analyze $(TRACE) --slowest 3' \
		'$(BIN)/ferret run --help' \
		'make demo WRITER=process'
	@echo 'How the spans of the service were made is in examples/service.py.'

test: lint types docs pytest ## Everything that must pass: lint, types, docs, pytest

lint: setup ## Check style, formatting, and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

format: setup ## Format, and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: setup ## Check types
	$(BIN)/mypy

docs: setup ## Build the docs into docs/_build/html; warnings are errors
	@if [ ! -f docs/conf.py ]; then echo 'docs/conf.py is missing: no docs are built'; \
	else set -x; $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html; fi

pytest: setup browser ## Run the tests
	$(BIN)/pytest -n auto --dist loadgroup

explore: setup ## The property tests with EXAMPLES (1_000) examples each, others each time; `make test` has the same 60
	HYPOTHESIS_PROFILE=explore HYPOTHESIS_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n auto --dist loadgroup -m hypothesis $(TESTS)

soak: setup ## The faults that take long, then random programs under random faults, judged one by one, for SECONDS (600)
	$(BIN)/pytest -n auto --dist loadgroup -m soak $(TESTS)
	$(BIN)/python tests/soak/soak.py --seconds $(SECONDS) --result docs/soak-result.txt

soak-long: setup ## SPANS (10_000_000) through each writer into a sink that often fails, each span accounted for
	$(BIN)/python -W ignore tests/soak/many.py --spans $(SPANS) --sink $(SINK)

break: setup ## Break each promise on purpose, in a copy, and see its tests fail (ONLY=word: some)
	$(BIN)/python tests/breaking/breaking.py --only "$(ONLY)" --result docs/break-result.txt

bench: setup ## Measure ferret beside its peers (tens of minutes; KINDS="cost lag", BENCH=--quick or --ours: less)
	$(BIN)/python -m benchmarks.run $(KINDS) --rounds $(ROUNDS) $(BENCH)

bench-compare: setup ## Put the last measurement beside the baseline; a slow-down fails
	$(BIN)/python -m benchmarks.compare

bench-keep: setup ## Make the last measurement the baseline, and write docs/benchmarks.md from it
	$(BIN)/python -m benchmarks.compare --keep

clean: ## Remove what all this left behind, except the virtual environments
	rm -rf demo docs/_build build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

# 3.14 comes last as long as datasketches has no wheels for it: pip would have to compile it.
# PYENV_VERSION lets pyenv start a python3.x that is not the one selected here; nobody else minds it.
# A change to the native twin has it built again.
$(READY): pyproject.toml setup.py ferret/_native.c ferret/_queue.c
	@set -e; \
	try() { PYENV_VERSION=$$2 "$$1" -c 'import ensurepip, sys; assert sys.version_info >= (3, 12); print(sys.executable)'; }; \
	newest() { try python3.13 3.13 || try python3.12 3.12 || try python3.14 3.14 || try python3; }; \
	if [ -n '$(PYTHON)' ]; then find='try $(PYTHON)'; else find=newest; fi; \
	python=$$($$find 2>/dev/null) || { \
		echo 'ferret needs Python 3.12 or newer, with venv and pip; $(if $(PYTHON),$(PYTHON) is none,this machine has none).'; \
		echo 'Install one, or say where one is: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python'; exit 1; } >&2; \
	echo "Setting up $(VENV) with $$("$$python" --version), which takes about a minute …"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV); \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
