# Everything a fresh machine needs is python3 (with venv and pip) and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo run wheel test lint format prove bench lock docs clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Set up the virtual environment from the lock file

$(STAMP): $(VENV)/.dependencies pyproject.toml
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index --editable . 2>/dev/null
	@touch $@

$(VENV)/.dependencies: requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(STAMP) ## The whole story on one screen; ends by itself
	@$(BIN)/forwarder demo

run: $(STAMP) ## A daemon in the foreground, delivering to a local stand-in; Ctrl-C ends both
	@cat config/try.txt
	@$(BIN)/forwarder receive --http 127.0.0.1:8770 & receiver=$$!; \
	trap 'kill $$receiver 2>/dev/null' EXIT; trap : INT TERM; \
	$(BIN)/forwarder run --config config/local.toml

wheel: $(STAMP) ## The wheel, into dist/; nothing is fetched for it
	@rm -rf build/lib build/bdist.*
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist .
	@ls dist/forwarder-*.whl

test: $(STAMP) ## The tests (minutes)
	$(BIN)/pytest

lint: $(STAMP) ## ruff, mypy --strict, import-linter, generated docs are current
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

format: $(STAMP) ## Let ruff tidy up
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

prove: $(STAMP) ## The slow proofs: real npm SDK, image, systemd, power cut (PROOFS=FILES for some of them)
	$(BIN)/pytest -m prove -o timeout=900 $(PROOFS)

bench: $(STAMP) ## The performance table, with baselines in the same run
	$(BIN)/python -m benchmarks

docs: $(STAMP) ## Renew the generated pages
	$(BIN)/python -m docs.generate

lock: $(STAMP) ## Renew the lock files
	$(BIN)/pip-compile --quiet --upgrade $(LOCKFLAGS) --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade $(LOCKFLAGS) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

LOCKFLAGS := --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header

clean: ## Remove what make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
