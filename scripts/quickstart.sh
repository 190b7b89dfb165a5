#!/usr/bin/env bash
# Sets everything up, builds, and runs the whole pipeline on the eight shipped Studio snapshots:
# sanitize -> dataset -> train -> evaluate. Ends with a table and the path of the report.
#   scripts/quickstart.sh [OUTPUT_DIR]      default: out/quickstart
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/quickstart}
preset=$(command -v nvcc >/dev/null && echo cuda || echo cpu)
scripts/build.sh "$preset"
label=run-$(date +%Y%m%d-%H%M%S)
"build/$preset/stemfabric" run --snapshot-dir tests/data/snapshots --output-dir "$out" \
  --run-label "$label" --train-ratio 0.75 --config configs/quickstart.yaml
