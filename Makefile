# The same few commands for people and for CI. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

GPU_WHEELS := --quiet --dest .gpu-wheels --only-binary=:all: --implementation cp --python-version 3.12 \
	$(foreach tag,manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1,--platform $(tag)_x86_64)

DOORS := src/elastic_inference/accelerator/doors

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch lint format bench bench-isolation bench-lease bench-storm bench-page bench-explorer bench-engines bench-pool bench-models bench-clients gpu-check gpu-wheels generate release clean test-clients test-containers docs bench-pool-real demo-pool

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## Detect objects on a real clip without and with an accelerator; writes demo-output/
	$(BIN)/ei demo --output demo-output

test: $(VENV)/.dev .venv-aws/.done browser ## Install everything and run all tests, JOBS=2 at a time
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

test-torch: .venv-torch/.done ## Run the tests of PyTorch models in an environment of their own (5.5 GB, once)
	.venv-torch/bin/python -m pytest tests/torch $(ARGS)

test-clients: $(VENV)/.dev .venv-clients/.done ## Run other makers' clients, unmodified, against an accelerator (150 MB, once)
	$(BIN)/python -m pytest tests/clients $(ARGS)

docs: $(VENV)/.dev ## Build the documents as a site, with every link checked; writes site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file deploy/site/mkdocs.yml

test-containers: $(VENV)/.dev .container-base/.done ## Build the containers by buildah and call them (Linux, root, debootstrap; 1.5 GB, 6 minutes)
	EI_TEST_CONTAINER_BASE=$(CURDIR)/.container-base/debian $(BIN)/python -m pytest tests/deploy/test_containers.py $(ARGS)

lint: $(VENV)/.dev ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure the data path beside raw sockets and other servers (about 10 minutes; root for one row)
	$(BIN)/python -m benchmarks.dataplane.setup_peers
	$(BIN)/python -m benchmarks.dataplane --json benchmark-dataplane.json

bench-isolation: $(VENV)/.dev ## Measure whether fractions hold beside bad neighbours (about 25 minutes; needs EI_SHARED)
	$(BIN)/python -m benchmarks.isolation --json benchmark-isolation.json

bench-lease: $(VENV)/.dev ## Measure whether a device shared by lease is shared as asked (about 30 minutes)
	$(BIN)/python -m benchmarks.lease --json benchmark-lease.json

bench-engines: $(VENV)/.dev ## Measure what batching gives, loads cost, and a picture costs in each precision (about 40 minutes; most need EI_SHARED)
	$(BIN)/python -m benchmarks.engines --json benchmark-engines.json

bench-page: $(VENV)/.dev browser ## Measure what the host's page costs with 200 accelerators and 50 browsers (about 14 minutes)
	$(BIN)/python -m benchmarks.page --json benchmark-page.json

bench-clients: $(VENV)/.dev ## Measure NVIDIA's perf_analyzer against us and against Triton (150 MB once, about 4 minutes)
	$(BIN)/python -m benchmarks.clients --json benchmark-clients.json

bench-storm: $(VENV)/.dev ## Measure what two storms of faults do to a host and its clients (about 6 minutes; root for some faults)
	$(BIN)/python -m benchmarks.storm --json benchmark-storm.json
	$(BIN)/python -m benchmarks.storm --cpu-sharing lease --database sqlite --seed 2 --json benchmark-storm-lease.json

bench-explorer: $(VENV)/.dev ## Measure how few combinations the search needs (about 3 minutes)
	$(BIN)/python -m benchmarks.explorer.simulation -o benchmark-explorer.json

bench-pool: $(VENV)/.dev ## Measure how well and quickly a pool places and simulates (about 3 minutes)
	$(BIN)/python -m benchmarks.pool --json benchmark-pool.json

bench-pool-real: $(VENV)/.dev ## Measure what deaths of nodes and of the pool service cost clients (about 8 minutes; needs ray)
	$(BIN)/python -m benchmarks.pool.real --json benchmark-pool-real.json

demo-pool: $(VENV)/.dev ## Show a pool on Ray: a node dies under calls, and its accelerator comes back elsewhere (a minute)
	$(BIN)/python -m benchmarks.pool.demo

bench-models: $(VENV)/.dev ## Run over 100 models of other people beside their own runtimes (700 MB once, an hour; goes on where it stopped)
	$(BIN)/python -m benchmarks.models --json benchmarks/models/results.json $(ARGS)

gpu-wheels: ## Fetch what gpu-check needs on a machine with an NVIDIA GPU, Python 3.12 and PyTorch but no registry (15 MB)
	rm -rf .gpu-wheels
	$(PYTHON) -m pip download $(GPU_WHEELS) pydantic
	$(PYTHON) -m pip download $(GPU_WHEELS) --no-deps httptools hpack fastapi starlette annotated-doc uvicorn \
		sqlalchemy alembic mako cryptography cffi pycparser opentelemetry-api
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir .gpu-wheels .

gpu-check: ## Measure what this machine's GPU gives, with its own python3 and PyTorch (8 minutes); writes gpu-check/
	test ! -d .gpu-wheels || $(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
		--target .gpu-site .gpu-wheels/*.whl
	PYTHONPATH=$(CURDIR)/src:$(CURDIR):$(CURDIR)/.gpu-site $(PYTHON) -m benchmarks.gpu -o gpu-check $(ARGS)

generate: $(VENV)/.dev ## Make the generated files again: protobuf messages, table of TensorFlow's operations, commands.md
	cd src && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. elastic_inference/models/graph.proto
	for door in grpc tensorflow_serving; do (cd $(DOORS)/$$door/protos && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I. \
		--include_imports --descriptor_set_out=services.binpb *.proto); done
	$(BIN)/python -m elastic_inference.models.generate_operations
	$(BIN)/python -m elastic_inference.cli._document > docs/commands.md

release: .venv-release/.done ## Build sdist and wheel into dist/, check them, and run the demo from the wheel alone (1 GB, once)
	rm -rf dist
	.venv-release/bin/python -m build --outdir dist .
	.venv-release/bin/python -m twine check --strict dist/*
	test -x .venv-wheel/bin/python || $(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip --disable-pip-version-check --quiet install --upgrade-strategy only-if-needed \
		"$$(echo dist/*.whl)[all,tensorflow]"
	.venv-wheel/bin/python -m pip --disable-pip-version-check --quiet install --force-reinstall --no-deps dist/*.whl
	.venv-wheel/bin/python -m pip check
	cd .venv-wheel && env -u PYTHONPATH bin/ei demo --frames 20 --output demo-output

clean: ## Remove environments and outputs
	rm -rf dist site .container-base .venv .venv-* .tensorflow-serving-api .gpu-* gpu-check demo-output *.egg-info src/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "installing elastic-inference with its engines (about 1 GB, once)"
	$(PIP) install --editable '.[all,tensorflow]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing elastic-inference with what its tests need (once)"
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.demo

# Amazon's own clients of the retired service need versions of their own.
.venv-aws/.done:
	$(PYTHON) -m venv .venv-aws
	.venv-aws/bin/python -m pip --disable-pip-version-check --quiet install boto3==1.36.26 awscli==1.37.26
	@touch $@

# Clients as others install them, whose versions and messages would meet ours in one environment.
.venv-clients/.done: Makefile
	test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip --disable-pip-version-check --quiet install \
		'tritonclient[http,grpc]==2.73.0' kserve==0.21.0 open-inference-openapi==2.0.0.1 \
		mlcommons-loadgen==6.0.17 schemathesis==4.32.5
	test -x .venv-ovms/bin/python || $(PYTHON) -m venv .venv-ovms
	.venv-ovms/bin/python -m pip --disable-pip-version-check --quiet install ovmsclient==2023.1
	$(PYTHON) -m pip --disable-pip-version-check --quiet install --no-deps --upgrade --target .tensorflow-serving-api \
		tensorflow-serving-api==2.21.0
	@touch $@

.venv-release/.done: Makefile
	test -x .venv-release/bin/python || $(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip --disable-pip-version-check --quiet install 'build>=1.2' 'twine>=6'
	@touch $@

.container-base/.done:
	mkdir -p .container-base
	rm -rf .container-base/debian
	debootstrap --variant=minbase --include=ca-certificates bookworm .container-base/debian
	@touch $@

# PyPI's torch brings the libraries of CUDA, which nothing else here needs.
.venv-torch/.done: pyproject.toml
	@echo "installing PyTorch and what its tests need (5.5 GB, once)"
	test -x .venv-torch/bin/python || $(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[host,torch]' torchvision \
		pytest pytest-timeout
	@touch $@

.PHONY: browser
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no chromium: the tests of the report and the page in a browser are skipped (install Debian's package chromium)"
