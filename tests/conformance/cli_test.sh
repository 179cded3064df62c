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

# explained FILE: the command knows the id at the end of the message in FILE
explained() {
  local id
  id=$(sed -nE 's/^dunebox: .* \[(E[0-9]{4})\]$/\1/p' "$1")
  [[ -n $id && "$("$dunebox" explain "$id")" == "$id  "*Cause*Cure* ]] || fail "no explanation of '$id'"
}

# refuses MESSAGE ARGS...: status 125, nothing on stdout, exactly that line on stderr, with an id that is explained
refuses() {
  local message=$1
  shift
  run_and_expect 125 "$@"
  [[ ! -s $output ]] || fail "dunebox $*: wrote to stdout"
  [[ "$(cat "$errors"; echo .)" == "dunebox: $message [E"[0-9][0-9][0-9][0-9]"]"$'\n.' ]] ||
    fail "dunebox $*: stderr is not '$message' with an id"
  explained "$errors"
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
refuses "--posted-writes needs engine kvm on virtualization hardware" run --engine=jit --posted-writes ls
refuses "--posted-writes is not for --ring=0, where no call is answered inside" run --engine=kvm --ring=0 --posted-writes ls
refuses "--trace-file needs --trace" run --trace-file=/dev/null ls
refuses "--stats-file needs --stats" run --stats-file=/dev/null ls
refuses "option '--jit-dump' needs a value: ADDR; see 'dunebox run --help'" run --jit-dump
refuses "--jit-dump: 'main' is neither a hexadecimal address nor FILE+0xOFFSET; see 'dunebox run --help'" \
  run --jit-dump=main ls
refuses "--jit-dump needs engine jit, not --engine=kvm" run --engine=kvm --jit-dump=0x401000 ls
refuses "--jit-record needs engine jit, not --engine=kvm" run --engine=kvm --jit-record=/tmp ls
refuses "--jit-perf-dump needs engine jit, not --engine=kvm" run --engine=kvm --jit-perf-dump=/tmp ls
refuses "--jit-perf-map needs engine jit, not --engine=kvm" run --engine=kvm --jit-perf-map ls
refuses "unexpected argument 'now'; see 'dunebox doctor --help'" doctor now

# Policies: what is said comes back in plain words, and a mistake with its place.
policy=$(mktemp)
trap 'rm -f "$output" "$errors" "$policy"' EXIT
printf '[files]\nread = "/usr/share"\n[limits]\ntime = "10s"\n' >"$policy"
prints '--policy=FILE' run --help
prints '^Usage: dunebox policy check FILE' policy check --help
prints "^  time 10s \\[$policy:4\\]$" policy explain --policy "$policy" ls
prints '^  time 3s \[--time 3s\]$' policy explain --time 3s --policy "$policy"
prints '^  connect to 192.0.2.1, port 443 \[--net tcp:192.0.2.1:443\]$' \
  policy explain --net=tcp:192.0.2.1:443 -- ls -l
prints '^policy network: none.* \[--net none\]$' run --dry-run --net=none ls
prints 'every right of the caller' policy explain --allow=all
prints '^  none: sockets among its own processes only \[default\]$' policy explain
prints '^policy network: none' run --dry-run ls
refuses "unknown command 'policy chek'; see 'dunebox --help'" policy chek

# Rules about calls go out as a profile of container engines, and come in as the same rules.
profile=$(mktemp --suffix=.json)
trap 'rm -f "$output" "$errors" "$policy" "$profile" "$profile.again.json"' EXIT
cat >"$profile" <<'E2'
{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
 "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
 "syscalls": [
  {"names": ["read", "write", "exit_group", "arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW"},
  {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
  {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
   "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
  {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
  {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}
E2
prints '"valueTwo": 0,' policy explain --format=oci-seccomp --policy "$profile"
"$dunebox" policy explain --format=oci-seccomp --policy "$profile" >"$profile.again.json"
grep -q '"clone3"' "$profile.again.json" || fail 'a call of the profile is missing'
! grep -q '"mount"' "$profile.again.json" || fail 'what needs a capability is allowed'
"$dunebox" policy explain --format=oci-seccomp --policy "$profile.again.json" |
  cmp - "$profile.again.json" || fail 'another profile than went out has come in'
refuses "OCI's seccomp section cannot say the rules of umask: an order of different actions" \
  policy explain --format=oci-seccomp --call 'allow umask if arg0 == 1' --call 'deny=EIO umask if arg0 < 5'
refuses "--format: 'toml' is not one of text, oci-seccomp; see 'dunebox policy explain --help'" \
  policy explain --format=toml
refuses "no file given; see 'dunebox policy check --help'" policy check
refuses "--ro /nonexistent: /nonexistent: No such file or directory" run --ro /nonexistent ls
refuses "--net tcp:host.invalid:1: no address known of 'host.invalid'" \
  run --net tcp:host.invalid:1 ls
printf '[files]\nraed = "/usr/share"\n' >"$policy"
refuses "$policy:2:1: unknown key 'files.raed'; did you mean 'files.read'?" \
  run --policy "$policy" ls
run_and_expect 1 policy check "$policy"
grep -qF "$policy:2:1: unknown key" "$output" || fail 'policy check: no place of the mistake'
printf '[limits]\npids = 3\n' >"$policy"
run_and_expect 125 policy check "$policy.not-there"
run_and_expect 0 policy check "$policy"
[[ ! -s $output && ! -s $errors ]] || fail 'policy check: says something about nothing'

# Every id is explained, and each one that a message has is among them.
prints '^E0301  the program was not found$' explain
prints '^Cause  PROG has a slash' explain E0301
prints '^Cure   ' explain e0301
refuses "no message has the id 'E9999'; 'dunebox explain' lists all" explain E9999
refuses "no message has the id 'E301'; 'dunebox explain' lists all" explain E301
refuses "unexpected argument 'E0302'; see 'dunebox explain --help'" explain E0301 E0302
"$dunebox" explain | while read -r id title; do
  "$dunebox" explain "$id" | awk 'length > 80 {exit 1}' || echo "$id: a line is too long"
  [[ "$("$dunebox" explain "$id")" == "$id  $title"* ]] || echo "$id: another title"
done >"$output"
[[ ! -s $output ]] || fail 'dunebox explain'

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
