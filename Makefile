# make        say what there is
# make demo   train a MANN on glyphs until it knows 90% of them, at most 10 minutes, and draw what it learned;
#             DATA=<folder> takes Omniglot
# make check  the inner loop, a minute: lint, types, the quick tests and three sizes on Triton's interpreter
# make test   lint, types and all tests
# make lint   lint and types
# make build  the virtual environment and the compiled library
# make clean  delete what was built
# make gpu-proof  run every compiled GPU kernel on the CPU, for four GPUs in three ways, and print the table; needs no
#             GPU, takes hours, goes on where it was stopped
# make gpu-check  on a machine with a GPU: build, GPU tests, verify and benchmarks; installs nothing
# make sanitize  run the compiled kernels under the sanitizers of addresses, undefined behaviour and threads, and 5,000
#             wrong calls
# make fuzz   compare every operation and module with the reference on 20,000 problems that hypothesis draws: sizes,
#             strides, dtypes and values of all kinds
# make soak   kill, resume and compare runs of each kind, also on 2 to 4 ranks, 100,000 steps, 10,000 time steps, 1,000
#             segments; an hour
# make arm    compile the C++ library for 64-bit Arm, and verify it under emulation; needs QEMU and a compiler for Arm
# make bench  run all benchmarks on the CPU, 22 minutes of an idle machine; write bench/results, the tables and the picture
# make docs   build the documentation site into build/site; any warning and any broken link is an error
# make reproduce  train and measure everything in docs/results.md anew, days of one thread, resumable; the results and
#             a page of them are in runs/science/results; QUICK=1 takes ten minutes; DATA=<folder of Omniglot>
# make wheel  the source archive and a wheel, in dist/
# make release-check  install the wheel in fresh environments of every Python here, with PyTorch 2.10, TORCH's and the
#             newest, and run `verify` there; TORCH_INDEX=<package index with CPU builds>, ANY_BUILD=1 takes CUDA builds
#             too, 6 GB each
#
# All but gpu-check set up .venv and the compiled library first, and only what has changed since.
PYTHON ?= python3
TORCH ?= torch==2.13.0
MINUTES ?= 10
UNTIL ?= 0.9
DATA ?=
QUICK ?=
TORCH_INDEX ?=
ANY_BUILD ?=
EXAMPLES ?= 20000

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LIBRARY := mannkern/_C.abi3.so
TASK := $(if $(DATA),omniglot --data $(DATA),glyphs)

.PHONY: help demo check lint test sanitize fuzz soak arm bench docs reproduce build clean gpu-proof gpu-check wheel release-check

help:
	@sed -n 's/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST)) | sed '/^$$/q'

demo: build
	$(RUN) -m mannkern train $(TASK) --until $(UNTIL) --minutes $(MINUTES) --run runs/demo-$(firstword $(TASK)) --overwrite

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# Tests start Python more than a hundred times: compiling mannkern anew takes each start a second.
check test: export PYTHONDONTWRITEBYTECODE :=

check: lint build
	$(RUN) -m pytest -n auto -m "not slow and not interpreter"

test: lint build
	GLIBC_TUNABLES=glibc.malloc.tcache_count=0 $(RUN) -m pytest -n auto # so that small allocations are poisoned too

sanitize: $(INSTALLED)
	$(RUN) -m tests.csrc.sanitize

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

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

reproduce: build
	$(RUN) -m bench.science $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

gpu-proof: build
	$(RUN) -m tests.ptx.proof

# with the Python that has the GPU's PyTorch and Triton
gpu-check:
	$(PYTHON) bench/gpu.py

wheel: $(INSTALLED)
	$(RUN) release/wheel.py

release-check: wheel
	$(RUN) release/check.py --torches 2.10.0 $(patsubst torch==%,%,$(TORCH)) newest $(if $(TORCH_INDEX),--index $(TORCH_INDEX)) $(if $(ANY_BUILD),--any-build)

build: $(LIBRARY)

$(LIBRARY): $(INSTALLED) setup.py $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')
	MANNKERN_FORCE_BUILD=1 MANNKERN_WERROR=1 $(RUN) setup.py --quiet build_ext --inplace --force
	touch $@

$(INSTALLED): requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check "$(TORCH)" -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(LIBRARY) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
