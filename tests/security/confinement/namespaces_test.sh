#!/bin/bash
# What a confined program sees and what is left of it: real programs in a view of their own, as the
# user of this test and as an ordinary one.
#
#   tests/security/confinement/namespaces_test.sh DUNEBOX ENGINE USER
#
# USER is "self", or "nobody": user 65534. Exit status: 0 as it should be, 1 not, 77 skipped.
set -uo pipefail
export LC_ALL=C

readonly engine=$2 user=$3
skip() { echo "skip: $*"; exit 77; }
as_user=()
if [[ $user == nobody ]]; then
  [[ $EUID -eq 0 ]] || skip 'only root can become somebody else'
  as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
fi
if [[ $engine == kvm ]] && ! "${as_user[@]}" test -r /dev/kvm -a -w /dev/kvm; then
  skip '/dev/kvm cannot be used here'
fi
if ! "${as_user[@]}" unshare -Ur true 2>/dev/null; then skip 'no user namespaces here'; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/dunebox-view.XXXXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
# Where that user can reach it.
chmod 755 "$work" && cp "$1" "$work/dunebox" || exit 2
dunebox=$work/dunebox
mkdir -m 777 "$work/shared" "$work/out" && echo secret >"$work/secret" && echo hello >"$work/shared/file"
cd / || exit 2
failures=0

run() {
  timeout -k 5 150 "${as_user[@]}" "$dunebox" run "--engine=$engine" --ro /usr "$@" \
    >"$work/output" 2>"$work/errors" </dev/null
}
fail() {
  printf 'FAILED: %s\n' "$*"
  head -n 20 "$work/output" "$work/errors" | cut -c 1-160 | sed 's/^/  /'
  failures=$((failures + 1))
}
# expect WHAT STATUS OUTPUT: of the last run, whose exit status is in $status.
expect() {
  [[ $status -eq $2 ]] || fail "$1: exit status $status, not $2"
  [[ $(<"$work/output") == "$3" ]] || fail "$1: another output than '$3'"
}
# Only sessions of this test are named so, and what they start.
readonly sleeper=dunebox-view-sleeper-$$
is_anybody_there() { pgrep -f "$work/dunebox|$sleeper" >/dev/null; }
expect_nobody() {
  local round
  for round in {1..100}; do is_anybody_there || return 0; sleep 0.1; done
  fail "$1: a process is left behind: $(pgrep -fa "$work/dunebox|$sleeper")"
}
readonly mounts_before=$(wc -l </proc/self/mountinfo)

# ---- what is there ------------------------------------------------------------------------------

run -- bash -c 'while read -r _ _ _ _ place _; do echo "$place"; done </proc/self/mountinfo
  [[ ! -e /home && ! -e /work && ! -e /var ]]'
status=$?
[[ $status -eq 0 && $(<"$work/output") == /$'\n'* ]] || fail 'there are no mounts'
! grep -vE '^/(usr|usr/.*|etc/.*|dev|dev/.*|proc|proc/.*|tmp)?$' "$work/output" ||
  fail 'something else is mounted'
run -- bash -c 'cd /dev
  for name in fd full null ptmx pts random shm stderr stdin stdout tty urandom zero; do
    [[ -e $name || -L $name ]] || echo "no $name"; done
  for name in console fuse kmsg kvm loop0 mem vda; do [[ ! -e $name ]] || echo "$name"; done'
status=$?
expect 'the devices' 0 ''
run -- bash -c 'cd /proc && echo [0-9]*; echo $$'
status=$?
expect 'the processes' 0 $'2\n2'  # its own alone: file rules
# With a control group, too, the runtime keeps no descriptor of the host's where the program has its own.
inherited=$("${as_user[@]}" "$dunebox" run "--engine=$engine" --allow=all -- \
  bash -c 'cd /proc/self/fd && echo *' </dev/null 2>&1)
run --cpu-time 100s -- bash -c 'cd /proc/self/fd && echo *'
status=$?
expect 'the descriptors' 0 "$inherited"
run --hostname boxed -- uname -n
status=$?
expect 'the host name' 0 'boxed'
run -- bash -c 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "'
status=$?
expect 'the network interfaces' 0 'lo'
run --net=loopback -- /usr/bin/python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); print("lo is up")'
status=$?
expect 'the loopback interface' 0 'lo is up'
run -- bash -c "cat $work/secret $work/shared/file"
status=$?
expect 'the host'\''s files' 1 ''
run -- bash -c 'cat /proc/1/environ && exit; cat /proc/1/maps && exit; ls /proc/1/fd/* && exit; exit 9'
status=$?
[[ $status -eq 9 ]] || fail 'the first process tells about itself'

# ---- what can be changed ------------------------------------------------------------------------

run -- bash -c 'for place in /x /usr/x /etc/x /dev/x /proc/x; do ! : >$place || exit 9; done'
status=$?
expect 'places that are not to be written' 0 ''
run -- bash -c 'for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
  [[ ! -e $file ]] || ! echo >$file || exit 9; done'
status=$?
expect 'settings of the kernel' 0 ''
run -- bash -c 'echo one >/tmp/view_test && cat /tmp/view_test && ls -A /tmp; echo two >/dev/shm/view_test && cat /dev/shm/view_test'
status=$?
expect 'private places' 0 $'one\nview_test\ntwo'
[[ ! -e /tmp/view_test && ! -e /dev/shm/view_test ]] || fail 'private places are the host'\''s'
run --tmpfs /scratch:1M -- bash -c 'head -c 3M /dev/zero >/scratch/f; stat -c %s /scratch/f'
status=$?
expect 'a small tmpfs' 0 1048576

# ---- binds --------------------------------------------------------------------------------------

run --ro "$work/shared:/in" --rw "$work/out:/out" -- bash -c \
  'cat /in/file; ! : >/in/x 2>&1 && cp /in/file /out/copy && ls /out'
status=$?
[[ $status -eq 0 && $(<"$work/out/copy") == hello && ! -e $work/shared/x ]] || fail 'binds elsewhere'
run --ro "$work/secret:/deep/er/one" -- cat /deep/er/one
status=$?
expect 'one file, in directories that have to be made' 0 secret
run --rw "$work/out:/out" --ro "$work/shared:/out/missing" -- true
status=$?
[[ $status -eq 125 && $(<"$work/errors") == *'make it there first'* && ! -e $work/out/missing ]] ||
  fail 'a place for a mount is made in the host'\''s tree'
# What only leads to a tree is listed; what is hidden is nobody's, but for what another rule shows of it.
run --ro "$work/shared:/deep/er/in" -- bash -c 'ls / /deep >/dev/null && ls /dev | grep -x null && ls /deep/er'
status=$?
expect 'listings' 0 $'null\nin'
mkdir -p "$work/out/keys/public" && echo key >"$work/out/keys/private" && echo public >"$work/out/keys/public/one" &&
  echo secret >"$work/out/secret" && chmod -R a+rwX "$work/out" || exit 2
run --rw "$work/out:/out" --hide /out/keys --hide /out/secret --ro "$work/out/keys/public:/out/keys/public" -- bash -c \
  'cd /out; cat keys/public/*; cat keys/private secret; ls keys; : >keys/new; : >secret; mv keys new; rm -r secret keys; ls'
status=$?
expect 'what is hidden' 0 $'public\ncopy\nkeys\nsecret'
[[ $(<"$work/out/secret") == secret && $(<"$work/out/keys/private") == key && ! -e $work/out/keys/new ]] ||
  fail 'what is hidden is changed'
grep -q '; rule: forbidden by --hide /out/secret' "$work/errors" || fail 'what is hidden: the report'
rm -rf "$work/out/"{keys,secret}
run -- bash -c 'readlink /bin /lib; test -x /bin/sh'
status=$?
expect 'links' 0 $'usr/bin\nusr/lib'
run --ro / -- bash -c 'test -d /home || exit; : >/home/view_test && exit; echo private >/tmp/view_test && exit 9'
status=$?
[[ $status -eq 9 && ! -e /tmp/view_test && ! -e /home/view_test ]] || fail 'the whole of the host, read-only'

# ---- who it is ----------------------------------------------------------------------------------

run --uid 1234 --gid 4321 -- bash -c 'echo $(id -u) $(id -g); : >/tmp/f; stat -c "%u %g" /tmp/f'
status=$?
expect 'an identity' 0 $'1234 4321\n1234 4321'
run -- id -u
status=$?
expect 'the own identity' 0 "$("${as_user[@]}" id -u)"

# ---- what the machine does not give -------------------------------------------------------------

# without NAME ARGUMENTS...: run where no namespace of that kind may be made.
without() {
  local kind=$1
  shift
  timeout -k 5 150 "${as_user[@]}" unshare -Ur bash -c \
    "echo 0 >/proc/sys/user/max_${kind}_namespaces && exec \"\$@\"" bash \
    "$dunebox" run "--engine=$engine" "$@" >"$work/output" 2>"$work/errors" </dev/null
  status=$?
}
if [[ $engine == jit ]]; then
  without mnt --ro /usr --tmpfs /scratch -- true
  [[ $status -eq 125 && $(<"$work/errors") == *'mount namespace is needed for a tmpfs at /scratch'* ]] ||
    fail 'a plan that cannot be without a mount namespace'
  # The rules are those of a session without a view: nobody's /tmp and /dev/shm are its own, "/" cannot be listed.
  without mnt -- bash -c '(echo x >"/tmp/$$") || (echo x >"/dev/shm/$$") || (echo /*) && echo "${PWD}"'
  expect 'no mount namespace, and nothing asked of it' 0 $'/*\n/'
  without net --ro /usr -- echo without
  expect 'no network namespace, which wall 1 makes up for' 0 without
  without net --require=network-namespace --ro /usr -- echo without
  [[ $status -eq 125 && $(<"$work/errors") == *'network namespace is needed since it is required'* ]] ||
    fail 'a required mechanism that cannot be had'
fi

# ---- real programs ------------------------------------------------------------------------------

run -- /usr/bin/python3 -c 'import sqlite3, subprocess, multiprocessing as m, os
d = sqlite3.connect("/tmp/d"); d.execute("create table t (n)"); d.executemany("insert into t values (?)", [(i,) for i in range(100)]); d.commit()
print(d.execute("select sum(n) from t").fetchone()[0], subprocess.check_output(["perl", "-e", "print 6 * 7"]).decode())
r, w = os.openpty(); os.write(w, b"pty\n"); print(os.read(r, 9))'
status=$?
expect 'python, sqlite, perl, a pseudo terminal' 0 $'4950 42\nb\'pty\\r\\n\''
run -- bash -c 'for i in {1..20}; do (sleep 0.01 & ) ; done; sleep 0.5; ls -d /proc/[0-9]* | wc -l; exit 7'
status=$?
[[ $status -eq 7 ]] || fail "an exit status of its own: $status"
expect_nobody 'orphans'

# ---- ends ---------------------------------------------------------------------------------------

run -- bash -c 'kill -TERM $$'
status=$?
expect 'a signal' 143 ''
run --time 500ms -- bash -c '(trap "" TERM HUP; exec -a "$0" sleep 500) & setsid sleep 500 & wait' "$sleeper"
status=$?
expect 'a limit' 124 ''
expect_nobody 'a limit'
run --cpu-time 300ms -- bash -c 'while :; do :; done & while :; do :; done'
status=$?
expect 'a limit of CPU time' 124 ''
expect_nobody 'a limit of CPU time'
# A signal to the monitor reaches the program.
(exec "${as_user[@]}" "$dunebox" run "--engine=$engine" --ro /usr -- bash -c 'trap "echo got; exit 3" USR1; echo up; while :; do sleep 0.1; done' \
  >"$work/output" 2>"$work/errors" </dev/null) &
monitor=$!
for round in {1..300}; do [[ $(<"$work/output") == up* ]] && break; sleep 0.1; done
kill -USR1 $monitor
wait $monitor
status=$?
expect 'a signal to the monitor' 3 $'up\ngot'

# kill -9 of each process of ours, at some moment from the very beginning on.
for victim in monitor guardian first program; do
  for delay in 0 0.003 0.01 0.03 0.1 0.5; do
    (exec "${as_user[@]}" "$dunebox" run "--engine=$engine" --ro /usr \
      --cpu-time 100s -- bash -c 'setsid sleep 500 & (exec -a "$0" sleep 500) & exec -a "$0" sleep 500' "$sleeper") \
      >/dev/null 2>&1 </dev/null &
    monitor=$!
    sleep "$delay"
    guardian=$(pgrep -P $monitor | head -n 1)
    below=()
    [[ -z $guardian ]] || mapfile -t below < <(pgrep -P "$guardian")
    case $victim in
      monitor) kill -9 $monitor ;;
      guardian) [[ -z $guardian ]] || kill -9 "$guardian" ;;
      first) [[ ${#below[@]} -lt 1 ]] || kill -9 "${below[0]}" ;;
      program) [[ ${#below[@]} -lt 2 ]] || kill -9 "${below[1]}" ;;
    esac 2>/dev/null
    # What came too early for a victim to be there is ended in the ordinary way.
    sleep 0.2
    kill -9 $monitor 2>/dev/null
    wait $monitor 2>/dev/null
    expect_nobody "kill -9 of the $victim after $delay s"
  done
done
# The caller's number of the program, not its own.
timeout -k 5 150 "${as_user[@]}" "$dunebox" run "--engine=$engine" --ro /usr --json-status-fd 3 \
  -- true 3>"$work/output" >/dev/null 2>"$work/errors" </dev/null
[[ $(head -n 1 "$work/output") =~ '"pid":'([0-9]+), && ${BASH_REMATCH[1]} -gt 2 ]] ||
  fail 'the status line names a process of the namespace'
run --cpu-time 100s -- true
while IFS= read -r group; do
  # Others may be running sessions.
  [[ -d /proc/${group##*-} ]] || fail "a control group is left behind: $group"
done < <(find /sys/fs/cgroup -maxdepth 3 -name 'dunebox-*' 2>/dev/null)
[[ $(wc -l </proc/self/mountinfo) -eq $mounts_before ]] || fail 'a mount is left behind'

[[ $failures -eq 0 ]] || exit 1
echo 'nothing of the host is seen, and nothing is left behind'
