#!/bin/bash
# What may not be executed is not: programs and mappings of files on a mount with noexec, and memory that would become executable
# because it can be read.
#
#   tests/conformance/noexec_test.sh DUNEBOX ENGINE
. "$(dirname "$0")/frame.sh"
if [[ ! ${3:-} ]]; then
  unshare --mount true 2>/dev/null || {
    echo 'skip: nothing can be mounted here (unshare --mount)'
    exit 77
  }
  cd / && rm -rf "$work"
  exec unshare --mount --propagation private "$here/$(basename "$0")" "$dunebox" "$engine" inside
fi
mkdir mount
mount -t tmpfs -o noexec dunebox-test mount || exit 2
cp /bin/true mount/true

cat >program <<'E2'
import ctypes, errno, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
READ, WRITE, EXEC = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
FAILED = ctypes.c_void_p(-1).value

def name(failed): return errno.errorcode[ctypes.get_errno()] if failed else "works"

def look(path):
    fd = os.open(path, os.O_RDONLY)
    for kind in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
        at = libc.mmap(None, 4096, READ | EXEC, kind, fd, 0)
        print(path, "mapped:", name(at == FAILED))
        at = libc.mmap(None, 4096, READ, kind, fd, 0)
        print(path, "changed:", name(libc.mprotect(at, 4096, READ | EXEC) != 0))
        print(path, "to none:", name(libc.mprotect(at, 4096, 0) != 0))

look("mount/true")
look("/bin/true")
try: os.execv("mount/true", ["true"])
except OSError as error: print("executed:", errno.errorcode[error.errno])
E2
/usr/bin/python3 program >expected 2>&1
grep -q 'mount/true mapped: EPERM' expected || fail "natively it is $(<expected)"
timeout 100 "$dunebox" run "--engine=$engine" --allow=all -- /usr/bin/python3 program >output 2>errors
diff expected output >/dev/null || fail "on a mount with noexec: not as natively, which is: $(<expected)"
"$dunebox" run "--engine=$engine" --allow=all -- ./mount/true >output 2>errors
[[ $? -eq 126 ]] || fail 'a program on a mount with noexec is run'

# READ_IMPLIES_EXEC, MMAP_PAGE_ZERO and PER_LINUX32.
for persona in 0x400000 0x100000 0x8 0x440000; do
  "$dunebox" run "--engine=$engine" --allow=all -- /usr/bin/python3 -c "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.personality(ctypes.c_ulong($persona)), ctypes.get_errno(), libc.personality(ctypes.c_ulong(0xffffffff)))" \
    >output 2>errors
  [[ $(<output) == '-1 22 0' ]] || fail "personality($persona)"
done
umount mount
finish
