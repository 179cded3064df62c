#!/bin/bash
# Rules about system calls, from flags and from a file, as a program and its user see them: the
# errno, the end, the report, and which rule decides.
#
#   tests/conformance/call_rules_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"
export PATH=/usr/bin:/bin  # other directories may be none of the session's

readonly python=/usr/bin/python3
[[ -x $python ]] || { echo "skip: no $python"; exit 77; }

# Makes the calls that stdin names: "NUMBER ARGUMENT..."; the answer is an errno's name or "done".
cat >calls.py <<'E2'
import ctypes, errno, os, sys
call = ctypes.CDLL(None, use_errno=True).syscall
call.restype = ctypes.c_long
answers = []
for line in sys.stdin:
    words = [ctypes.c_long(int(word, 0)) for word in line.split()]
    ctypes.set_errno(0)
    result = call(*words)
    answers.append(errno.errorcode[ctypes.get_errno()] if result == -1 else "done")
print(*answers)
E2

# calls INPUT OPTION...: what the program says, with these rules.
calls() {
  local input=$1
  shift
  timeout -k 5 100 "$dunebox" run "--engine=$engine" --ro . --net=unix "$@" -- "$python" -S calls.py \
    <<<"$input" >output 2>errors
  status=$?
}
# expect WHAT STATUS OUTPUT: of the last run.
expect() {
  [[ $status -eq $2 ]] || fail "$1: exit status $status, not $2"
  [[ $(<output) == "$3" ]] || fail "$1: another output than '$3'"
}
# reported LINE...: all of them, at the beginning of a line of stderr.
reported() {
  local line
  for line in "$@"; do grep -qF -- "$line" errors || fail "not reported: $line"; done
}

# x86-64's numbers. They take what they are given, or fail with EINVAL or ESRCH before they do a thing.
readonly umask=95 getpriority=140 sysinfo=99 getsid=124 times=100 sched_yield=24 socket=41 getpid=39
readonly epoll_create1=291 eventfd2=290 getuid=102

# ---- single calls -------------------------------------------------------------------------------

calls "$getpriority 0 0"
expect 'no rule' 0 done
calls "$getpriority 0 0
$umask 18
$sysinfo 0" --call 'deny getpriority' --call 'deny=ENOSYS sysinfo'
expect 'two denials' 0 'EPERM done ENOSYS'
reported 'call getpriority; rule: forbidden by --call deny getpriority' \
  "to allow it: --call='allow getpriority' before that rule" 'call sysinfo; rule: forbidden by --call deny=ENOSYS sysinfo'
grep -Eq '^  at 0x[0-9a-f]+ libc\.so\.6\+0x[0-9a-f]+ \(syscall\+0x[0-9a-f]+\)$' errors || fail 'the place of a denial'
# What an engine answers by itself is denied all the same.
calls "$getpid
$sched_yield
$getuid" --call 'deny=EAGAIN sched_yield,getuid'
expect 'calls without an exit' 0 'done EAGAIN EAGAIN'
# The first that holds decides; rules of the command line come after those of files.
calls "$umask 18
$umask 63" --call 'allow umask if arg0 == 18' --call 'deny=EACCES umask' --call 'allow umask'
expect 'the first rule' 0 'done EACCES'

# ---- conditions ---------------------------------------------------------------------------------

# condition CONDITION ANSWERS: which of these arguments does it hold for?
condition() {
  calls "$umask 7
$umask 8
$umask 9
$umask 0x100000008" --call "deny=EDOM umask if $1"
  expect "$1" 0 "$2"
}
condition 'arg0 == 8' 'done EDOM done done'
condition 'arg0 != 8' 'EDOM done EDOM EDOM'
condition 'arg0 < 8' 'EDOM done done done'
condition 'arg0 <= 8' 'EDOM EDOM done done'
condition 'arg0 > 8' 'done done EDOM EDOM'
condition 'arg0 >= 0x100000000' 'done done done EDOM'
condition 'arg0 & 0xff == 8' 'done EDOM done EDOM'
condition 'arg0 > 7 and arg0 < 9' 'done EDOM done done'
# A later argument, as a negative number is in a register.
calls "$getpriority 0 -1
$getpriority 0 1000000000" --call 'deny=EDOM getpriority if arg0 == 0 and arg1 == 0xffffffffffffffff'
expect 'the second argument' 0 'EDOM ESRCH'

# ---- groups -------------------------------------------------------------------------------------

calls "$socket 1 1 0
$epoll_create1 0" --call 'deny=EAFNOSUPPORT @network'
expect 'a group' 0 'EAFNOSUPPORT done'
calls "$epoll_create1 0
$eventfd2 0 0
$socket 1 1 0" --call 'allow eventfd2' --call 'deny @io-multiplexing,socket if arg0 < 5'
expect 'a group, but for one, with a condition' 0 'EPERM done EPERM'
# No rule gives what the files, the network or the table do not.
calls "$socket 16 3 0
101 0 0 0 0" --call 'allow @network' --call 'allow ptrace'
expect 'what is refused anyway' 0 'EACCES EPERM'

# ---- the end ------------------------------------------------------------------------------------

calls "$umask 18
$times 0" --call 'kill times if arg0 == 0'
expect 'a kill' 159 ''
reported 'call times; rule: forbidden by --call kill times if arg0 == 0'
calls "$times 1" --call 'kill times if arg0 == 0'
expect 'a kill that does not hold' 0 EFAULT

# ---- everything else ----------------------------------------------------------------------------

# What a small program needs, and no more.
needed='@io,@file,@memory,@process,@signal,@identity,@futex,@time,@system-info,@io-multiplexing'
calls "$umask 18
$getsid 0" --call-default=deny=ENOSYS --call "allow $needed"
expect 'a default' 0 'done done'
calls "$umask 18
$socket 1 1 0
$getpriority 0 0" --call-default=deny=ENOSYS --call "allow $needed" --call 'deny=EPERM getpriority'
expect 'a default that denies' 0 'done ENOSYS EPERM'
reported 'call socket; rule: none allows it' "to allow it: --call='allow socket'"
calls "$socket 1 1 0" --call-default=kill --call "allow $needed"
expect 'a default that kills' 159 ''

# ---- a file, and an audit -----------------------------------------------------------------------

cat >policy.toml <<'E2'
[calls]
rules = [
  "deny=ENOSYS getpriority if arg0 == 0 and arg1 == 0",
  "deny @network",
]
E2
calls "$getpriority 0 0
$getpriority 0 1000000000
$socket 1 1 0
$umask 18" --policy policy.toml --call 'allow socket' --call 'deny=EIO umask'
expect 'a file' 0 'ENOSYS ESRCH EPERM EIO'
reported 'call getpriority; rule: forbidden by policy.toml:3' 'call socket; rule: forbidden by policy.toml:4' \
  'call umask; rule: forbidden by --call deny=EIO umask'
calls "$getpriority 0 0
$times 0" --audit --policy policy.toml --call 'kill times'
expect 'an audit' 0 'done done'
reported 'audit: would deny: python3' 'call getpriority; rule: forbidden by policy.toml:3' 'call times'
# An execve and a fork take the rules along.
timeout -k 5 100 "$dunebox" run "--engine=$engine" --ro . --policy policy.toml -- sh -c \
  "(exec $python -S calls.py); true" <<<"$getpriority 0 0" >output 2>errors
status=$?
expect 'behind fork and execve' 0 ENOSYS

# ---- mistakes -----------------------------------------------------------------------------------

for rule in 'deny' 'deny nosuchcall' 'deny=ENOSUCH read' 'deny @nosuch' 'deny read if arg6 == 0' 'deny read if' \
  'forbid read'; do
  calls '' --call "$rule"
  [[ $status -eq 125 && $(<errors) == 'dunebox: --call'* ]] || fail "a mistake: $rule"
done

finish
