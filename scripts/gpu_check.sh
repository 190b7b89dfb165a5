#!/usr/bin/env bash
# The one command for a machine with a GPU: every test there, compute-sanitizer, the benchmarks with
# their PyTorch peers, and real training runs on the GPU beside the CPU's. One JSON file, a table and
# an archive of all outputs are kept in benchmarks/results/<device>/<date>-<revision>/ from the first
# step on. Needs Python 3.8; NVIDIA's driver; cuBLASLt of CUDA 13; for the peers PyTorch 2. No network,
# no Debian packages: it uses the programs of the relocatable package (scripts/package.sh) that it is
# in, or build/cuda of a clone.
#   scripts/gpu_check.sh            everything, at most 8 minutes
#   scripts/gpu_check.sh --quick    at most 4 minutes: fewer repetitions
#   scripts/gpu_check.sh --list     what would run; needs no GPU
#   scripts/gpu_check.sh --help     all options
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "gpu_check.sh: no $python; set PYTHON to a Python 3 with PyTorch" >&2; exit 2; }
exec "$python" "$(dirname "$0")/gpu_check/gpu_check.py" "$@"
