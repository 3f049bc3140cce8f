# Touchstone. `make demo` and `make test` are all a newcomer needs: each sets up .venv once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DATA   ?=
SECONDS ?= 60
WORKERS ?= 2
REPORT ?= demo-report.html
# torch's CPU build: `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu`
TORCH_INDEX ?=
TORCH_RANGE := torch>=2.6,<2.14
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types imports protos protos-check bench bench-secagg bench-memory bench-groups bench-import study-members study-privacy study-privacy-gates clean

help:
	@echo "make demo     found an alliance of five members, train, release, deploy, score (about 2 min)"
	@echo "              make demo DATA=FOLDER does it on the real online-shops data set in FOLDER"
	@echo "make test     the whole test suite, on WORKERS=2 processes"
	@echo "make lint     ruff · make types: mypy · make imports: the layering contract"
	@echo "make bench    side-by-side measurements · make protos: regenerate the protocol code"
	@echo "make fuzz     every decoder, SECONDS=60 each · make model-check: the deeper bounds (minutes)"
	@echo "make study-privacy DATA=FOLDER  what privacy for single records costs (about 20 min)"
	@echo "make study-privacy-gates         exit 1 unless two figures of it hold (about 10 min)"
	@echo "make study-members DATA=FOLDER  who gains by joining, by member size (about 20 min)"
	@echo "make clean    remove what these commands made"

install: $(STAMP)

$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: Python 3.11 is needed, $(PYTHON) is another version" >&2; \
	    echo "hint: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV): pip is about to download some 500 MB (torch's CPU build is 200 MB of it), 2 GB on disk."
	@echo "On Linux, PyPI's own torch comes with CUDA instead, several GB. To choose the CPU build:"
	@echo "    make $(MAKECMDGOALS) TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) '$(TORCH_RANGE)')
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[coordinator,participant,simulation]' --group dev
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m simulations.demo --report $(REPORT) $(if $(DATA),--data "$(DATA)")

test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

protos: $(STAMP)
	$(BIN)/python protos/generate.py

protos-check: $(STAMP)
	$(BIN)/python protos/generate.py --check

bench: $(STAMP)
	$(BIN)/python benchmarks/secure_round.py

bench-secagg: $(STAMP)
	$(BIN)/python benchmarks/secagg.py

bench-groups: $(STAMP)
	$(BIN)/python benchmarks/groups.py

bench-memory: $(STAMP)
	$(BIN)/python benchmarks/coordinator_memory.py

bench-import: $(STAMP)
	$(BIN)/python benchmarks/import_speed.py

study-members: $(STAMP)
	@$(BIN)/python -m simulations.studies.member_size $(if $(DATA),--data "$(DATA)")

study-privacy: $(STAMP)
	@$(BIN)/python -m simulations.studies.privacy_utility --per-week 105 --members 8 $(if $(DATA),--data "$(DATA)/fraudulent_online_shops")
	@$(BIN)/python -m simulations.studies.privacy_utility --per-week 550 --members 6 --seeds 31

study-privacy-gates: $(STAMP)
	@$(BIN)/python -m simulations.studies.privacy_utility --gates --seeds 31 32 33 34

fuzz: $(STAMP)
	@for target in $$($(BIN)/python tests/fuzz/run.py --list); do echo "== $$target"; \
	  $(BIN)/python tests/fuzz/run.py $$target -max_total_time=$(SECONDS) -verbosity=0 \
	    -print_final_stats=1 || exit 1; done

model-check: $(STAMP)
	TOUCHSTONE_DEEP=1 $(BIN)/python -m pytest -q -s -p no:randomly \
	  tests/property/test_secagg_model_check.py tests/property/test_secagg_faults.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-report*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
