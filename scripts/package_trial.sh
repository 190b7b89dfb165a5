#!/usr/bin/env bash
# Tries a package of scripts/package.sh on a bare Debian 12: a folder that debootstrap fills (minbase: no compiler,
# no development packages) and chroot enters. There it runs doctor, a training on the shipped snapshots, predict,
# and, when Open MPI's runtime is installed too, a training on two ranks and ranks_bench.
#   scripts/package_trial.sh PACKAGE.tar.xz [FOLDER]    default folder: build/package_trial; removed at the end
# Needs root, debootstrap and xz, and a mirror of Debian: MIRROR=URL, default: the one of /etc/apt.
set -euo pipefail
[[ $# -ge 1 && $# -le 2 && $1 != -* ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
fail() { echo "package_trial.sh: $1" >&2; exit "${2:-1}"; }
package=$(realpath "$1")
[[ -f $package ]] || fail "$package is missing; make it with scripts/package.sh" 2
cd "$(dirname "$0")/.."
folder=${2:-build/package_trial}
((EUID == 0)) || fail "needs root" 2
for program in debootstrap xz unshare; do
  command -v "$program" >/dev/null || fail "$program is missing; apt-get install debootstrap xz-utils util-linux" 2
done
[[ ! -e $folder ]] || fail "$folder is there already; remove it, or name another folder" 2
mirror=${MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
  grep -oE '^(URIs:|deb ).*' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1 | tr -d ' ' || true)}
[[ -n $mirror ]] || fail "no mirror of Debian in /etc/apt; give MIRROR=URL" 2

mkdir -p "$(dirname "$folder")"
trap 'rm -rf --one-file-system "$folder"' EXIT
debootstrap --variant=minbase bookworm "$folder" "$mirror" >"$folder.log" 2>&1 || fail "debootstrap failed, see $folder.log"
mkdir "$folder/opt/stemfabric"
tar -C "$folder/opt/stemfabric" --strip-components=1 -xJf "$package"

# Runs a script there, with devices, processes and mounts of its own, which are gone when it ends.
there() {
  unshare --mount --pid --fork -- bash -euc '
    mount -t proc proc "$0/proc"
    mount -t sysfs -o ro sysfs "$0/sys"
    mount -t tmpfs tmpfs "$0/dev/shm"
    exec chroot "$0" /usr/bin/env -i HOME=/root PATH=/opt/stemfabric/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 DEBIAN_FRONTEND=noninteractive bash -euc "$1"' "$folder" "$1"
}
step() { echo "== $1"; }

step "a bare system"
there '
  for word in gcc g++ cc nvcc mpirun python3; do ! command -v $word || { echo "$word is there"; exit 1; }; done
  installed=$(dpkg-query -W -f "\${db:Status-Abbrev}\${Package}\n" | sed -n "s/^ii *//p")
  ! grep -e "-dev$" <<<"$installed" || { echo "a development package is there"; exit 1; }
  echo "$(wc -l <<<"$installed") Debian packages, none of them for development"'
step "doctor"
there 'stemfabric --version; stemfabric doctor'
step "training on the shipped snapshots, evaluation"
there '
  cd /root
  stemfabric run --snapshot-dir /opt/stemfabric/tests/data/snapshots --output-dir runs --run-label trial \
    --train-ratio 0.75 --config /opt/stemfabric/configs/quickstart.yaml --set training.num_epochs=2'
step "predict, of the validation split"
python3 - "$folder/root" <<'PY'
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
shard = sorted((root / "runs/trial/dataset/validation").glob("shard-*.safetensors"))[0].read_bytes()
end = 8 + int.from_bytes(shard[:8], "little")
inputs = json.loads(shard[8:end])["inputs"]
assert inputs["dtype"] == "F32"
header = str({"descr": "<f4", "fortran_order": False, "shape": tuple(inputs["shape"])}).ljust(117) + "\n"
begin, stop = inputs["data_offsets"]
(root / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode() + shard[end + begin:end + stop])
PY
there '
  cd /root
  stemfabric predict --model runs/trial/run --input x.npy --output-dir predictions
  test -s predictions/vocals.npy'
step "several ranks without Open MPI are refused"
there '
  status=0
  OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 stemfabric train --dataset-dir /root/runs/trial/dataset 2>/tmp/refused || status=$?
  cat /tmp/refused
  [[ $status == 1 ]] && grep -q "install Open MPI 4 (on Debian: openmpi-bin)" /tmp/refused'
step "Open MPI's runtime"
cp /etc/resolv.conf "$folder/etc/resolv.conf"
there 'apt-get update -q && apt-get install -y -q --no-install-recommends openmpi-bin' >>"$folder.log" 2>&1 ||
  fail "openmpi-bin could not be installed, see $folder.log"
step "training on two ranks, the same on one"
there '
  cd /root
  train="stemfabric train --dataset-dir runs/trial/dataset --config /opt/stemfabric/configs/quickstart.yaml --epochs 2 --device cpu"
  mpirun --oversubscribe --bind-to none -n 2 $train --batch-size 1 --output-dir runs/two
  $train --batch-size 2 --output-dir runs/one
  test -s runs/two/final_model.safetensors && test -s runs/one/final_model.safetensors'
step "ranks_bench"
there 'LAUNCHER_OPTIONS=--oversubscribe RANKS="1 2" OUT=/tmp/scaling /opt/stemfabric/benchmarks/scaling.sh --batch 2 --tokens 32 --steps 2 --max-bytes 4096'
rm -f "$folder.log"
echo "package_trial.sh: $(basename "$package") works on a bare Debian 12"
