# Sourced by the tests of `dunebox oci`: a bundle of busybox in a directory of the test's own.
#
#   begin "$@"                 # DUNEBOX is the program's name, and oci() runs it with --root
#   bundle b '"sh", "-c", "exit 3"' '"hostname": "web"'     # b/config.json; more of its top level
#   rule "a second start fails"; fails oci start a

# Engines of containers and debootstrap mount things where they are themselves: in a namespace of the test's own, or tests
# beside it would see them.
if [[ -z ${DUNEBOX_OCI_OWN_MOUNTS:-} ]] && unshare --mount true 2>/dev/null; then
  DUNEBOX_OCI_OWN_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
fi

dunebox=$1
work=$(mktemp -d /tmp/dunebox-oci.XXXXXX)
failures=0

skip() { echo "skip: $*"; exit 77; }

clean() {
  local id
  for id in $(ls "$work/state" 2>/dev/null); do
    "$dunebox" oci --root "$work/state" delete --force "$id" 2>/dev/null
  done
  rm -rf --one-file-system "$work"
}
trap clean EXIT

[[ $EUID -eq 0 ]] || skip "containers of root are tested, and this is user $EUID"
busybox=$(command -v busybox) || skip "busybox-static is not installed"
unshare --mount --pid --fork true 2>/dev/null || skip "no namespaces can be made here"

oci() { "$dunebox" oci --root "$work/state" --cgroup-manager=disabled "$@"; }
rule() { current=$*; }
wrong() { echo "FAILED: $current: $*"; failures=$((failures + 1)); }
fails() { if "$@" >"$work/out" 2>"$work/err"; then wrong "'$*' succeeded"; fi; }
works() { "$@" >"$work/out" 2>"$work/err" || wrong "'$*' failed: $(cat "$work/err")"; }
says() { grep -q -- "$1" "$work/err" || wrong "no '$1' in: $(cat "$work/err")"; }
is() { [[ "$1" == "$2" ]] || wrong "'$1' is not '$2'"; }

# status ID: what state says of it
status() { oci state "$1" 2>/dev/null | sed -n 's/.*"status":"\([a-z]*\)".*/\1/p'; }
# wait_for ID STATUS
wait_for() {
  local i
  for i in $(seq 600); do
    [[ "$(status "$1")" == "$2" ]] && return
    sleep 0.05
  done
  wrong "$1 is $(status "$1") and not $2"
}

root_file_system() {
  local name
  mkdir -p "$1"/{bin,etc,tmp,data}
  cp "$busybox" "$1/bin/busybox"
  for name in sh cat echo ls id hostname sleep kill mkdir mount touch true mknod chown ulimit test stat; do
    ln -sf busybox "$1/bin/$name"
  done
}

# bundle NAME ARGS [MORE [LINUX [PROCESS [MOUNTS]]]]
bundle() {
  mkdir -p "$work/$1"
  [[ -d $work/$1/rootfs ]] || root_file_system "$work/$1/rootfs"
  cat >"$work/$1/config.json" <<END
{"ociVersion": "1.0.2",
 "process": {"user": {"uid": 0, "gid": 0}, "args": [$2], "cwd": "/",
             "env": ["PATH=/bin", "COLOUR=blue"]${5:+, $5}},
 "root": {"path": "rootfs"},
 "mounts": [
  {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
  {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
   "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
  {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}
  ${6:+, $6}],
 "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                          {"type": "mount"}]${4:+, $4}}
 ${3:+, $3}}
END
}

finish() {
  [[ $failures -eq 0 ]] && echo "all rules hold"
  exit $((failures != 0))
}
