#!/usr/bin/env bash
# The training step of the default model, ours and PyTorch's alternately in one run: medians of all
# steps, their ratio, peak memories, with 1 and 2 threads; then memory against sequence length.
#   benchmarks/train_step.sh [ROUNDS] [STEPS]       (default: 5 rounds of 5 steps)
# BENCH=path of train_step_bench, PYTHON=interpreter with torch. Where the processor has AVX-512,
# PyTorch runs a second time with the AVX-512 kernels of OpenBLAS, which it does not always pick by
# itself. All lines are kept in benchmarks/results/train_step.jsonl.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
steps=${2:-5}
((rounds >= 1 && steps >= 2)) || { echo "train_step.sh: at least 1 round of 2 steps" >&2; exit 2; }
bench=${BENCH:-build/cpu/benchmarks/trainer/train_step_bench}
python=${PYTHON:-/usr/bin/python3}
[[ -x $bench ]] || { echo "train_step.sh: $bench is missing; build it: cmake --build --preset cpu --target train_step_bench" >&2; exit 2; }
"$python" -c 'import torch' 2>/dev/null || { echo "train_step.sh: $python has no torch; on Debian: apt-get install python3-torch libopenblas0-openmp" >&2; exit 2; }
mkdir -p benchmarks/results
log=benchmarks/results/train_step.jsonl
: >"$log"

record() { # label command...
  local label=$1 line
  shift
  line=$("$@" | grep -m1 '^{')
  echo "{\"label\": \"$label\", ${line#\{}" >>"$log"
}
ours() { record ours "$bench" --threads "$1" --tokens "$2" --batch "$3" --steps "$4" --warmup "$5"; }
peer() { # label threads tokens batch steps warmup [environment...]
  record "$1" env "OMP_NUM_THREADS=$2" "${@:7}" "$python" benchmarks/peers/torch_train_step.py \
    --threads "$2" --tokens "$3" --batch "$4" --steps "$5" --warmup "$6"
}
avx512=$(grep -qw avx512f /proc/cpuinfo && echo yes || true)

for threads in 1 2; do
  for ((round = 0; round < rounds; ++round)); do
    ours "$threads" 256 8 "$steps" 2
    peer torch "$threads" 256 8 "$steps" 2
    [[ -z $avx512 ]] || peer torch-avx512 "$threads" 256 8 "$steps" 2 OPENBLAS_CORETYPE=SKYLAKEX
  done
done
# Memory: PyTorch keeps T x T matrices; it runs where they are likely to fit.
for tokens in 256 1024 4096; do
  ours 2 "$tokens" 8 1 0
  need_mb=$((8 * 8 * tokens * tokens * 4 / 1048576 * 9 * 4))
  have_mb=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
  if ((need_mb < have_mb)); then
    peer torch 2 "$tokens" 8 1 0
  else
    echo "{\"label\": \"torch\", \"tokens\": $tokens, \"batch\": 8, \"threads\": 2, \"steps\": 1, \"skipped\": \"needs about $need_mb MB, $have_mb MB are free\"}" >>"$log"
  fi
done

python3 - "$log" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
timed = [r for r in rows if r["steps"] > 1]
def of(label, threads):
    return [r for r in timed if r["label"] == label and r["threads"] == threads]
print("default model, superposition attention, B=8, T=256, fp32; medians over rounds")
print(f"{'threads':>7} {'':14} {'ms/step':>9} {'tokens/s':>9} {'CPU ms':>9} {'peak MB':>8}   ours/peer: time, CPU time, memory")
for threads in (1, 2):
    mine = of("ours", threads)
    ms = statistics.median(r["ms_median"] for r in mine)
    cpu = statistics.median(r["cpu_ms"] for r in mine)
    mb = max(r["peak_rss_mb"] for r in mine)
    for label in ("ours", "torch", "torch-avx512"):
        peers = of(label, threads)
        if not peers:
            continue
        peer_ms = statistics.median(r["ms_median"] for r in peers)
        peer_cpu = statistics.median(r["cpu_ms"] for r in peers)
        peer_mb = max(r["peak_rss_mb"] for r in peers)
        ratio = "" if label == "ours" else f"{ms / peer_ms:.2f}, {cpu / peer_cpu:.2f}, {mb / peer_mb:.2f}"
        print(f"{threads:>7} {label:14} {peer_ms:9.1f} {2048e3 / peer_ms:9.0f} {peer_cpu:9.1f} {peer_mb:8.0f}   {ratio}")
print("peak resident memory against sequence length, B=8, MB (planned activations)")
for r in (r for r in rows if r["steps"] == 1):
    what = r.get("skipped") or f"{r['peak_rss_mb']} ({r['activation_mb']:.0f})" if r["label"] == "ours" else r.get("skipped") or str(r["peak_rss_mb"])
    print(f"  T={r['tokens']:<5} {r['label']:6} {what}")
PY
