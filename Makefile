# `make` lists what can be done here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# One thread per process: spinning threads on few cores cost more than they give (docs/decisions/0003).
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup lock wheel wheelhouse sbom demo demo-federation bench-federation test test-slow test-all check format stubs docs bench bench-tasks bench-robustness bench-ablation bench-leakage bench-together bench-tables bench-protocol fuzz conformance clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(READY) ## install everything into .venv

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# pip prefers a CPU build of torch where its index or PIP_FIND_LINKS offers one; uv asks UV_INDEX and UV_FIND_LINKS.
LOCK   := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links
EXTRAS := --extra calls --extra federation --extra onnx --extra parquet --extra private

lock: $(READY) ## rewrite deploy/locks (UPGRADE=--upgrade: newer releases; UV_FIND_LINKS or UV_INDEX: where CPU torch lies)
	$(LOCK) --constraint deploy/locks/cpu.in $(EXTRAS) --output-file deploy/locks/cpu-extras.txt
	$(LOCK) --constraint deploy/locks/cpu-extras.txt --output-file deploy/locks/cpu.txt
	env -u UV_INDEX -u UV_FIND_LINKS $(LOCK) --output-file deploy/locks/cuda.txt

wheel: $(READY) ## build the wheel of the last commit into build/dist, the same bytes each time
	deploy/wheel build/dist

WHEELHOUSE ?= build/wheelhouse

wheelhouse: $(READY) ## collect in WHEELHOUSE what a site without a network installs (docs/air-gapped.md)
	$(BIN)/python -m deploy.wheelhouse $(WHEELHOUSE)

build/locked: deploy/locks/cpu.txt
	$(PYTHON) -m venv --clear $@
	$@/bin/python -m pip install --quiet --only-binary :all: --require-hashes --requirement $<
	@touch $@

sbom: $(READY) build/locked ## write what a locked install consists of, as CycloneDX, to build/ecan-ser.cdx.json
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/ecan-ser.cdx.json \
		build/locked/bin/python

demo: $(READY) ## both sites on this machine, end to end (SOURCE=recipe=path TARGET=labels.csv for real corpora)
	$(BIN)/python -m benchmarks.demo --fetch-encoders $(if $(SOURCE),--source $(SOURCE)) $(if $(TARGET),--target $(TARGET)) $(if $(CLASSES),--classes $(CLASSES))

demo-federation: $(READY) ## a coordinator and three sites on loopback, masked and private, to a signed bundle (3 minutes; 6 with CORPORA)
	$(BIN)/python -m benchmarks.demo_federation --secure --private 8 $(if $(CORPORA),--corpora $(CORPORA))

test: $(READY) ## the quick tests
	$(BIN)/python -m pytest -q -m 'not slow and not corpus and not journey and not hostile' -n 2 --dist worksteal

# Three workers for two cores: many of these tests wait for processes. A file stays with one worker, which sets its
# fixtures up once, and files go out in the order of tests/conftest.py.
test-slow: $(READY) ## the slower tests: real processes, hostile inputs and, where present, real corpora
	$(BIN)/python -m pytest -q -m 'slow or corpus or journey or hostile' -n 3 --dist loadfile --no-loadscope-reorder

test-all: test test-slow ## every test

check: $(READY) ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## mend what a formatter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

CORPORA ?= ../shared/corpora

bench: $(READY) ## the default method on real corpora through the commands (CORPORA=folder)
	$(BIN)/python -m benchmarks.pairs --corpora $(CORPORA)

bench-tasks: $(READY) ## every method on every ordered pair of CORPORA, in process (10 to 20 minutes)
	$(BIN)/python -m benchmarks.tasks --corpora $(CORPORA)

bench-robustness: $(READY) ## targets that are not as a benchmark has them (30 minutes)
	$(BIN)/python -m benchmarks.robustness --corpora $(CORPORA)

bench-ablation: $(READY) ## the terms and forms of ECAN's losses one by one (30 minutes)
	$(BIN)/python -m benchmarks.ablation --corpora $(CORPORA)

bench-leakage: $(READY) ## what models remember, by how they were trained (an hour)
	$(BIN)/python -m benchmarks.leakage --run --corpora $(CORPORA)

bench-federation: $(READY) ## pooled, federated and alone on a corpus that no site has (20 minutes)
	$(BIN)/python -m benchmarks.federation --corpora $(CORPORA)

bench-together: $(READY) ## three sites of a target corpus, alone and together (20 minutes)
	$(BIN)/python -m benchmarks.together --corpora $(CORPORA)

bench-tables: $(READY) ## rewrite the tables of the documents from benchmarks/results
	for name in tasks pairs robustness ablation leakage federation together; do $(BIN)/python -m benchmarks.$$name --table || exit 1; done

bench-protocol: $(READY) ## verification, transfer, floods, flipped bits, kills (25 minutes)
	$(BIN)/python -m benchmarks.protocol --run

fuzz: $(READY) ## every parser of foreign bytes, FUZZ_SECONDS each (60); guided if .[fuzz] is installed
	$(BIN)/python -m tests.fuzz

conformance: $(READY) ## the cases for other implementations, against our client and the second reader
	for client in target_site.conformance tests.conformance.second; do \
		$(BIN)/python -m protocol.conformance.cli run --codes --client "$(BIN)/python -m $$client" || exit 1; done

docs: $(READY) ## build the documentation and its reference into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

stubs: $(READY) ## generate the gRPC messages from the .proto
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. protocol/wire/ecan/v1/release.proto

clean: ## remove what the targets made
	rm -rf $(VENV) build demo-out .pytest_cache .mypy_cache .ruff_cache
