# make help lists the targets. Only Python >= 3.10, make and g++ have to be there; everything else is
# installed into .venv.

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
JOBS ?= 2
CXX ?= g++
ARGS ?=
MODEL ?= cnn

BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
LIBRARY := $(BUILD)/libtensorflow_metal_py.$(if $(filter Darwin,$(shell uname)),dylib,so)
# Objects are the same in every clone, and in the wheel.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := true
export CXX
CMAKE_ARGS := -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_CXX_COMPILER=$(CXX) \
	-DPython3_EXECUTABLE=$(abspath $(PY)) -DTFMETAL_TESTS=ON \
	-DCMAKE_CXX_COMPILER_LAUNCHER=$(abspath $(BIN))/ccache
# The same CMakeLists.txt takes the way that it takes on a Mac.
CROSS_ARGS := -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	-DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/tools/macos/toolchain.cmake -DTFMETAL_PYTHON=$(abspath $(PY)) \
	-DPython3_EXECUTABLE=$(abspath $(PY)) -DTFMETAL_SHIM=OFF -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
# What runs without being installed.
USE_BUILD := TF_PLUGGABLE_DEVICE_LIBRARY_PATH=$(abspath $(LIBRARY)) PYTHONPATH=$(CURDIR)
# Sources that clang-format and ruff look at.
CPP_FILES = $(shell git ls-files '*.cc' '*.h' '*.metal')
# Interpreters to install the wheel for, besides those that are on the PATH.
PACKAGING_PYTHONS ?=

.DEFAULT_GOAL := help
.PHONY: help venv build test test-slow test-macos-versions selftest selftest-vectors soak demo \
	lint format docs docs-check cross-macos test-emulator wheel-macos wheel-linux test-wheels \
	test-sanitize test-versions test-versions-smoke test-packaging bazel shims bench clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## the Python environment that everything here uses

$(READY): requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON); install Python 3.10 or newer, \
	or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: $(PYTHON) is \
	$$($(PYTHON) -V 2>&1), Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "error: $(PYTHON) cannot make virtual \
	environments; install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@# For the tests. It asks for a distribution called tensorflow, which on Linux is the CUDA build.
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps tf_keras==2.21.0
	@touch $@

# Ninja decides what is out of date.
build: $(LIBRARY) ## the plugin library and the C++ tests, in build/

$(LIBRARY): FORCE | $(READY)
	@command -v $(CXX) >/dev/null || { echo "error: no C++ compiler ($(CXX)); install g++ 12 or newer, \
	or name one: make CXX=clang++"; exit 1; }
	@test -f $(BUILD)/build.ninja || $(BIN)/cmake -S . -B $(BUILD) $(CMAKE_ARGS)
	@$(BIN)/cmake --build $(BUILD) -j $(JOBS)

FORCE:

# Each worker is a process with a plugin of its own.
PYTEST := $(PY) -m pytest -q -n $(JOBS) --dist worksteal

test: build ## all tests but the slow ones and packaging (ARGS="-k name" selects)
	$(PYTEST) -m "not (packaging or slow or soak or macos_versions or macos or emulator or wheels)" tests $(ARGS)

test-slow: build ## trainings of whole models, and a part of the Keras layers under every policy
	$(PYTEST) -m slow tests $(ARGS)

test-macos-versions: build ## the op cases with the oldest and the newest macOS simulated
	$(PY) -m pytest -q -m macos_versions tests $(ARGS)

selftest: build ## what users run on a Mac, here on the host: every op, fusion and question
	$(USE_BUILD) TF_METAL_QUARANTINE=off $(PY) -m tensorflow_metal_py selftest $(ARGS)

# After a new op, type, fusion or method; tests/test_selftest.py says when.
selftest-vectors: build ## record anew what the selftest replays
	$(USE_BUILD) TF_METAL_QUARANTINE=off $(PY) -m tools.make_selftest $(ARGS)

soak: build ## hours of random programs and long trainings, with and without graph passes
	$(PYTEST) -m soak tests $(ARGS)

demo: build ## train on digits: MODEL=cnn, mlp, lstm, transformer, embedding or vae
	$(USE_BUILD) $(PY) -m tools.demo --model=$(MODEL) $(ARGS)

lint: $(READY) ## ruff and clang-format, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)

format: $(READY) ## let ruff and clang-format change the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

docs: build ## write what is generated in docs/ and README.md
	$(USE_BUILD) $(PY) tools/make_docs.py

docs-check: build ## fail if that is out of date
	$(USE_BUILD) $(PY) tools/make_docs.py --check

cross-macos: $(READY) ## compile all portable sources for arm64 macOS, link the dylib, look at it
	@test -f build-macos/build.ninja || $(BIN)/cmake -S . -B build-macos $(CROSS_ARGS)
	$(BIN)/cmake --build build-macos -j $(JOBS) --target tensorflow_metal_py
	$(PY) -m pytest -q --noconftest -m macos tests/test_macos_library.py $(ARGS)

test-emulator: build cross-macos ## run that library in an emulator, compare it with the Linux build
	$(PY) -m pytest -q -m emulator tests/test_emulator.py $(ARGS)

# The C++ tests under each sanitizer, and those Python tests with TensorFlow loaded that plant errors
# into the device. TensorFlow itself is not instrumented: see tests/sanitizers/.
test-sanitize: $(READY) ## AddressSanitizer, UndefinedBehaviorSanitizer, ThreadSanitizer
	PY=$(PY) CMAKE="$(BIN)/cmake" CMAKE_ARGS="$(CMAKE_ARGS)" JOBS=$(JOBS) tests/sanitizers/run.sh

test-versions: build ## one library with TensorFlow 2.18 to nightly (VERSIONS=2.18,2.20 selects)
	$(PY) tools/test_versions.py --library=$(LIBRARY) --versions=$(VERSIONS) --jobs=$(JOBS) \
		-- $(ARGS)

# The kernels (in one type), their errors, the variables and the graph passes: what depends on
# TensorFlow's version.
VERSIONS_SMOKE := tests/test_ops.py tests/test_errors.py tests/test_coverage.py \
	tests/test_variables.py tests/test_variables_pass.py tests/test_clusters.py tests/test_loops.py \
	tests/test_optimizer_step.py tests/test_rnn_loop_training.py \
	-k 'float32 or variables or errors or coverage or clusters or loops or optimizer or training'
# With 2.21, which `make test` uses, these are three minors.
test-versions-smoke: ## the same where variables go by functions (2.18) and by the shim (2.20)
	$(MAKE) test-versions VERSIONS=2.18,2.20 ARGS="$(VERSIONS_SMOKE)"

test-packaging: $(READY) ## build the wheel, install it for each Python, uninstall it
	PACKAGING_PYTHONS="$(PACKAGING_PYTHONS)" $(PY) -m pytest -q -m packaging tests $(ARGS)

# pip asks the path for cmake, ninja and ccache.
wheel-macos wheel-linux test-wheels: export PATH := $(abspath $(BIN)):$(PATH)
wheel-macos wheel-linux test-wheels: export CMAKE_CXX_COMPILER_LAUNCHER := $(abspath $(BIN))/ccache
wheel-macos: cross-macos ## the wheel for arm64 macOS, with all shims, into dist/
	$(PY) tools/make_wheel.py --platform=macos $(ARGS)

wheel-linux: $(READY) ## the manylinux wheel (simulated GPU), with all shims, into dist/
	$(PY) tools/make_wheel.py --platform=linux $(ARGS)

test-wheels: wheel-macos wheel-linux ## make both wheels, read them, make them again elsewhere
	$(PY) -m pytest -q --noconftest -m wheels tests/test_wheels.py $(ARGS)

# The same library by the other build, and that it loads and serves.
bazel: $(READY) ## build with Debian's Bazel (bazel-bootstrap), offline, and test what it made
	@command -v bazel >/dev/null || { echo "error: no bazel; install it: apt-get install \
	bazel-bootstrap"; exit 1; }
	PYTHON_BIN_PATH=$(abspath $(PY)) bazel --batch build //:libtensorflow_metal_py.so
	mkdir -p build-bazel/tree
	cp -f build-bazel/bin/libtensorflow_metal_py.so build-bazel/tree/
	$(PY) tools/build_shim.py --out build-bazel/tree/_shims
	TFMETAL_BUILD=build-bazel/tree $(PY) -m pytest -q tests/test_loading.py tests/test_errors.py $(ARGS)

shims: $(READY) ## the variable shims of all TensorFlow releases that need one
	$(PY) tools/build_shim.py --all --out $(BUILD)/_shims

bench: build ## the benchmarks (ARGS selects)
	$(USE_BUILD) $(PY) -m benchmarks $(ARGS)

clean: ## remove everything that was built, but not .venv
	rm -rf build build-* bazel-* dist demo_out .pytest_cache .ruff_cache
