# make demo      train a digits network, compile it for Cortex-M4, run 360 held-out digits on the emulated board
# make learning  an emulated board that knows the digits 0 to 7 learns 8 and 9
# make test      lint, types, tests, within 25 minutes on two cores
# make test-all  everything, within 80 minutes
# make test-cuda on a computer with a CUDA GPU: every kernel against its op, all networks, wrong calls
# make bench     the benchmarks; results in benchmarks/results/
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# one with PyTorch for CUDA
CUDA_PYTHON ?= python3
export OMP_NUM_THREADS := 1
export PYTHONPATH := $(CURDIR)
export EDGEC_OTHER_PYTHON = $(wildcard $(CURDIR)/$(VENV)-other/bin/python)

.PHONY: demo learning test test-all test-cuda bench lint clean

$(VENV)/.ready: pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV)

demo: $(VENV)/.ready
	@$(PYTHON) examples/digits_demo.py --output demo

learning: $(VENV)/.ready
	@$(PYTHON) examples/on_device_learning/digits.py --output learning

lint: $(VENV)/.ready
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check -q .
	@$(PYTHON) tests/typing_tree.py
	@$(PYTHON) -m mypy

test: lint
	@$(PYTHON) -m pytest -n 2 -m "not slow"

test-all: lint
	@$(PYTHON) -m pytest -n 2

test-cuda:
	@$(CUDA_PYTHON) -m pytest -p no:cacheprovider tests/cuda

bench: $(VENV)/.ready
	@$(PYTHON) benchmarks/mcu.py
	@$(PYTHON) benchmarks/streaming.py
	@$(PYTHON) benchmarks/compile_time.py
	@$(PYTHON) benchmarks/start_up.py
	@$(PYTHON) benchmarks/performance_page.py
	@$(PYTHON) benchmarks/performance_learning.py

clean:
	rm -rf build demo learning .pytest_cache .mypy_cache .ruff_cache
