# Each target works on a fresh checkout; the first one to run makes the environment in .venv.
PYTHON ?= $(shell for python in python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin

.PHONY: demo run test test-clients check format bench simulate clean

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed; name one with: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: .venv/ready  ## the main job against an embedded stand-in for the backend
	@$(BIN)/openai-auth demo

run: .venv/ready  ## the proxy for real
	$(BIN)/mitmdump -s addon/main.py

test: .venv/ready  ## every test but those with real clients
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 --dist loadgroup -q

test-clients: .venv/ready  ## the contract with real clients, each installed as its registry has it
	$(BIN)/python -m tests.clients.install
	$(BIN)/pytest -n 2 --dist loadgroup -q -m clients tests/clients

check: .venv/ready  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready  ## side by side: direct, plain mitmdump, the proxy
	$(BIN)/python -m tests.bench

simulate: .venv/ready  ## the routing modes on accounts whose quota moves: refusals, switches, cached tokens
	$(BIN)/python -m tests.simulation

clean:
	rm -rf .venv .clients .mypy_cache .ruff_cache .pytest_cache
