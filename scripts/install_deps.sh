#!/usr/bin/env bash
# Installs what the build needs, as Debian 12 packages. Does nothing if all are there.
#   scripts/install_deps.sh            build, run and test
#   scripts/install_deps.sh --clients  also what exported models are for, so that the tests run them there: Node,
#                                      Chromium and h5py; TensorFlow.js and ONNX Runtime from the npm registry, into
#                                      build/clients
#   scripts/install_deps.sh --cluster  also a Slurm and what cuts networks, for the tests of job scripts and of ranks
#   scripts/install_deps.sh --peers    also what the benchmarks compare with (PyTorch, h5py: about 1 GB)
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build ccache git pkg-config python3
  libfmt-dev libspdlog-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libsimdjson-dev
  libhwy-dev libhdf5-dev libssl-dev libboost-dev libsqlite3-dev libopenmpi-dev openmpi-bin
  libsndfile1-dev libsoxr-dev libkissfft-dev libfluidsynth-dev fluid-soundfont-gm
  libgtest-dev libgmock-dev libboost-context-dev libbenchmark-dev libopenblas-openmp-dev
)
clients=
for option in "$@"; do
  case $option in
    --clients)
      clients=yes
      packages+=(python3-h5py python3-numpy)
      # These three may be there from elsewhere: Node's own packages bring an npm.
      command -v node >/dev/null || packages+=(nodejs)
      command -v npm >/dev/null || packages+=(npm)
      command -v chromium >/dev/null || packages+=(chromium) ;;
    --cluster)
      packages+=(slurm-wlm munge iproute2) ;;
    --peers)
      packages+=(python3-torch python3-h5py python3-numpy libopenblas0-openmp) ;;
    *)
      sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
      exit 2 ;;
  esac
done

fail() {
  echo "install_deps: $1" >&2
  exit 1
}

install_packages() {
  local missing=() as_root=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "run as root, or install sudo. Missing: ${missing[*]}"
    as_root=(sudo)
  fi
  echo "install_deps: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    fail "apt-get failed (is Debian's mirror reachable?). Missing: ${missing[*]}"
}

# The versions that tests/export/package-lock.json names, once.
install_node_modules() {
  local folder=build/clients
  local done=$folder/node_modules/.complete
  cmp -s tests/export/package-lock.json "$done" && return
  echo "install_deps: installing TensorFlow.js and ONNX Runtime into $folder"
  mkdir -p "$folder"
  cp tests/export/package.json tests/export/package-lock.json "$folder"
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=60000 || {
    rm -rf "$folder/node_modules"
    fail "npm ci failed (is its registry reachable?); the tests that need TensorFlow.js or ONNX Runtime will be skipped"
  }
  cp tests/export/package-lock.json "$done"
}

install_packages
[[ -z $clients ]] || install_node_modules
