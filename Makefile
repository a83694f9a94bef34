# Nightforge. `make help` lists everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CONFIG ?= configs/demo.yaml

# Recursive, so that an environment is made when a target needs it and not before.
AIRFLOW_PYTHON = $(shell docker/make-env.sh airflow)
RAY_PYTHON = $(shell docker/make-env.sh ray)
export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins:$(CURDIR)/dags
export HF_HUB_OFFLINE ?= 1

# Processes of one pytest run, and their order: integration tests first, as they are the longest (docs/tests.md).
TEST_WORKERS ?= 2
PYTEST = -m pytest -n $(TEST_WORKERS) --no-loadscope-reorder

SOURCES := voc corpus training evaluation demo dags plugins tests benchmarks

##@ Run

.PHONY: demo
demo: env ## Run one night for real on this machine and print the study's table (CONFIG=configs/demo.yaml)
	@NIGHTFORGE_AIRFLOW_PYTHON=$(AIRFLOW_PYTHON) $(RAY_PYTHON) -m demo.twin run --config $(CONFIG)

.PHONY: up
up: env ## Start Ray, Airflow and the store and keep them running, with the UI and the dashboard
	@NIGHTFORGE_AIRFLOW_PYTHON=$(AIRFLOW_PYTHON) $(RAY_PYTHON) -m demo.twin up --config $(CONFIG)

.PHONY: down
down: ## End what `make up` started
	@$(RAY_PYTHON) -m demo.twin down

.PHONY: env
env: ## Make both environments and print their interpreters
	@docker/make-env.sh airflow >/dev/null && docker/make-env.sh ray >/dev/null
	@echo "AIRFLOW_PYTHON=$$(docker/make-env.sh airflow)"
	@echo "RAY_PYTHON=$$(docker/make-env.sh ray)"

##@ Check

.PHONY: test
test: env lint test-airflow test-ray ## Lint and all tests, the DAG for real included; the last lines are pytest's

.PHONY: lint
lint: env ## ruff, format, mypy and the import contracts
	@$(RAY_PYTHON) -m ruff check $(SOURCES)
	@$(RAY_PYTHON) -m ruff format --check $(SOURCES)
	@$(RAY_PYTHON) -m mypy voc corpus training evaluation demo dags plugins/rayjob_provider benchmarks
	@$$(dirname $(RAY_PYTHON))/lint-imports

.PHONY: test-airflow
test-airflow: env ## Tests that need Airflow: the provider and the DAGs
	@RAY_PYTHON=$(RAY_PYTHON) AIRFLOW_PYTHON=$(AIRFLOW_PYTHON) $(AIRFLOW_PYTHON) $(PYTEST) \
	    tests/integration/test_rayjob_provider.py tests/unit/rayjob_provider tests/unit/dags

.PHONY: test-ray
test-ray: test-unit test-integration ## All other tests: unit, architecture, integration (Ray, vLLM, the whole DAG)

.PHONY: test-integration
test-integration: env ## Real servers (Ray, vLLM, the whole DAG), in one process: two of them at once starve each other on two cores
	@RAY_PYTHON=$(RAY_PYTHON) AIRFLOW_PYTHON=$(AIRFLOW_PYTHON) $(RAY_PYTHON) -m pytest --durations=20 tests/integration \
	    --ignore=tests/integration/test_rayjob_provider.py

.PHONY: test-faults
test-faults: env ## Kill workers, driver and raylet of a training on Ray at steps, checkpoints and export
	@RAY_PYTHON=$(RAY_PYTHON) $(RAY_PYTHON) -m pytest tests/integration/test_faults.py

.PHONY: test-unit
test-unit: env ## The quick tests only
	@RAY_PYTHON=$(RAY_PYTHON) AIRFLOW_PYTHON=$(AIRFLOW_PYTHON) $(RAY_PYTHON) $(PYTEST) --durations=10 tests/unit tests/architecture \
	    --ignore=tests/unit/rayjob_provider --ignore=tests/unit/dags

.PHONY: format
format: env ## Let ruff rewrite what it can
	@$(RAY_PYTHON) -m ruff check --fix $(SOURCES)
	@$(RAY_PYTHON) -m ruff format $(SOURCES)

.PHONY: docs
docs: env ## Write docs/configuration.md and docs/results.md from the descriptions in the code
	@$(RAY_PYTHON) -m voc describe-config > docs/configuration.md
	@$(RAY_PYTHON) -m evaluation.results.describe > docs/results.md

##@ Measure

.PHONY: bench-data
bench-data: env ## Our data pipeline against Hugging Face datasets + TRL, side by side (BENCH_DATA="--sizes 15000 --repeats 3")
	@$(RAY_PYTHON) -m benchmarks.data.vs_datasets $(BENCH_DATA)

.PHONY: bench-train
bench-train: env ## Our training against TRL's SFTTrainer and the padded Trainer on two cores (BENCH_TRAIN="--repeats 3 --output DIR")
	@$(RAY_PYTHON) -m benchmarks.train.vs_trl $(BENCH_TRAIN)

.PHONY: bench-ray
bench-ray: env ## The same training under Ray Train and under torchrun, in turns of seconds (BENCH_RAY="--pairs 3 --steps 60 --workers 1")
	@$(RAY_PYTHON) -m benchmarks.train.ray_share $(BENCH_RAY)

.PHONY: bench-score
bench-score: env ## Scoring 1 M VOC predictions with 2,000 resamples against a scikit-learn loop (BENCH_SCORE="--rows 20000")
	@$(RAY_PYTHON) -m benchmarks.evaluation.score_vs_sklearn $(BENCH_SCORE)

##@ Help

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z_-]+:.*##/ {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
