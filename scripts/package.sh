#!/usr/bin/env bash
# Makes the relocatable package: the program, its benchmarks, the tests of its kernels, and all that they
# need but the C and C++ libraries, so that it runs on any x86-64 Linux with glibc 2.36 and GCC 12's
# libstdc++ or newer: no Debian packages, no network, no build. GPUs need their driver and cuBLASLt of
# CUDA 13 (a toolkit, or the libraries that come with PyTorch), several ranks on GPUs NCCL, and softmax
# attention may have cuDNN 9; the CPU needs none. Several
# ranks need Open MPI 4 where they run (on Debian: openmpi-bin); its libraries belong to it and are not in the package.
#   scripts/package.sh [--cpu] [OUTPUT_DIR]     default: build/package; --cpu: without CUDA, needs no nvcc
# Makes OUTPUT_DIR/stemfabric-VERSION-REVISION[-cpu]/ and the same as .tar.xz. JOBS=N limits the build.
# scripts/package_trial.sh tries the result on a bare Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=cuda
[[ ${1:-} != --cpu ]] || { preset=cpu; shift; }
[[ ${1:-} != -* && $# -le 1 ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=${1:-build/package}
programs=(stemfabric runtime_tests kernel_benchmarks train_step_bench ranks_bench)
also=(tests/data configs docs scripts/sweep.py scripts/continuous.py scripts/script_support.py scripts/slurm benchmarks/scaling.sh benchmarks/scaling_estimate.py LICENSE README.md)
if [[ $preset == cuda ]]; then
  command -v nvcc >/dev/null || { echo "package.sh: nvcc is not on PATH (CUDA 13, e.g. PATH=/usr/local/cuda/bin:\$PATH); --cpu makes a package without CUDA" >&2; exit 2; }
  programs+=(kernels_cuda_tests trainer_cuda_tests)
  also+=(benchmarks/peers scripts/gpu_check.sh scripts/gpu_check)
fi

scripts/install_deps.sh
libraries=(-DSTEMFABRIC_MPI=ON)
[[ $preset == cuda ]] && libraries+=(-DSTEMFABRIC_NCCL=ON -DSTEMFABRIC_CUDNN=ON) # their headers: what the package can call
cmake --preset "$preset" "${libraries[@]}"
cmake --build --preset "$preset" ${JOBS:+--parallel "$JOBS"} --target "${programs[@]}"

version=$("build/$preset/stemfabric" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -1)
revision=$(git describe --always --dirty --abbrev=10 '--exclude=*' 2>/dev/null || echo unknown)
name=stemfabric-$version-$revision
[[ $preset == cuda ]] || name+=-cpu
package=$out/$name
rm -rf "$package" "$package.tar.xz"
mkdir -p "$package/lib"
cmake --install "build/$preset" --prefix "$package" --component package --strip >/dev/null
for program in "${programs[@]}"; do
  [[ -x $package/bin/$program ]] || { echo "package.sh: bin/$program was not installed" >&2; exit 1; }
done
[[ -f $package/lib/libstemfabric_mpi.so ]] || { echo "package.sh: the module for several ranks was not installed" >&2; exit 1; }

# Every shared library that a program needs, but those of the C and C++ compilers, which the system has.
not_ours='^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s)\.so'
ldd "$package"/bin/* | awk '$2 == "=>" {print $1, $3}' | sort -u | while read -r soname path; do
  [[ $soname =~ $not_ours ]] && continue
  [[ -f $path ]] || { echo "package.sh: $soname is not installed here" >&2; exit 1; }
  install -m 644 "$path" "$package/lib/$soname"
done

# What the tests and scripts read, under the names that it has in the repository.
git ls-files -z "${also[@]}" |
  while IFS= read -r -d '' file; do
    mkdir -p "$package/$(dirname "$file")"
    cp -p "$file" "$package/$file"
  done
echo "$revision" >"$package/REVISION"

# Nothing may be newer than what is promised above.
needed=$(for file in "$package"/bin/* "$package"/lib/*; do objdump -T "$file" 2>/dev/null; done | grep -oE '(GLIBC|GLIBCXX)_[0-9.]+' | sort -uV)
glibc=$(grep '^GLIBC_' <<<"$needed" | tail -1)
glibcxx=$(grep '^GLIBCXX_' <<<"$needed" | tail -1)
for pair in "$glibc GLIBC_2.36" "$glibcxx GLIBCXX_3.4.30"; do
  read -r have most <<<"$pair"
  [[ $(printf '%s\n' "$have" "$most" | sort -V | tail -1) == "$most" ]] || { echo "package.sh: something needs $have, newer than $most; build on Debian 12" >&2; exit 1; }
done

# The programs hold the same kernels: a dictionary larger than two of them stores those once.
tar -C "$out" -cf - "$name" | xz -T1 -3 --lzma2=preset=3,dict=128MiB >"$package.tar.xz"
size=$(stat -c %s "$package.tar.xz")
((size < 60 * 1048576)) || { echo "package.sh: $package.tar.xz has $((size / 1048576)) MiB, more than 60" >&2; exit 1; }
echo "$package: $(du -sm "$package" | cut -f1) MiB; $package.tar.xz: $((size / 1048576)) MiB; needs $glibc, $glibcxx"
