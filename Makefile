# Every target sets up what it needs. PYTHON=python3.12 picks another interpreter, ARGS="-k store" passes words to pytest.
PYTHON ?= python3
UV := 0.13.9
BIN := .venv/bin
EXTRAS ?= dev
ARGS ?=
DATA ?= ../shared/data
# Processes that share the tests, a file at a time.
JOBS ?= 2
TYPED := factory/core factory/kernels factory/storage factory/execution factory/recipes
PACKAGES := radosgw ceph-mon ceph-osd ceph-common postgresql chromium

.PHONY: demo study ui test check lint types imports format services bench-curation bench-links bench-training bench-peers parity clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo      install, then the whole chain on this machine's own texts (folder demo/)"
	@echo "make study     which mixture of domains makes the better model, on DATA=DIR (an hour or so)"
	@echo "make ui        Dagster's pages on what the demo made"
	@echo "make test      install, then the test suite"
	@echo "make check     lint, types and import contracts"
	@echo "make bench-curation  curation beside its peers, on the same documents (make bench-peers installs those)"
	@echo "make bench-links     duplicates beside their peers, and how cost and memory grow"
	@echo "make bench-training  training, evaluation and tokens beside their peers (ARGS=--quick: some three minutes)"
	@echo "make parity    decisions beside datatrove's, on thousands of real documents"
	@echo "make services  real servers for the tests (Debian, as root): S3, PostgreSQL, a browser"
	@echo "make clean     remove what can be made again"

# The mark is written last: an installation that was interrupted is done again.
.venv/.installed: pyproject.toml constraints.txt
	@echo "installing into .venv with $$($(PYTHON) --version) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/pip install -q --disable-pip-version-check uv==$(UV)
	@UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install -q -p .venv -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
	@echo "installed"

demo: .venv/.installed
	$(BIN)/factory demo demo

# An interrupted study goes on where it was.
study: .venv/.installed
	@test -f study/recipe.yaml || $(BIN)/factory init study --from mixture_search --data $(DATA)
	$(BIN)/factory run --recipe study/recipe.yaml
	$(BIN)/factory search --recipe study/recipe.yaml
	$(BIN)/factory leaderboard --recipe study/recipe.yaml

ui: .venv/.installed
	$(BIN)/factory ui --recipe demo/recipe.yaml

test: .venv/.installed
	$(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

check: lint types imports

lint: .venv/.installed
	$(BIN)/ruff check factory assets tests
	$(BIN)/ruff format --check factory assets tests

types: .venv/.installed
	$(BIN)/mypy $(TYPED)

imports: .venv/.installed
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff check --fix factory assets tests
	$(BIN)/ruff format factory assets tests

# Servers the tests start and stop themselves; policy-rc.d keeps packages from starting theirs.
services:
	@missing=""; \
	for name in $(PACKAGES); do dpkg -s $$name >/dev/null 2>&1 || missing="$$missing $$name"; done; \
	if [ -z "$$missing" ]; then echo "services: all installed"; exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "services: missing$$missing; as root on Debian: apt-get install$$missing"; exit 1; fi; \
	echo "services: installing$$missing"; \
	made=""; test -e /usr/sbin/policy-rc.d || { made=1; printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; status=$$?; \
	test -z "$$made" || rm -f /usr/sbin/policy-rc.d; \
	exit $$status

# Peers have environments of their own, with the versions the figures of docs/benchmarks.md were measured with.
PEER_BASE := datatrove[io,processing,multilingual]==0.10.1 trafilatura<1.12 lxml_html_clean fastwarc==2.0.1 resiliparse==2.0.1 \
	warcio justext py3langid pycld2 fasttext-numpy2-wheel isal numba spacy==3.8.18 psutil

bench-peers: .venv/.installed
	@set -e; export UV_FIND_LINKS="$${PIP_FIND_LINKS:-}"; peers=$${BENCH_VENVS:-.bench/venvs}; mkdir -p $$peers; \
	for name in base nemo dolma links td tokens; do test -x $$peers/$$name/bin/python || $(BIN)/uv venv -q $$peers/$$name --python $(PYTHON); done; \
	echo "installing datatrove and single libraries"; printf '%s\n' $(foreach name,$(PEER_BASE),'$(name)') > $$peers/base.txt; \
	$(BIN)/uv pip install -q -p $$peers/base -r $$peers/base.txt; \
	echo "installing NeMo Curator"; $(BIN)/uv pip install -q -p $$peers/nemo nemo-curator==1.4.0 psutil beautifulsoup4; \
	echo "installing dolma"; $(BIN)/uv pip install -q -p $$peers/dolma dolma==1.2.1 tokenizers==0.19.1 psutil; \
	echo "installing Daft, rensa, datasketch"; \
	$(BIN)/uv pip install -q -p $$peers/links daft==0.7.26 rensa==0.5.0 datasketch==2.0.0 pyarrow==25.0.1 xxhash; \
	echo "installing text-dedup"; $(BIN)/uv pip install -q -p $$peers/td text-dedup==0.4.0; \
	echo "installing the readers of Megatron and MosaicML"; \
	$(BIN)/uv pip install -q -p $$peers/tokens megatron-core==0.16.1 mosaicml-streaming==0.13.0 torch==2.13.0 torchvision==0.28.0

bench-curation: .venv/.installed
	$(BIN)/python tests/benchmarks/curation.py $(ARGS)

bench-links: .venv/.installed
	$(BIN)/python tests/benchmarks/links.py $(ARGS)

bench-training: .venv/.installed
	$(BIN)/python tests/benchmarks/proof.py $(ARGS)

parity: .venv/.installed
	$(BIN)/python tests/benchmarks/parity.py $(ARGS)

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis \
		dbt_project/target dbt_project/logs
	find factory assets tests -name __pycache__ -type d -prune -exec rm -rf {} +
