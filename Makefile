# install, format, check, test; demo fixes a bug with a model on this machine; bench measures.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
VLLM_VENV ?= .venv-vllm
REPOSITORIES ?= build/repositories
SEED ?= 1
SECONDS ?= 600
# Tests wait for servers and processes half of their time.
WORKERS ?= $(shell echo $$(( ( $$(nproc) * 3 + 1 ) / 2 )))
SOURCES := miyabi_cli tests benchmarks scripts

.PHONY: install format check test test-vllm test-real soak demo bench generate

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[embedded,sandbox]' --group dev
	touch $@

format: install
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

check: install
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# COVERAGE=1 measures lines too, which takes half as long again.
test: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(if $(COVERAGE),--cov --cov-report term:skip-covered)

# A real vLLM on this machine's processors, with a tiny model that says what the tests have written.
test-vllm: install
	$(PYTHON) tests/vllm/install.py $(VLLM_VENV)
	MIYABI_TEST_VLLM=$(VLLM_VENV) $(BIN)/python -m pytest tests/vllm

# Open-source projects at historical commits: the fix that each made is replayed; what is missing is cloned.
test-real: install
	$(BIN)/python -m tests.real.clone $(REPOSITORIES)
	MIYABI_TEST_REPOSITORIES=$(REPOSITORIES) $(BIN)/python -m pytest tests/real

# Faults over many seeds, and many more examples for the properties; `make soak SEED=7 SECONDS=3600` goes on from another for an hour.
soak: install
	$(BIN)/python -m tests.faults.soak --seed $(SEED) --seconds $(SECONDS)
	MIYABI_TEST_EVERY=1 $(BIN)/python -m pytest --numprocesses auto tests/test_killed.py tests/faults
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest --numprocesses auto tests/properties

demo: install
	demo/run $(BIN)

bench: install
	$(BIN)/python benchmarks/overhead.py

generate: install
	$(BIN)/python scripts/generate.py
