#!/usr/bin/env bash
# Sets everything up, builds, and runs the tests. The README's test command; .ci/run calls it.
#   scripts/test.sh [PRESET [PROGRAM...]]   presets as in scripts/build.sh; programs such as runtime_tests
# With programs only these are built, and only their tests run. Without, all tests but most mutations of
# kernels: each of those asks whether the tests of an op notice a mistake; an eighth of them is run, another one
# with each revision. MUTATIONS=all runs all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-$(command -v nvcc >/dev/null && echo cuda || echo cpu)}
programs=("${@:2}")
scripts/build.sh "$preset" "${programs[@]}"
if [[ ${#programs[@]} -gt 0 ]]; then
  labels=$(IFS='|'; echo "${programs[*]}")
  exec ctest --preset "$preset" --no-tests=error --label-regex "^($labels)\$"
fi
ctest --preset "$preset" --no-tests=error --label-exclude mutation
if [[ $preset != *san ]]; then
  revision=$(git rev-parse --short=6 HEAD 2>/dev/null || echo 0)
  [[ ${MUTATIONS:-} == all ]] && every=1,,1 || every=$((16#$revision % 8 + 1)),,8
  ctest --preset "$preset" --no-tests=error --label-regex mutation -I "$every"
fi
