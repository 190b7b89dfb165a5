#!/usr/bin/env bash
# Sets everything up, builds, and runs all tests. The README's test command; .ci/run calls it.
#   scripts/test.sh [PRESET]      presets as in scripts/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-$(command -v nvcc >/dev/null && echo cuda || echo cpu)}
scripts/build.sh "$preset"
ctest --preset "$preset" --no-tests=error
