#!/usr/bin/env bash
# Installs what is missing, configures and builds.
#   scripts/build.sh [PRESET [TARGET...]]   cpu | cuda | cpu-asan | cpu-tsan | cuda-debug; default: cuda if nvcc
#                                           is there, else cpu. Without targets everything.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_deps.sh
preset=${1:-$(command -v nvcc >/dev/null && echo cuda || echo cpu)}
targets=("${@:2}")
cmake --preset "$preset"
cmake --build --preset "$preset" --target "${targets[@]:-all}"
