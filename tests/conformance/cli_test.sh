#!/bin/bash
# The command line as a caller sees it: exit status, standard output, standard error.
#
#   tests/conformance/cli_test.sh /path/to/dunebox
#
# No program is run here, so this needs no engine.
set -euo pipefail
export LC_ALL=C

readonly dunebox=$1
output=$(mktemp)
errors=$(mktemp)
trap 'rm -f "$output" "$errors"' EXIT
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  sed 's/^/  stdout: /' "$output"
  sed 's/^/  stderr: /' "$errors"
  failures=$((failures + 1))
}

# run_and_expect STATUS ARGS...
run_and_expect() {
  local wanted=$1 status=0
  shift
  "$dunebox" "$@" >"$output" 2>"$errors" </dev/null || status=$?
  [[ $status -eq $wanted ]] || fail "dunebox $*: exit status $status, not $wanted"
}

# refuses MESSAGE ARGS...: status 125, nothing on stdout, exactly that line on stderr
refuses() {
  local message=$1
  shift
  run_and_expect 125 "$@"
  [[ ! -s $output ]] || fail "dunebox $*: wrote to stdout"
  [[ "$(cat "$errors"; echo .)" == "dunebox: $message"$'\n.' ]] ||
    fail "dunebox $*: stderr is not '$message'"
}

# prints PATTERN ARGS...: status 0, nothing on stderr, a line on stdout matches
prints() {
  local pattern=$1
  shift
  run_and_expect 0 "$@"
  [[ ! -s $errors ]] || fail "dunebox $*: wrote to stderr"
  grep -Eq -e "$pattern" "$output" || fail "dunebox $*: no line matches $pattern"
}

prints '^dunebox [0-9]+\.[0-9]+\.[0-9]+$' --version
prints '^Usage: dunebox COMMAND' --help
prints '^Usage: dunebox COMMAND' -h
prints '--allow=all' --help
prints '^Usage: dunebox run .*PROG' run --help
prints '--engine=auto\|kvm\|jit' run --help
prints '--allow=all' run --trace --help
prints '--stats\[=text\|json\]' run --help
prints '--trace\[=text\|json\|chrome\]' run --help
prints '--jit-dump=ADDR' run --help
prints '--jit-record=DIR' run --help
prints '--json' doctor --help

refuses "no command given; see 'dunebox --help'"
refuses "unknown command 'nonsense'; see 'dunebox --help'" nonsense
refuses "unknown option '--bogus'; see 'dunebox --help'" --bogus
refuses "no program given; see 'dunebox run --help'" run
refuses "no program given; see 'dunebox run --help'" run --engine=kvm --
refuses "unknown option '--bogus'; see 'dunebox run --help'" run --bogus ls
refuses "unknown option '-z'; see 'dunebox run --help'" run -z ls
refuses "unknown option '--json'; see 'dunebox run --help'" run --json ls
refuses "--engine: 'vax' is not one of auto, kvm, jit; see 'dunebox run --help'" run --engine=vax ls
refuses "--ring: '2' is not one of 3, 0; see 'dunebox run --help'" run --ring=2 ls
refuses "--allow: 'net' is not one of all, build, python, network-client, server; see 'dunebox run --help'" run --allow=net ls
refuses "option '--engine' needs a value: auto, kvm, jit; see 'dunebox run --help'" run --engine
refuses "--trace: '1' is not one of text, json, chrome; see 'dunebox run --help'" run --trace=1 ls
refuses "--trace-file needs --trace" run --trace-file=/dev/null ls
refuses "--stats-file needs --stats" run --stats-file=/dev/null ls
refuses "option '--jit-dump' needs a value: ADDR; see 'dunebox run --help'" run --jit-dump
refuses "--jit-dump: 'main' is neither a hexadecimal address nor FILE+0xOFFSET; see 'dunebox run --help'" \
  run --jit-dump=main ls
refuses "--jit-dump needs engine jit, not --engine=kvm" run --engine=kvm --jit-dump=0x401000 ls
refuses "--jit-record needs engine jit, not --engine=kvm" run --engine=kvm --jit-record=/tmp ls
refuses "--jit-perf-map needs engine jit, not --engine=kvm" run --engine=kvm --jit-perf-map ls
refuses "unexpected argument 'now'; see 'dunebox doctor --help'" doctor now

# A full disk behind stdout is an error, not silence.
status=0
"$dunebox" --help >/dev/full 2>"$errors" || status=$?
: >"$output"
[[ $status -eq 125 ]] || fail "dunebox --help >/dev/full: exit status $status, not 125"
grep -q '^dunebox: cannot write to standard output: ' "$errors" ||
  fail 'dunebox --help >/dev/full: no message'

# Whether an engine can run depends on the machine; that the report is one does not.
for format in '' --json; do
  status=0
  "$dunebox" doctor $format >"$output" 2>"$errors" || status=$?
  [[ $status -le 1 ]] || fail "dunebox doctor $format: exit status $status"
  [[ ! -s $errors ]] || fail "dunebox doctor $format: wrote to stderr"
  for word in kernel /dev/kvm Landlock seccomp 'engine jit' 'default rights'; do
    grep -qF -e "$word" "$output" || fail "dunebox doctor $format: does not mention $word"
  done
done
/usr/bin/python3 -m json.tool <"$output" >/dev/null || fail 'dunebox doctor --json: is not JSON'

# One file without a loader (a build with sanitizers cannot be one and says so by its interpreter).
if [[ ${2:-} == static ]]; then
  file "$dunebox" >"$output"
  grep -q 'static-pie linked' "$output" || fail "$dunebox is not a static-PIE"
fi

if ((failures > 0)); then
  printf '%d checks failed\n' "$failures"
  exit 1
fi
echo 'the command line behaves as it says'
