# foryou-stream: `make` alone says what there is to do.

PYTHON ?= $(shell for python in python3.12 python3.11 python3 python; do \
	if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; \
	then echo $$python; break; fi; done)
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
OUT := out

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-model results test test-full lint types bench bench-quick bench-kafka docs requirements clean

help: ## say what there is to do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or 3.12 is needed; name one with make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	touch $(READY)

setup: $(READY) ## make the virtual environment from pinned, hashed requirements

demo: $(READY) ## simulate a small social world, replay it, and show feeds with their reasons
	$(RUN) run_flow.py simulate $(OUT)/demo/log.jsonl.zst --preset demo --faults 0.002
	$(RUN) run_flow.py replay $(OUT)/demo/log.jsonl.zst --out $(OUT)/demo/feeds --show 2

demo-model: $(READY) ## train the demo's model anew (models/trained/demo.phoenix)
	$(RUN) run_flow.py simulate $(OUT)/demo/before.jsonl.zst --preset before-demo
	$(RUN) -m benchmarks.world.training $(OUT)/demo/before.jsonl.zst --out models/trained/demo.phoenix

results: $(READY) ## measure on real and simulated data and write docs/results/ (some hours on two cores)
	$(RUN) -m benchmarks.twitter2010
	$(RUN) -m benchmarks.kuairand
	$(RUN) -m benchmarks.real_logs
	$(RUN) -m benchmarks.world
	$(RUN) -m benchmarks.behaviours
	$(RUN) -m benchmarks.new_posts

test: $(READY) lint types ## check style and types, and run the tests
	$(RUN) -m pytest -m "not full" --numprocesses 2 --dist loadfile

test-full: $(READY) lint types ## everything in `make test`, and the long runs
	$(RUN) -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

bench: $(READY) ## measure speed and memory, peers and limits in the same run
	$(RUN) run_flow.py bench

bench-quick: $(READY) ## the same in about a minute, with smaller sets
	$(RUN) run_flow.py bench --quick

bench-kafka: $(READY) ## the job on Kafka under load: broker, job and generator on this machine (half an hour)
	$(RUN) -m benchmarks.kafka

docs: $(READY) ## write the generated documents and JSON Schemas anew
	$(RUN) -m schemas.json_schemas
	$(RUN) -m docs.generate
	$(RUN) -m infra.kafka.asyncapi
	$(RUN) -m infra.deploy.generate

requirements: $(READY) ## pin the requirements anew, with hashes, for Python 3.11 and 3.12 (needs uv)
	uv pip compile pyproject.toml --group dev --extra benchmarks --universal --fork-strategy fewest --generate-hashes \
		--no-annotate --no-header --quiet --upgrade --output-file requirements.txt
	uv pip compile pyproject.toml --universal --fork-strategy fewest --generate-hashes \
		--no-annotate --no-header --quiet --constraint requirements.txt --output-file infra/deploy/requirements.txt

clean: ## remove what was made, the virtual environment too
	rm -rf $(VENV) $(OUT)
