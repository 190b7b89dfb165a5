#!/usr/bin/env bash
# Builds the libFuzzer programs of the readers and runs one or all of them. docs/fuzzing.md
#   scripts/fuzz.sh                      every target for 60 seconds
#   scripts/fuzz.sh TARGET [SECONDS]     one (`all`: every one) for so long; 0: until it finds something
#   scripts/fuzz.sh --list               names of the targets
# Installs nothing. Needs clang++ with its run-time libraries; on Debian 12: clang, libclang-rt-14-dev.
# What is found lies in build/fuzz/findings/TARGET, what was learned in build/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/fuzz
mapfile -t all < <(sed -n 's/.* = {"\([a-z_]*\)", *ErrorKind.*/\1/p' tests/fuzz/*_fuzz.cpp | sort)
case "${1:-all}" in
  --list) printf '%s\n' "${all[@]}"; exit ;;
  -*) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
  all) targets=("${all[@]}") ;;
  *)
    targets=("$1")
    [[ " ${all[*]} " == *" $1 "* ]] || { echo "fuzz: no target '$1'; there are: ${all[*]}" >&2; exit 2; } ;;
esac
seconds=${2:-60}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "fuzz: '$seconds' is no number of seconds" >&2; exit 2; }

compiler=${CLANGXX:-clang++}
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    "$compiler" -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null; then
  echo "fuzz: $compiler with libFuzzer is missing; on Debian 12: apt-get install clang libclang-rt-14-dev" >&2
  exit 2
fi
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
  -DSTEMFABRIC_FUZZ=ON -DSTEMFABRIC_CUDA=OFF -DSTEMFABRIC_NCCL=OFF -DSTEMFABRIC_MPI=OFF \
  -DSTEMFABRIC_BUILD_BENCHMARKS=OFF >/dev/null
cmake --build $build --target "${targets[@]/#/fuzz_}"

# A reader that wants more memory than that for a small file believes what the file says.
limits=(-max_len=65536 -timeout=10 -malloc_limit_mb=256 -rss_limit_mb=4096)
found=()
for target in "${targets[@]}"; do
  program=$build/tests/fuzz/fuzz_$target
  mkdir -p "$build/corpus/$target" "$build/findings/$target"
  "$program" --seeds="$build/seeds/$target"
  "$program" -max_total_time="$seconds" -print_final_stats=1 "${limits[@]}" \
    -artifact_prefix="$build/findings/$target/" "$build/corpus/$target" "$build/seeds/$target" ||
    found+=("$target")
done
if [[ ${#found[@]} -gt 0 ]]; then
  echo "fuzz: found something in: ${found[*]}; run $build/tests/fuzz/fuzz_TARGET FILE to see it again" >&2
  exit 1
fi
