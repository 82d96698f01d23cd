# make demo · make test: each sets up all that it needs, and a second run starts at once.
MODEL ?= smollm2-135m-instruct
ARGS ?=
BUILD := build/release
BACKBURN := $(BUILD)/backburn
# One compiler takes up to 1.5 GiB where LibTorch's headers come in.
JOBS ?= $(shell tools/jobs.sh)

.DEFAULT_GOAL := help
.PHONY: help setup configure build model demo test test-full exports bench results lint format clean
.NOTPARALLEL:

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo
	@echo 'MODEL=NAME  model of `make demo` (`backburn pull --help` lists them); default $(MODEL)'
	@echo 'ARGS="..."  more arguments for `backburn demo`'
	@echo 'JOBS=N      parallel compilers; default: one a core, as far as memory goes'
	@echo 'Torch_DIR=…/share/cmake/Torch  a LibTorch of your own instead of the one in .venv'

setup:  ## Debian packages and .venv (LibTorch)
	@Torch_DIR='$(Torch_DIR)' tools/setup.sh

configure: setup
	@test -f $(BUILD)/build.ninja $(if $(Torch_DIR),-a "$$(cat $(BUILD)/.torch-dir 2>/dev/null)" = '$(Torch_DIR)') || \
	  { cmake --preset release $(if $(Torch_DIR),-DTorch_DIR='$(Torch_DIR)') && echo '$(Torch_DIR)' > $(BUILD)/.torch-dir; }

build: configure  ## release build: build/release/backburn
	@cmake --build $(BUILD) -j $(JOBS)

model: build
	@$(BACKBURN) pull $(MODEL)

demo: model  ## the main job: align, attack, defend, attack again, report
	$(BACKBURN) demo $(if $(filter-out smollm2-135m-instruct,$(MODEL)),--model $(MODEL)) $(ARGS)

test: build  ## all tests, with the default model
	@tools/setup.sh packages chromium || echo 'test: no Chromium, so the tests of the report in a browser are skipped' >&2
	@$(BACKBURN) pull smollm2-135m-instruct
	ctest --test-dir $(BUILD) -j2 --output-on-failure --no-tests=error

test-full: test  ## the slow tests too: Qwen2.5-Coder-0.5B (491 MB)
	@$(BACKBURN) pull qwen2.5-coder-0.5b
	BACKBURN_FULL=1 ctest --test-dir $(BUILD) -j1 --output-on-failure --no-tests=error

exports: build  ## opens exports in Transformers, PEFT and llama-cpp-python, which it sets up, and compares them with llama.cpp's
	@$(BACKBURN) pull smollm2-135m-instruct
	@bench/setup.sh
	.venv-tools/bin/python tools/check_exports.py $(ARGS)
	.venv-tools/bin/python tools/check_converter.py

bench: build  ## beside TRL and llama.cpp, which it sets up; writes bench/results.json and README's table (hours)
	@$(BACKBURN) pull smollm2-135m-instruct
	@$(BACKBURN) pull qwen2.5-coder-0.5b
	@bench/setup.sh
	python3 bench/compare.py $(ARGS)

results: build  ## docs/results.md from results/
	tools/results_table.py --write docs/results.md

lint: setup  ## clang-format and clang-tidy on changed files; ALL=1: on all
	@tools/setup.sh packages clang-format clang-tidy libomp-dev  # the last has the omp.h that clang-tidy looks for
	@cmake --preset release -B build/lint -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON $(if $(Torch_DIR),-DTorch_DIR='$(Torch_DIR)') > /dev/null  # GCC's are no use to clang
	@ALL='$(ALL)' JOBS=$(JOBS) tools/lint.sh build/lint

format:  ## clang-format all C++ in place
	@tools/setup.sh packages clang-format
	@git ls-files '*.h' '*.cc' | xargs clang-format -i

clean:  ## remove build/ (the model cache and .venv stay)
	rm -rf build
