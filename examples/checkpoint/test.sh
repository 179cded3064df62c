#!/bin/bash
# The computation killed, restored and killed again has the result of one that was left alone; a torn record and one with
# a wrong byte are as if they had not been.
# usage: test.sh CHECKPOINT OPTION...
set -euo pipefail
checkpoint=$1
shift
readonly options=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { printf 'checkpoint: %s\n' "$1" >&2; exit 1; }
# expect_killed ARGUMENTS...
expect_killed() {
  local status=0
  "$checkpoint" "$work/log" "${options[@]}" "$@" >"$work/out" || status=$?
  if [[ $status -eq 77 ]]; then exit 77; fi
  [[ $status -eq 137 ]] || fail "ended with $status and not by the signal"
}

answer='below 1000000 the longest chain, 525 long, is that of 837799'
expect_killed --die-after=2
cp "$work/log" "$work/two"
expect_killed --die-after=1
grep -q '^restored 2 checkpoints$' "$work/out" || fail "did not go on: $(cat "$work/out")"

finish() {
  "$checkpoint" "$work/log" "${options[@]}" >"$work/out"
  grep -qx "$answer" "$work/out" || fail "another answer: $(cat "$work/out")"
  grep -qx "restored $1 checkpoints" "$work/out" || fail "not $1: $(cat "$work/out")"
}
finish 3
# Once it is over, the answer is in the last checkpoint.
"$checkpoint" "$work/log" "${options[@]}" | grep -qx "$answer" || fail "the last checkpoint has no answer"

# The second record is cut in the middle.
truncate -s -5000 "$work/two"
cp "$work/two" "$work/log"
finish 1

# A byte of the first one is another.
printf 'x' | dd of="$work/two" bs=1 seek=5000 conv=notrunc status=none
cp "$work/two" "$work/log"
finish 0

# Who asks for what a backend has not is told so.
if [[ ${options[*]} == *--backend=software* ]]; then
  status=0
  "$checkpoint" "$work/other" --backend=software --by=clone 2>"$work/out" || status=$?
  [[ $status -eq 77 ]] && grep -q 'has no copy-on-write clones' "$work/out" || fail "a clone in software: $status, $(cat "$work/out")"
fi
if [[ ${options[*]} == *--by=clone* ]]; then
  rm "$work/log"
  finish 0
  grep -q 'copy-on-write clone' "$work/out" || fail "not by a clone: $(cat "$work/out")"
fi

printf 'CKPTLOG1another program' >"$work/log"
if "$checkpoint" "$work/log" "${options[@]}" 2>/dev/null; then fail "took another program's checkpoints"; fi
