#!/usr/bin/env bash
# The whole loop with the Studio: starts a collector, sends it the shipped snapshots as the Studio does
# (Node and a real browser), then sanitize -> dataset -> train -> evaluate -> export, loads the exported
# model in the browser, and compares its predictions with ours. Ends with a page that shows the round trip.
#   scripts/studio_loop.sh [--short] [OUTPUT_DIR]      default: out/studio
# Needs node 18 or later; chromium and npm (TensorFlow.js is installed from its registry), unless --short:
# Node alone sends, a few epochs are trained, and the export is checked by stemfabric's own evaluator only.
# STEMFABRIC=path: an executable that is there already; nothing is installed or built then.
set -euo pipefail
cd "$(dirname "$0")/.."
short=
if [[ ${1:-} == --short ]]; then
  short=1
  shift
fi
if [[ ${1:-} == -* ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  [[ $1 == --help || $1 == -h ]] && exit 0
  exit 2
fi
out=${1:-out/studio}
need() { command -v "$1" >/dev/null || { echo "studio_loop: $1 is not installed; $2" >&2; exit 1; }; }
need node "install nodejs, 18 or later"
if [[ -z $short ]]; then
  need npm "install npm, or give --short"
  need chromium "install chromium, or give --short"
fi
stemfabric=${STEMFABRIC:-}
if [[ -z $stemfabric ]]; then
  preset=$(command -v nvcc >/dev/null && echo cuda || echo cpu)
  scripts/build.sh "$preset"
  stemfabric=build/$preset/stemfabric
fi
mkdir -p "$out"
work=$out/run-$(date +%Y%m%d-%H%M%S)
mkdir "$work"
if [[ -z $short && ! -d $out/node_modules/@tensorflow/tfjs ]]; then
  npm install --silent --no-audit --no-fund --prefix "$out" @tensorflow/tfjs@4.22.0
fi

# Snapshots in.
store=$work/snapshots.db
"$stemfabric" ingest --store "$store" --listen 127.0.0.1:0 >"$work/ingest.log" 2>&1 &
collector=$!
trap 'kill "$collector" 2>/dev/null || true' EXIT
for _ in $(seq 200); do
  address=$(sed -n 's/^Listening on //p' "$work/ingest.log")
  [[ -n $address ]] && break
  kill -0 "$collector" 2>/dev/null || { cat "$work/ingest.log" >&2; exit 1; }
  sleep 0.1
done
browser=()
[[ -n $short ]] || browser=(--browser chromium)
node scripts/studio/send.mjs --to "$address/stem-separation" "${browser[@]}" \
  tests/data/snapshots/*.json >"$work/sent.json"
kill -TERM "$collector"
wait "$collector"
trap - EXIT

# Sanitised, trained, evaluated.
"$stemfabric" sanitize --input "$store" --output "$work/records.jsonl" --report "$work/sanitize.json"
"$stemfabric" dataset --input "$work/records.jsonl" --output-dir "$work" --run-label data --train-ratio 0.75 --time-bins 32
"$stemfabric" train --config configs/quickstart.yaml --set training.device=cpu ${short:+--epochs 2} \
  --dataset-dir "$work/data" --output-dir "$work/model"
"$stemfabric" evaluate --dataset-dir "$work/data" --model "$work/model" --output-dir "$work/model" --device cpu

# Weights out, and back in the browser.
"$stemfabric" export --model "$work/model" --output-dir "$work/export"
node scripts/studio/tokens.mjs "$work/data/validation" "$work"
"$stemfabric" predict --model "$work/model" --input "$work/x.npy" --mask "$work/mask.npy" \
  --output-dir "$work/predictions" --device cpu
if [[ -z $short ]]; then
  node scripts/studio/predict.mjs --model "$work/export/tfjs" --inputs "$work/x.npy" --mask "$work/mask.npy" \
    --expected "$work/predictions" --tfjs "$out/node_modules/@tensorflow/tfjs/dist" --browser chromium >"$work/browser.json"
fi
node scripts/studio/report.mjs "$work"
