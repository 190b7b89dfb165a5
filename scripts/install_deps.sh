#!/usr/bin/env bash
# Installs what the build needs, as Debian 12 packages. Does nothing if all are there.
#   scripts/install_deps.sh            build, run and test
#   scripts/install_deps.sh --peers    also what the benchmarks compare with (PyTorch, h5py: about 1 GB)
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache git pkg-config python3
  libfmt-dev libspdlog-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libsimdjson-dev
  libhwy-dev libhdf5-dev libssl-dev libboost-dev libsqlite3-dev libopenmpi-dev openmpi-bin
  libsndfile1-dev libsoxr-dev libkissfft-dev libfluidsynth-dev fluid-soundfont-gm
  libgtest-dev libgmock-dev libboost-context-dev libbenchmark-dev libopenblas-openmp-dev
)
if [[ "${1:-}" == --peers ]]; then
  packages+=(python3-torch python3-h5py python3-numpy libopenblas0-openmp)
elif [[ $# -gt 0 ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  exit 2
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "install_deps: run as root, or install sudo. Missing: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "install_deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
