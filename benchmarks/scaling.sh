#!/usr/bin/env bash
# How training scales over ranks: runs ranks_bench on each number of ranks and writes one table.
#   benchmarks/scaling.sh [OPTION of ranks_bench]...       e.g. --batch 32 --tokens 512 --steps 20
# RANKS="1 2 4 8" (default: 1, 2, 4 … up to the tasks of the Slurm job, or to the cores); BENCH=ranks_bench
# (default: that of the package that this lies in, or of build/cpu); LAUNCHER=mpirun or srun (default: srun in a
# job of Slurm); LAUNCHER_OPTIONS="--oversubscribe --hostfile hosts"; OUT=folder of the outputs and of table.md
# (default: out/scaling-<date> here). Weak: each rank adds --batch samples. Strong: --batch are shared out.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[[ ${1:-} != -h && ${1:-} != --help ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0; }
fail() { echo "scaling.sh: $1" >&2; exit 2; }

bench=${BENCH:-$root/bin/ranks_bench}
[[ -n ${BENCH:-} || -x $bench ]] || bench=$root/build/cpu/benchmarks/trainer/ranks_bench
[[ -x $bench ]] || fail "$bench is missing; build it: cmake --build --preset cpu --target ranks_bench"
launcher=${LAUNCHER:-${SLURM_JOB_ID:+srun}}
launcher=${launcher:-mpirun}
read -ra options <<<"${LAUNCHER_OPTIONS:-}"
case $launcher in
  mpirun) launch=(mpirun --bind-to none "${options[@]}") ;;
  srun) launch=(srun --mpi=pmix --kill-on-bad-exit=1 "${options[@]}") ;;
  *) fail "LAUNCHER is '$launcher'; use mpirun or srun" ;;
esac
command -v "$launcher" >/dev/null || fail "$launcher is not on PATH"
most=${SLURM_NTASKS:-$(nproc)}
read -ra ranks <<<"${RANKS:-$(for ((n = 1; n <= most; n *= 2)); do echo -n "$n "; done)}"
[[ ${ranks[0]} == 1 ]] || fail "RANKS is '${ranks[*]}'; it must begin with 1, which all others are compared with"
out=${OUT:-out/scaling-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out"

for n in "${ranks[@]}"; do
  [[ $n =~ ^[1-9][0-9]*$ ]] || fail "RANKS holds '$n', which is no number of ranks"
  echo "scaling.sh: $n rank$( ((n == 1)) || echo s), see $out/ranks-$n.txt" >&2
  if ! "${launch[@]}" -n "$n" "$bench" "$@" >"$out/ranks-$n.txt" 2>"$out/ranks-$n.err"; then
    head -n 5 "$out/ranks-$n.err" >&2
    fail "$launcher failed with $n rank(s); see $out/ranks-$n.err"
  fi
done

{
  echo "$(date +%F), $(uname -n), $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $launcher ${options[*]}"
  echo "$(awk '/^steps of/' "$out/ranks-1.txt")${*:+; $*}"
  echo
  echo "| ranks | scaling | samples of a rank | ms per step | samples/s | efficiency | of the step waits for sums |"
  echo "|---|---|---|---|---|---|---|"
  # Rows of ranks_bench: ranks, scaling, buckets, samples, ms, waiting %, … One rank counts for both.
  for n in "${ranks[@]}"; do cat "$out/ranks-$n.txt"; done | awk '
    ($2 == "weak" || $2 == "strong") && $3 == "many" {
      rate = 1000 * $1 * $4 / $5
      if ($1 == 1) one = rate
      row = sprintf("| %d | %s | %d | %.1f | %.1f | %.0f %% | %.1f %% |", $1, $1 == 1 ? "" : $2, $4, $5, rate, 100 * rate / ($1 * one), $6)
      if ($2 == "weak") print row; else strong[++rows] = row
    }
    END { for (i = 1; i <= rows; ++i) print strong[i] }'
} >"$out/table.md"
cat "$out/table.md"
