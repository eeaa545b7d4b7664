# Short words for every task; CI calls the same ones.
#   make run     set up and start the relay on tcp://localhost:16273
#   make test    set up and run the tests
#   make check   lint, types and the dependency contracts
#   make soak    the long forms of the tests of mail, loss and limits, and fuzzing; an hour or two
#   make bench   measure the relay beside its peers, stored messages and the models, and make the pages of it; most of an hour
#   make bench-pages   make the pages, tables and pictures anew from what was measured (bench/*.json)
#   make guard-renew   count the instructions of the hot paths anew, which tests/guard holds later ones against
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check soak bench bench-pages guard-renew format lock clean

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hailer needs Python 3.11 or later: $$($(PYTHON) --version) is older; name another with make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY)
	@$(BIN)/hailer relay; code=$$?; [ $$code -eq 130 ] || exit $$code  # 130: ended by Ctrl-C, as meant

test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

check: $(READY)
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

soak: $(READY)
	@HAILER_LONG=1 $(BIN)/python -m pytest tests/relay $(ARGS)
	@for target in relay client framings endpoints; do \
		$(BIN)/python -m fuzz $$target && $(BIN)/python -m fuzz $$target --plain || exit 1; done

format: $(READY)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# Status 1: something could not be measured, which the results note. ARGS are for each, such as ARGS=--short.
BENCH := $(BIN)/hailer bench
bench: $(READY)
	@$(BENCH) relay $(ARGS) --no-plots --json bench/relay.json || [ $$? -eq 1 ]
	@$(BENCH) relay --durable $(ARGS) --no-plots --json bench/durable.json || [ $$? -eq 1 ]
	@$(BENCH) models $(ARGS) --no-plots --json bench/models.json || [ $$? -eq 1 ]
	@$(BIN)/python -m bench.pages

bench-pages: $(READY)
	@$(BIN)/python -m bench.pages

# For this Python; for others too: make guard-renew PYTHONS="python3.12 python3.13". They need no packages.
PYTHONS ?= $(BIN)/python
guard-renew: $(READY)
	@for python in $(PYTHONS); do PYTHONPATH=src $$python -m tests.guard.counting || exit 1; done

# The lock is made without writing any index address into it.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
