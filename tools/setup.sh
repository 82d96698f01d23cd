#!/usr/bin/env bash
# Makes this machine able to build backburn. Says nothing and does nothing when all is there already; what an
# interrupted run left half-made is made again.
#
#   tools/setup.sh            Debian packages of tools/apt-packages.txt, and .venv with the torch wheel that carries LibTorch
#   tools/setup.sh packages   only the packages (with more names: these as well)
#   tools/setup.sh torch      only .venv
#
# Torch_DIR=…/share/cmake/Torch   use that LibTorch instead of .venv
# PYTHON=…                        the interpreter that makes .venv (default python3)
# BACKBURN_PACKAGES=skip          leave the system's packages alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

torch_version=2.13.0
venv=$PWD/.venv

fail() { echo "setup: $*" >&2; exit 1; }
say() { echo "setup: $*" >&2; }

missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
  for package in "$@"; do
    grep -qxF "$package" <<<"$installed" || echo "$package"
  done
}

install_packages() {
  [ "${BACKBURN_PACKAGES:-}" = skip ] && return
  local wanted missing root=()
  mapfile -t wanted < <(sed 's/#.*//; /^[[:space:]]*$/d' tools/apt-packages.txt)
  wanted+=("$@")
  command -v dpkg-query >/dev/null ||
    fail "this is not a Debian system: install what tools/apt-packages.txt names in your own way, then run again with BACKBURN_PACKAGES=skip."
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [ ${#missing[@]} -eq 0 ] && return

  local by_hand="sudo apt-get install --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || fail "these Debian packages are missing and cannot be installed from here without a password; run: $by_hand"
    root=(sudo -n)
  fi
  # Recommended packages stay out: they are half of the download and nothing here uses them. g++ needs libc6-dev, which
  # it depends on.
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  # Without package lists, or with outdated ones, the first try fails at once; an interrupted dpkg is finished first.
  if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    { "${root[@]}" dpkg --configure -a && "${apt[@]}" update &&
      "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || true
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  if [ ${#missing[@]} -ne 0 ]; then
    fail "apt-get could not install ${missing[*]} ($(grep -m1 -E '^(E|Err|dpkg: error)' "$log" || tail -n1 "$log"); the whole output is in $log); run: $by_hand"
  fi
  rm -f "$log"
}

# pip writes INSTALLER after all of a wheel's files: with it, the copy is whole.
torch_is_whole() {
  local site
  for site in "$venv"/lib/python3*/site-packages; do
    [ -s "$site/torch/share/cmake/Torch/TorchConfig.cmake" ] && [ -s "$site/torch/lib/libtorch_cpu.so" ] &&
      compgen -G "$site/torch-$torch_version*.dist-info/INSTALLER" >/dev/null && return 0
  done
  return 1
}

install_torch() {
  if [ -n "${Torch_DIR:-}" ]; then
    [ -s "$Torch_DIR/TorchConfig.cmake" ] || fail "Torch_DIR=$Torch_DIR holds no TorchConfig.cmake; set it to the folder share/cmake/Torch of a LibTorch, or unset it."
    return
  fi
  torch_is_whole && return
  say "making .venv with torch==$torch_version, whose wheel carries LibTorch (about 190 MB)"
  rm -rf "$venv"
  local log
  log=$(mktemp)
  "${PYTHON:-python3}" -m venv "$venv" >"$log" 2>&1 || fail "${PYTHON:-python3} -m venv failed ($(tail -n1 "$log")); install python3-venv, or set PYTHON."
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check --retries 5)
  # LibTorch needs none of torch's Python dependencies. The CUDA build would need the CUDA toolkit to link: refuse it
  # before its gigabytes are fetched.
  local report
  report=$(mktemp)
  "${pip[@]}" install --no-deps --dry-run --quiet --report "$report" "torch==$torch_version" >"$log" 2>&1 ||
    fail "pip finds no torch==$torch_version for $("$venv/bin/python" -V 2>&1) ($(grep -m1 ERROR "$log" || tail -n1 "$log")); check pip's index and the network, or set Torch_DIR to a LibTorch of your own."
  "$venv/bin/python" - "$report" <<'PY' || fail "pip's index offers torch==$torch_version as a CUDA build (it wants nvidia-* packages); configure pip with an index that has the CPU build $torch_version+cpu, or set Torch_DIR to a LibTorch of your own."
import json
import sys

from pip._vendor.packaging.requirements import Requirement

torch = json.load(open(sys.argv[1]))["install"][0]["metadata"]
needs = map(Requirement, torch.get("requires_dist", []))
cuda = [n.name for n in needs if n.name.startswith("nvidia-") and (n.marker is None or n.marker.evaluate({"extra": ""}))]
sys.exit(bool(cuda))
PY
  "${pip[@]}" install --no-deps --quiet "torch==$torch_version" >"$log" 2>&1 ||
    fail "pip could not install torch==$torch_version ($(grep -m1 ERROR "$log" || tail -n1 "$log")); run it again, or set Torch_DIR to a LibTorch of your own."
  rm -f "$log" "$report"
  torch_is_whole || fail "the torch wheel in .venv carries no LibTorch (share/cmake/Torch); remove .venv and run again, or set Torch_DIR to a LibTorch of your own."
}

what=${1:-all}
[ $# -gt 0 ] && shift
case $what in
  all) install_packages; install_torch ;;
  packages) install_packages "$@" ;;
  torch) install_torch ;;
  *) fail "unknown part \"$what\" (packages or torch)" ;;
esac
