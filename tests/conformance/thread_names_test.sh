#!/bin/bash
# Under a policy a program names its other threads by /proc/self/task/TID/comm, where the caller is an ordinary user, and writes
# to nothing else in /proc.
#
#   tests/conformance/thread_names_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"

cat >names.py <<'EOF'
import errno, os, sys, threading

def attempt(path, action):
    try:
        return action(path)
    except OSError as error:
        return errno.errorcode[error.errno]

def rename(path):
    with open(path, "rb+", buffering=0) as file:
        file.write(b"sibling")
    with open(path) as file:
        return file.read().strip()

def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY))
    return "opened"

def tell(who):
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    task = f"/proc/self/task/{thread.native_id}"
    print(who, "names:", attempt(f"{task}/comm", rename))
    for path in (f"{task}/oom_score_adj", f"{task}/attr/current", f"{task}/../comm.x", "/proc/self/oom_score_adj",
                 "/proc/self/coredump_filter", "/proc/self/mem", f"/proc/{os.getppid()}/comm",
                 "/proc/sys/kernel/ns_last_pid", "/proc/pressure/cpu"):
        result = attempt(path, open_to_write)
        if result not in ("EACCES", "ENOENT"):
            print(who, path, result)
    done.set()
    thread.join()
    sys.stdout.flush()

tell("parent")
if os.fork() == 0:
    tell("child")
    os._exit(0)
os.wait()
EOF
chmod 755 "$work"

# run WORD... : the program under the default policy, started by WORD...
run() {
  timeout -k 5 100 "$@" "$dunebox" run --engine="$engine" --ro "$work" -- /usr/bin/python3 "$work/names.py" >output 2>errors </dev/null
}
# expect WHO OUTPUT WORD...
expect() {
  local who=$1 wanted=$2
  shift 2
  run "$@" || fail "$who: it ended with $?"
  [[ $(<output) == "$wanted" ]] || fail "$who: unexpected output"
}

readonly named=$'parent names: sibling\nchild names: sibling' refused=$'parent names: EACCES\nchild names: EACCES'
if [[ $EUID -ne 0 ]]; then
  expect 'an ordinary user' "$named"
  finish
fi
expect 'root' "$refused"
grep -q '/comm' errors && fail 'root: the policy tells of what the kernel refuses'
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [[ $engine == jit ]] && "${nobody[@]}" test -x "$dunebox" 2>/dev/null; then
  expect 'nobody' "$named" "${nobody[@]}"
fi
finish
