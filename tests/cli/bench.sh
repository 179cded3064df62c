#!/bin/bash
# dunebox bench measures every operation natively and under each engine, and programs; it says so when it cannot.
# usage: bench.sh DUNEBOX
set -euo pipefail
dunebox=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }

"$dunebox" bench --repeat 1 --engine jit --json >"$work/json"
python3 - "$work/json" <<'PYTHON'
import json, sys
rows = json.load(open(sys.argv[1]))
names = [row["name"] for row in rows]
assert {"system-call", "trap", "fork", "calls", "start"} <= set(names), names
for row in rows:
    assert set(row["engines"]) == {"native", "jit"}, row
    assert row["engines"]["native"]["ratio"] == 1 and row["engines"]["jit"]["median_ns"] > 0, row
    assert len(row["engines"]["jit"]["samples_ns"]) == 1, row
PYTHON

"$dunebox" bench --repeat 2 --engine jit -- sh -c 'echo not to be seen; exit 3' >"$work/table"
grep -q "^elapsed time .*x " "$work/table" || fail "$(cat "$work/table")"
! grep -q "not to be seen" "$work/table" || fail "the program's output is in the report"

expect_failure() {
  local wanted=$1 status=0
  shift
  "$dunebox" bench "$@" >"$work/out" 2>"$work/err" || status=$?
  [[ $status == 125 ]] || fail "$*: exit status $status"
  grep -q -- "$wanted" "$work/err" || fail "$*: $(cat "$work/err")"
}
expect_failure "dunebox: --repeat: '0' is not a number from 1 to 1000" --repeat 0
expect_failure "dunebox: cannot run /nowhere" --engine jit -- /nowhere
