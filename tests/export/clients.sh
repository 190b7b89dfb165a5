#!/usr/bin/env bash
# Models that were trained for a few steps and exported as a user does it, in the programs that they
# are exported for, against `stemfabric predict`.
#   clients.sh exports STEMFABRIC FOLDER     trains, exports and predicts: what the others read
#   clients.sh tfjs_node|tfjs_chromium|onnxruntime_node|keras_h5 FOLDER
# FOLDER/snapshots: a model of snapshots. FOLDER/songs: the core of a model of masks, of a kind that Keras
# can express; FOLDER/songs_rotary: one of the kind that is the default for songs.
# Status 77: skipped, because a program is not installed. STEMFABRIC_NODE_MODULES: the folder with
# node_modules; default: where scripts/install_deps.sh --clients puts it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
modules=${STEMFABRIC_NODE_MODULES:-$here/../../build/clients}

has_node() { command -v node >/dev/null && [[ -d $modules/node_modules ]]; }
# The first Python on the path need not be Debian's, which has its packages.
has_h5py() {
  for python in python3 /usr/bin/python3; do
    "$python" -c 'import h5py, numpy' 2>/dev/null && return
  done
  return 1
}
need() {  # need NAME COMMAND...
  "${@:2}" >/dev/null || { echo "skipped: $1 is not installed; scripts/install_deps.sh --clients does it"; exit 77; }
}

# trained_and_exported NAME DATA FORMATS [OPTION...]
trained_and_exported() {
  local work=$folder/$1
  "$stemfabric" train --dataset-dir "$folder/data/$2" --output-dir "$work/run" --set training.device=cpu \
    --set training.num_epochs=2 --set training.batch_size=2 --set model.dim=32 --set model.depth=2 \
    --set model.heads=4 --set model.dim_ff=64 "${@:4}"
  "$stemfabric" export --model "$work/run" --format "$3" --output-dir "$work/export"
  if has_node; then
    node "$here/make_cases.mjs" "$stemfabric" "$work"
  fi
}

make_exports() {
  has_node || need "neither TensorFlow.js nor h5py" has_h5py
  rm -rf "$folder"
  mkdir -p "$folder"
  "$stemfabric" sanitize --input "$here/../data/snapshots" --output "$folder/records.jsonl"
  "$stemfabric" dataset --input "$folder/records.jsonl" --output-dir "$folder/data" --run-label snapshots \
    --train-ratio 0.75 --time-bins 32
  trained_and_exported snapshots snapshots tfjs,onnx,keras-h5,safetensors

  local audio=(--set audio.sample_rate=8000 --set audio.chunk_size=4096 --set audio.n_fft=512
    --set audio.hop_length=128 --set model.mask_bands=32)
  "$stemfabric" demo-songs --count 3 --duration 4 --output-dir "$folder/demo"
  "$stemfabric" dataset --audio "$folder/demo" --output-dir "$folder/data" --run-label songs --train-ratio 0.6 \
    --set audio.sample_rate=8000
  trained_and_exported songs songs tfjs,onnx,keras-h5,safetensors "${audio[@]}" --set model.mask=real
  trained_and_exported songs_rotary songs tfjs,onnx,safetensors "${audio[@]}" --set model.mask=complex \
    --set model.norm_placement=pre --set model.positions=rotary
}

in_node() {  # in_node SCRIPT FILE-OF-EXPORT
  need "TensorFlow.js or ONNX Runtime (npm)" has_node
  local models=()
  for model in snapshots songs songs_rotary; do
    models+=("$folder/$model/export/$2" "$folder/$model/cases.json")
  done
  exec node "$here/$1" "$modules" "${models[@]}"
}

case $1 in
  exports)
    stemfabric=$2
    folder=$3
    make_exports ;;
  tfjs_node)
    folder=$2
    in_node check_tfjs.mjs tfjs ;;
  tfjs_chromium)
    folder=$2
    need chromium command -v chromium
    in_node check_chromium.mjs tfjs ;;
  onnxruntime_node)
    folder=$2
    in_node check_onnx.mjs model.onnx ;;
  keras_h5)
    folder=$2
    need "h5py (python3-h5py)" has_h5py
    exec "$python" "$here/check_keras_h5.py" "$folder"/{snapshots,songs}/export/model.{h5,safetensors} ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
