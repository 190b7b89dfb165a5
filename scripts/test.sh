#!/usr/bin/env bash
# Sets everything up, builds, and runs the tests. The README's test command; .ci/run calls it.
#   scripts/test.sh [PRESET [SHARE]]      presets as in scripts/build.sh
# SHARE is K/N: every N-th test from the K-th on; default 1/1, all. Of the mutations of kernels, each of
# which asks whether the tests of an op notice a mistake, a quarter is run, another one with each revision;
# MUTATIONS=all runs all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-$(command -v nvcc >/dev/null && echo cuda || echo cpu)}
share=${2:-1/1}
[[ $share =~ ^[1-9][0-9]*/[1-9][0-9]*$ ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
scripts/build.sh "$preset"
ctest --preset "$preset" --no-tests=error --label-exclude mutation -I "${share%/*},,${share#*/}"
if [[ $preset != *san ]]; then
  revision=$(git rev-parse --short=6 HEAD 2>/dev/null || echo 0)
  [[ ${MUTATIONS:-} == all ]] && every=1,,1 || every=$((16#$revision % 4 + 1)),,4
  ctest --preset "$preset" --no-tests=error --label-regex mutation -I "$every"
fi
