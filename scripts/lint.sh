#!/usr/bin/env bash
# Runs clang-tidy with the .clang-tidy of the repository. Needs a configured build (made if missing).
#   scripts/lint.sh              sources that differ from the main branch, committed or not
#   scripts/lint.sh --all        every source
#   scripts/lint.sh FILE...      these
# BUILD_DIR chooses the folder with compile_commands.json; default: build/cpu.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD_DIR:-build/cpu}
command -v clang-tidy >/dev/null || { echo "lint: clang-tidy is missing: apt-get install clang-tidy" >&2; exit 2; }
[[ -f $build/compile_commands.json ]] || cmake --preset "$(basename "$build")"

case "${1:-}" in
  --all) mapfile -t files < <(git ls-files '*.cpp') ;;
  "")
    base=$(git merge-base HEAD main 2>/dev/null || git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD)
    mapfile -t files < <({ git diff --name-only --diff-filter=d "$base" -- '*.cpp'
                           git ls-files --others --exclude-standard -- '*.cpp'; } | sort -u) ;;
  -*) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
  *) files=("$@") ;;
esac

# Only what the build compiles: CUDA sources are not in a CPU build's list.
compiled=()
for file in "${files[@]}"; do
  if grep -qF "/$file\"" "$build/compile_commands.json"; then compiled+=("$file"); fi
done
if [[ ${#compiled[@]} -eq 0 ]]; then
  echo "lint: nothing to check"
  exit 0
fi
echo "lint: ${#compiled[@]} files"
printf '%s\0' "${compiled[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet
