#!/usr/bin/env bash
# Installs what is missing, configures and builds.
#   scripts/build.sh [PRESET]     cpu | cuda | cpu-asan | cpu-tsan | cuda-debug; default: cuda if nvcc is there, else cpu
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh
preset=${1:-$(command -v nvcc >/dev/null && echo cuda || echo cpu)}
cmake --preset "$preset"
cmake --build --preset "$preset"
