#!/bin/bash
# Runs a program under engine jit, records all the code that was emitted for it and for its children,
# and proves that the code obeys docs/isolation.md.
#
#   tests/security/recorded.sh [--prepared] DUNEBOX CHECKER ISOLATION STATUS PROGRAM [ARGUMENT...]
#
# --prepared: the code is what `dunebox prepare` has made of an earlier run.
# STATUS is the exit status that the program has. Exit status: 0 it does, 1 it does not or the program
# failed, 77 skipped ("skip: ..." says why).
set -uo pipefail
is_prepared=
if [[ ${1-} == --prepared ]]; then
  is_prepared=yes
  shift
fi
if (($# < 5)); then
  echo 'dunebox: usage: recorded.sh [--prepared] DUNEBOX CHECKER ISOLATION STATUS PROGRAM [ARGUMENT...]' >&2
  exit 2
fi
dunebox=$1 checker=$2 isolation=$3 expected=$4
shift 4
command -v "$1" >/dev/null || { echo "skip: $1 is not installed"; exit 77; }

records=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-records.XXXXXX")
trap 'rm -rf "$records"' EXIT
run=("$dunebox" run --engine=jit "--jit-isolation=$isolation" --allow=all)

# Isolations that this version or this machine does not have: 125 and a message.
message=$("${run[@]}" -- /bin/true 2>&1)
if (($? == 125)); then
  echo "skip: $message"
  exit 77
fi
chmod 1777 "$records"
if [[ $is_prepared ]]; then
  prepared=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-prepared.XXXXXX")
  trap 'rm -rf "$records" "$prepared"' EXIT
  chmod 755 "$prepared"
  run+=("--jit-prepared=$prepared")
  "$dunebox" prepare "${run[@]:3}" -- "$@" </dev/null >/dev/null
fi
"${run[@]}" "--jit-record=$records" -- "$@" </dev/null >/dev/null
status=$?
((status == expected)) || { echo "FAILED: exit status $status, not $expected"; exit 1; }
"$checker" "--isolation=$isolation" "$records" || exit 1
[[ $is_prepared ]] || exit 0
taken=$("${run[@]}" --stats -- "$@" 2>&1 >/dev/null </dev/null | sed -n 's/.*blocks.taken //p' | head -1)
((taken > 100)) || { echo "FAILED: only $taken blocks were prepared"; exit 1; }
