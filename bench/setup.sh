#!/usr/bin/env bash
# The peers of `make bench`, each as its users get it: TRL, Transformers and PEFT from PyPI in .venv-tools (the versions of
# tools/requirements-reference.txt), and llama.cpp out of the full source in llama-cpp-python's sdist, built for this CPU in
# build/peers. Does nothing when all is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

llama_cpp_python=0.3.36
peers=$PWD/build/peers
fail() { echo "bench: $*" >&2; exit 1; }
mkdir -p "$peers"

if ! cmp -s tools/requirements-reference.txt .venv-tools/installed.txt; then
  echo "bench: making .venv-tools with TRL, Transformers and PEFT" >&2
  rm -rf .venv-tools
  "${PYTHON:-python3}" -m venv .venv-tools
  .venv-tools/bin/python -m pip --disable-pip-version-check --quiet install -r tools/requirements-reference.txt ||
    fail "pip could not install tools/requirements-reference.txt; see above, then run again."
  cp tools/requirements-reference.txt .venv-tools/installed.txt
fi

if [ ! -x "$peers/llama.cpp/build/bin/llama-batched-bench" ] || [ ! -x "$peers/llama.cpp/build/bin/llama-quantize" ]; then
  echo "bench: building llama.cpp (llama-cpp-python $llama_cpp_python)" >&2
  rm -rf "$peers/sdist" "$peers/llama.cpp"
  python3 -m pip --disable-pip-version-check --quiet download --no-deps --no-binary :all: \
    --dest "$peers/sdist" "llama-cpp-python==$llama_cpp_python" >"$peers/download.log" 2>&1 || true
  sdist=$(compgen -G "$peers/sdist/llama_cpp_python-*.tar.gz") ||
    fail "pip could not download llama-cpp-python==$llama_cpp_python ($(tail -n1 "$peers/download.log"))."
  tar -xzf "$sdist" -C "$peers/sdist"
  mv "$peers"/sdist/llama_cpp_python-*/vendor/llama.cpp "$peers/llama.cpp"
  rm -rf "$peers/sdist"
  cmake -S "$peers/llama.cpp" -B "$peers/llama.cpp/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DCMAKE_C_COMPILER_LAUNCHER=ccache \
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache >"$peers/cmake.log" 2>&1 || fail "llama.cpp's cmake failed; see $peers/cmake.log"
  cmake --build "$peers/llama.cpp/build" -j "$(tools/jobs.sh)" --target llama-batched-bench llama-quantize \
    >"$peers/build.log" 2>&1 || fail "llama.cpp does not build; see $peers/build.log"
fi

# Its Python binding, over the libraries that were built above.
export LLAMA_CPP_LIB_PATH=$peers/llama.cpp/build/bin
if ! .venv-tools/bin/python -c 'import llama_cpp' 2>/dev/null; then
  echo "bench: installing llama-cpp-python $llama_cpp_python" >&2
  CMAKE_ARGS=-DLLAMA_BUILD=OFF .venv-tools/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
    "llama-cpp-python==$llama_cpp_python" "diskcache==5.6.3" >"$peers/binding.log" 2>&1 ||
    fail "pip could not install llama-cpp-python==$llama_cpp_python; see $peers/binding.log"
fi
