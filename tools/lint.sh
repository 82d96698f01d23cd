#!/usr/bin/env bash
# tools/lint.sh BUILD: clang-format on all C++, clang-tidy on the files that differ from the main branch's last commit
# (ALL=1: on all). Exit status 1 when either finds something. JOBS: parallel clang-tidys.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build/release}
status=0

sources() { git ls-files -co --exclude-standard -- 'src/*.cc' 'tests/*.cc' 'apps/*.cc' 'bench/*.cc'; }
headers() { git ls-files -co --exclude-standard -- 'src/*.h' 'tests/*.h' 'apps/*.h' 'bench/*.h'; }
changed() { { git diff --name-only HEAD; git diff --name-only "$(git merge-base HEAD '@{upstream}' 2>/dev/null || echo HEAD)"; git ls-files -o --exclude-standard; } | sort -u; }

{ sources; headers; } | xargs -r clang-format --dry-run -Werror || status=1

if [ -n "${ALL:-}" ]; then
  mapfile -t files < <(sources)
else
  mapfile -t files < <(comm -12 <(sources | sort) <(changed))
fi
# kernels/vector.h has pragmas that are GCC's alone.
extra=(--extra-arg=-Wno-unknown-pragmas --extra-arg=-Wno-unknown-warning-option)
# Only what the build knows: clang-tidy guesses flags for other files.
mapfile -t files < <(for file in "${files[@]}"; do grep -qF "$PWD/$file\"" "$build/compile_commands.json" && echo "$file"; done)
if [ ${#files[@]} -gt 0 ]; then
  echo "lint: clang-tidy on ${#files[@]} files"
  printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-2}" -n 1 clang-tidy --quiet -p "$build" "${extra[@]}" --warnings-as-errors='*' 2>/dev/null || status=1
fi
exit $status
