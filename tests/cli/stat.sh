#!/bin/bash
# dunebox stat and --metrics-file count what a program and its children do, and change nothing about it.
# usage: stat.sh DUNEBOX jit|kvm
set -euo pipefail
dunebox=$1 engine=$2
if [[ $engine == kvm && ! -w /dev/kvm ]]; then
  echo "skip: no /dev/kvm that this user can open"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }

status=0
"$dunebox" stat --engine="$engine" --json --stats-file="$work/json" -- sh -c 'ls / >/dev/null; ls /nowhere; exit 3' \
  >"$work/out" 2>"$work/err" || status=$?
[[ $status == 3 ]] || fail "exit status $status"
grep -q nowhere "$work/err" || fail "the program's own message is missing"
python3 - "$work/json" "$engine" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["exit_status"] == 3, report
assert report["engine"].startswith(sys.argv[2]), report
assert report["processes"] == 3 and report["programs"] == 3, report
assert report["calls"]["handled"]["exit_group"] == 3, report
assert report["failed_calls"] > 0 and report["elapsed_ns"] > 0 and report["user_us"] + report["system_us"] > 0, report
PYTHON

"$dunebox" stat --engine="$engine" -- true 2>"$work/table"
grep -q "Statistics of 'true', engine $engine" "$work/table" || fail "no table: $(cat "$work/table")"

"$dunebox" run --engine="$engine" --metrics-file "$work/metrics" -- sh -c 'echo out; exit 4' >"$work/out" && fail "0"
[[ "$(cat "$work/out")" == out ]] || fail "output: $(cat "$work/out")"
python3 - "$work/metrics" <<'PYTHON'
import re, sys
# The text format: comments, or a name, labels and a number.
label = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
sample = re.compile(r'([a-z_]+)\{%s(?:,%s)*\} ([0-9.e+-]+)' % (label, label))
values, types = {}, set()
for line in open(sys.argv[1]):
    kind = re.fullmatch(r"# TYPE ([a-z_]+) (?:counter|gauge)\n", line)
    if kind:
        types.add(kind.group(1))
    elif not line.startswith("# HELP "):
        found = sample.fullmatch(line.rstrip("\n"))
        assert found and found.group(1) in types, line
        values[found.group(1)] = values.get(found.group(1), 0) + float(found.group(2))
assert values["dunebox_exit_status"] == 4, values
assert values["dunebox_programs_total"] == 1 and values["dunebox_system_calls_total"] > 10, values
PYTHON
[[ "$(ls "$work" | tr '\n' ' ')" == "err json metrics out table " ]] || fail "left behind: $(ls "$work")"

# Where it cannot be written nothing is run.
status=0
"$dunebox" run --metrics-file /nowhere/metrics -- sh -c "echo ran" >"$work/out" 2>"$work/err" || status=$?
[[ $status == 125 && ! -s "$work/out" ]] || fail "ran without a place for its metrics: $status"
grep -q "^dunebox: --metrics-file: cannot write in /nowhere" "$work/err" || fail "$(cat "$work/err")"
status=0
"$dunebox" run --metrics-file "$work/metrics" --stats -- true 2>"$work/err" || status=$?
[[ $status == 125 ]] || fail "--stats and --metrics-file together: $status"

# What does not run cannot be measured.
echo kept >"$work/metrics"
for command in "run --metrics-file $work/metrics" "stat --metrics-file $work/metrics"; do
  status=0
  "$dunebox" $command --dry-run -- true >"$work/out" 2>"$work/err" || status=$?
  [[ $status == 125 && "$(cat "$work/metrics")" == kept ]] || fail "$command --dry-run: $status, $(cat "$work/metrics")"
done
