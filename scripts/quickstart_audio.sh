#!/usr/bin/env bash
# Sets everything up, builds, and runs the whole audio pipeline on songs that it renders itself:
# demo-songs -> dataset -> train -> evaluate -> separate. Ends with a table and the path of the report.
#   scripts/quickstart_audio.sh [OUTPUT_DIR]      default: out/quickstart_audio
# STEMFABRIC=path: an executable that is there already; nothing is installed or built then.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/quickstart_audio}
stemfabric=${STEMFABRIC:-}
if [[ -z $stemfabric ]]; then
  preset=$(command -v nvcc >/dev/null && echo cuda || echo cpu)
  scripts/build.sh "$preset"
  stemfabric=build/$preset/stemfabric
fi
label=run-$(date +%Y%m%d-%H%M%S)
config=configs/audio_quickstart.yaml
mkdir -p "$out"

"$stemfabric" demo-songs --count 20 --seed 1 --duration 30 --output-dir "$out/songs"
"$stemfabric" dataset --audio "$out/songs" --output-dir "$out/data" --run-label "$label" --train-ratio 0.8 \
  --config "$config"
# Rendered songs and a small model: the CPU does.
"$stemfabric" train --config "$config" --set training.device=cpu --dataset-dir "$out/data/$label" \
  --output-dir "$out/$label"
"$stemfabric" evaluate --dataset-dir "$out/data/$label" --model "$out/$label" --output-dir "$out/$label" --device cpu
song=$(find "$out/songs" -name mixture.wav | sort | head -n 1)
"$stemfabric" separate --model "$out/$label" "$song" --output-dir "$out/$label/separated" --device cpu
