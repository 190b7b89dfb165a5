#!/usr/bin/env bash
# Formats the C++ sources in place with the .clang-format of the repository.
#   scripts/format.sh            every source
#   scripts/format.sh --check    change nothing; fail and name the files that are not formatted
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  "") how=(-i) ;;
  --check) how=(--dry-run -Werror) ;;
  *) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
command -v clang-format >/dev/null || { echo "format: clang-format is missing: apt-get install clang-format" >&2; exit 2; }

# Tracked files and new ones that git does not ignore; deleted ones are still listed until committed.
git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cuh' '*.cpp' '*.cu' |
  while IFS= read -r -d '' file; do [[ -f $file ]] && printf '%s\0' "$file"; done |
  xargs -0 --no-run-if-empty -n 32 clang-format "${how[@]}"
