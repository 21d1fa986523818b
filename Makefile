# make demo   train a MANN on glyphs until it knows 90% of them, at most 10 minutes, and draw what it learned;
#             DATA=<folder> takes Omniglot
# make check  the inner loop, a minute: lint, types, the quick tests and three sizes on Triton's interpreter
# make test   lint, types and all tests
# make gpu-proof  run every compiled GPU kernel on the CPU, for four GPUs in three ways, and print the table; needs no GPU, takes hours, goes on where it was stopped
# make gpu-check  on a machine with a GPU: build, GPU tests, verify and benchmarks; installs nothing
# make sanitize  run the compiled kernels under AddressSanitizer, on sizes around those of vectors and blocks
# make fuzz  compare every operation and module with the reference on 20,000 problems that hypothesis draws: sizes, strides, dtypes and values of all kinds
# make soak  kill, resume and compare runs of each kind, 100,000 steps, 10,000 time steps, 1,000 segments; an hour
# make arm  compile the C++ library for 64-bit Arm, and verify it under emulation; needs QEMU and a compiler for Arm
# make bench  run all benchmarks on the CPU, a quarter of an hour of an idle machine; write bench/results, the tables and the picture
# make reproduce  train and measure everything in docs/results.md, days of one thread, resumable; QUICK=1 takes ten minutes; DATA=<folder of Omniglot>
# All but gpu-check set up .venv and the compiled library first, and only what has changed since.
PYTHON ?= python3
TORCH ?= torch==2.13.0
MINUTES ?= 10
UNTIL ?= 0.9
DATA ?=
QUICK ?=
EXAMPLES ?= 20000

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LIBRARY := mannkern/_C.abi3.so
TASK := $(if $(DATA),omniglot --data $(DATA),glyphs)

.PHONY: demo check lint test sanitize fuzz soak arm bench reproduce build clean gpu-proof gpu-check

demo: build
	$(RUN) -m mannkern train $(TASK) --until $(UNTIL) --minutes $(MINUTES) --run runs/demo-$(firstword $(TASK)) --overwrite

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check: lint build
	$(RUN) -m pytest -n auto -m "not slow and not interpreter"

test: lint build
	GLIBC_TUNABLES=glibc.malloc.tcache_count=0 $(RUN) -m pytest -n auto # so that small allocations are poisoned too

SANITIZED := build/sanitize
sanitize: $(INSTALLED)
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED) && cp -r setup.py pyproject.toml csrc mannkern $(SANITIZED)
	cd $(SANITIZED) && MANNKERN_SANITIZE=1 MANNKERN_FORCE_BUILD=1 $(abspath $(RUN)) setup.py --quiet build_ext --inplace --force
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$(SANITIZED) $(RUN) tests/csrc/sanitize.py

fuzz: build
	FUZZ=$(EXAMPLES) $(RUN) -m pytest -n auto tests/fuzz

soak: build
	$(RUN) -m tests.soak

arm: $(INSTALLED)
	$(RUN) tests/csrc/arm.py

bench: build
	for name in step episode copy_task cell curves memory; do $(RUN) bench/$$name.py --json bench/results/cpu-$${name%_task}.json || exit 1; done
	$(RUN) bench/table.py --write
	$(RUN) bench/figure.py

reproduce: build
	$(RUN) -m bench.science $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

gpu-proof: build
	$(RUN) -m tests.ptx.proof

# with the Python that has the GPU's PyTorch and Triton
gpu-check:
	$(PYTHON) bench/gpu.py

build: $(LIBRARY)

$(LIBRARY): $(INSTALLED) setup.py $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')
	MANNKERN_FORCE_BUILD=1 MANNKERN_WERROR=1 $(RUN) setup.py --quiet build_ext --inplace --force
	touch $@

$(INSTALLED): requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check "$(TORCH)" -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(LIBRARY) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
