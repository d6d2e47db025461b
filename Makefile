# One target for each task. A bare machine needs Python 3.11 or newer, and make.
.DEFAULT_GOAL := help
.PHONY: help install run worker cluster providers demo token studio graphiql screenshots format check test resilience attack schema bench audit sbom lock clean

export UV_PYTHON_DOWNLOADS := never
# Some machines ask Python to keep no bytecode. Then each process, of which the tests start hundreds,
# compiles everything that it imports: that takes longer than all else it does at its start.
export PYTHONDONTWRITEBYTECODE :=
export VIEWER ?= ana
export PROVIDER
KILLS ?= 500
CUTS ?= 1000
# More than a small machine has cores: much of a test's time is waiting.
WORKERS ?= 5
ROUNDS ?= 3
ANSWERS ?= 5000
TURNS ?= 100000
INPUTS ?= 5000
PICTURES ?= 5000
EDITS ?= 200
EXPORTED ?= 2000
DOCUMENTS ?= 1000
SEED ?=
PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet install
# $(call fetch,FILE,COMMAND): into .venv, what the lock names and nothing else. With pip where there is no uv.
fetch = echo "Installing requirements/$(1).txt into .venv" >&2; \
	{ $(FETCH_UV) && .venv/bin/uv pip $(2) requirements/$(1).txt --quiet --require-hashes --python $(PYTHON) || \
	$(PIP) --require-hashes --requirement requirements/$(1).txt; } >&2
FETCH_UV = $(PIP) --require-hashes --requirement requirements/uv.txt

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: .venv/dev ## Make .venv with everything that development needs

run: .venv/mongod ## Serve on this machine, with a built-in mongod; Ctrl-C stops both
	@exec $(PYTHON) -m serve

worker: .venv/app ## Run outputs beside `make run` or elsewhere, with DARKROOM_NATS_URL; any number of them
	@exec $(PYTHON) -m worker

cluster: .venv/dev .venv/s3/installed ## Run what deploy/compose.yaml runs as plain processes: CHECK=1 tries it, TRIALS=1 takes each part away once
	@exec $(PYTHON) -m $(if $(TRIALS),tests.cluster.trials --rounds $(TRIALS),tests.cluster.cluster $(if $(CHECK),--check))

providers: .venv/app ## Make one cheap image with each provider that has a key: make providers PROVIDER=fal V=1
	@exec $(PYTHON) -m commands.check_providers $(if $(V),--verbose) $${PROVIDER:+"$$PROVIDER"}

demo: .venv/app ## Edit an image with the Darkroom that `make run` serves, and print each step
	@exec $(PYTHON) -m examples.demo

token: .venv/app ## Print a development token: make -s token VIEWER=ana
	@exec $(PYTHON) -m commands.token "$$VIEWER"

studio: studio/node_modules/.package-lock.json ## Build the studio into studio/build, which is committed (needs Node)
	@cd studio && npm run --silent check && npm run --silent build

graphiql: graphiql/node_modules/.package-lock.json ## Build GraphiQL into graphiql/build, for /graphiql in development (needs Node)
	@cd graphiql && npm run --silent build -- --logLevel error

screenshots: .venv/dev ## Take pictures of every view of the studio, to be looked at: make screenshots OUT=folder
	@$(PYTHON) -m tests.studio.screenshots $(OUT)
OUT ?= .screenshots

format: .venv/dev ## Format the code, and fix what can be fixed automatically
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

check: .venv/dev ## Check format, lint, types and which layer imports which
	@.venv/bin/ruff format --check . && .venv/bin/ruff check .
	@.venv/bin/mypy && .venv/bin/lint-imports

test: .venv/dev .venv/sdks/installed .venv/s3/installed .venv/compiled ## Run the tests, or some: make test T=tests/test_auth.py
	@MAKEFLAGS= $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(T)

resilience: .venv/dev .venv/sdks/installed .venv/s3/installed ## Kill things, change answers and edit images at random: make resilience KILLS=500 CUTS=1000 ANSWERS=5000 EDITS=200 SEED=…
	@DARKROOM_TEST_KILLS=$(KILLS) DARKROOM_TEST_CUTS=$(CUTS) DARKROOM_TEST_ANSWERS=$(ANSWERS) DARKROOM_TEST_EDITS=$(EDITS) DARKROOM_TEST_SEED=$(SEED) \
	DARKROOM_TEST_TURNS=$(TURNS) DARKROOM_TEST_INPUTS=$(INPUTS) DARKROOM_TEST_PICTURES=$(PICTURES) \
	DARKROOM_TEST_DOCUMENTS=$(DOCUMENTS) DARKROOM_TEST_EXPORTED=$(EXPORTED) \
	$(PYTHON) -m pytest -s --timeout 0 tests/resilience tests/promises tests/providers/test_mutated_answers.py tests/deploy tests/storage/test_edits.py tests/storage/test_model_stats.py tests/api/test_exports.py tests/api/test_large_imports.py tests/studio/test_gallery.py tests/edge/test_compiled.py tests/edge/test_hostile_inputs.py tests/storage/test_uploaded_pictures.py tests/domain tests/edge/test_broken_text.py tests/edge/test_numbers.py tests/edge/test_react_native.py tests/providers/test_captions.py tests/storage/test_output_rules.py

attack: .venv/dev ## Attack a Darkroom in production with large counts, and print what it costs others: make attack SCALE=1 SECONDS=600
	@DARKROOM_TEST_SEED=$(SEED) $(PYTHON) -m tests.attacks --scale $(SCALE) --seconds $(SECONDS)
SCALE ?= 1
SECONDS ?= 600

schema: .venv/dev ## Write schema.graphql from the code
	@$(PYTHON) -m resolvers.root > .schema.new && mv .schema.new schema.graphql

bench: .venv/dev ## Measure beside a bare relay, and write docs/performance.md: make bench ROUNDS=3
	@$(PYTHON) -m bench --rounds $(ROUNDS) --report && $(PYTHON) -m bench.providers && $(PYTHON) -m bench.captions

audit: .venv/audit/installed ## Compare what is locked with published advisories; this needs the internet
	@.venv/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(AUDITED:%=--requirement requirements/%.txt) || \
	{ echo "Not audited, or not all is well: the lines above say which. Without the internet nothing is checked." >&2; exit 1; }
AUDITED ?= app mongod dev s3 sdks sbom uv

sbom: .venv/sbom/installed ## Write what the image contains to sbom.cdx.json, as CycloneDX
	@.venv/sbom/bin/cyclonedx-py requirements requirements/app.txt --pyproject pyproject.toml --output-reproducible --output-file sbom.cdx.json 2>/dev/null

lock: .venv/bin/uv ## Write requirements/*.txt from *.in: make lock U=--upgrade for newer ones
	@$(LOCK) requirements/uv.in --output-file requirements/uv.txt
	@$(LOCK) requirements/app.in --output-file requirements/app.txt
	@$(LOCK) requirements/c2pa.in --constraint requirements/app.txt --output-file requirements/c2pa.txt
	@$(LOCK) requirements/otel.in --constraint requirements/app.txt --constraint requirements/c2pa.txt --output-file requirements/otel.txt
	@$(LOCK) requirements/mongod.in --output-file requirements/mongod.txt
	@$(LOCK) requirements/dev.in --constraint requirements/app.txt --constraint requirements/c2pa.txt --constraint requirements/otel.txt --constraint requirements/mongod.txt --output-file requirements/dev.txt
	@$(LOCK) requirements/sdks.in --output-file requirements/sdks.txt
	@$(LOCK) requirements/s3.in --output-file requirements/s3.txt
	@$(LOCK) requirements/audit.in --output-file requirements/audit.txt
	@$(LOCK) requirements/sbom.in --output-file requirements/sbom.txt
LOCK = .venv/bin/uv pip compile $(U) --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

clean: ## Remove .venv and all caches; the data in .data stays
	@rm -rf .venv studio/node_modules graphiql/node_modules graphiql/build .screenshots .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/app: requirements/app.txt | $(PYTHON)
	@$(call fetch,app,install --requirements) && touch $@

.venv/mongod: requirements/mongod.txt .venv/app
	@$(call fetch,mongod,install --requirements) && touch $@

# All of app.txt and mongod.txt is in dev.txt.
.venv/dev: requirements/dev.txt | $(PYTHON)
	@$(call fetch,dev,sync) && touch .venv/app .venv/mongod $@

# Each of these has a virtual environment of its own: what they need is not what Darkroom needs.
.venv/sdks/installed .venv/s3/installed .venv/audit/installed .venv/sbom/installed: .venv/%/installed: requirements/%.txt | .venv/dev
	@echo "Installing requirements/$*.txt into .venv/$*" >&2
	@{ .venv/bin/uv venv --quiet --clear --python $(PYTHON) .venv/$* && \
	.venv/bin/uv pip sync requirements/$*.txt --quiet --require-hashes --python .venv/$*/bin/python || \
	{ $(PYTHON) -m venv --clear .venv/$* && \
	.venv/$*/bin/python -m pip --quiet install --require-hashes --requirement requirements/$*.txt; }; } >&2
	@touch $@

# The tests' processes start at the same time, and each would compile all that it imports: 9 s each.
# What is wrong with it is what they say.
.venv/compiled: .venv/dev
	@$(PYTHON) -m pytest --collect-only --quiet >/dev/null 2>&1 || true
	@touch $@

studio/node_modules/.package-lock.json graphiql/node_modules/.package-lock.json: %/node_modules/.package-lock.json: %/package-lock.json
	@npm ci --prefix $* --silent && touch $@

.venv/bin/uv: requirements/uv.txt | $(PYTHON)
	@$(FETCH_UV) >&2 && touch $@

$(PYTHON):
	@for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -m venv --clear .venv >&2 && exit; rm -rf .venv; \
	    echo "$$python cannot make a .venv (on Debian and Ubuntu it needs the package python3-venv)." >&2; exit 1; \
	  fi; \
	done; echo "Darkroom needs Python 3.11 or newer, and found none on PATH." >&2; exit 1
