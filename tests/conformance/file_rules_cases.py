# Tries to get past the file rules of a session that was started with
#   --rw WORK/work --ro WORK/lib
# and says of each try what came of it: "denied" for an error that says so, "done" for none.
import array
import ctypes
import errno
import mmap
import os
import socket
import sys
import threading

base = sys.argv[1]
denials = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EXDEV, errno.EROFS}
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def at(name):
    return os.path.join(base, name)


def attempt(name, action):
    try:
        action()
        print(f"{name}: done")
    except OSError as error:
        told = "denied" if error.errno in denials else os.strerror(error.errno)
        print(f"{name}: {told}")


def opened(name, flags, mode=0o644):
    os.close(os.open(at(name), flags, mode))


def exchange(a, b):
    if libc.renameat2(AT_FDCWD, at(a).encode(), AT_FDCWD, at(b).encode(), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def map_executable(name, length=0):
    with open(at(name), "rb") as file:
        mmap.mmap(file.fileno(), length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()


def protect_executable(name):
    with open(at(name), "rb") as file:
        libc.mmap.restype = ctypes.c_void_p
        where = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE,
                          file.fileno(), ctypes.c_long(0))
    protected = libc.mprotect(ctypes.c_void_p(where), ctypes.c_size_t(4096),
                              mmap.PROT_READ | mmap.PROT_EXEC)
    if protected != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def execute(name):
    child = os.fork()
    if child == 0:
        try:
            os.execv(at(name), [name])
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise OSError(status, "execv")


def pass_descriptor():
    # A descriptor that is handed over gives what it was opened with, and no more.
    left, right = socket.socketpair()
    socket.send_fds(left, [b"x"], [os.open(at("lib/file"), os.O_RDONLY)])
    received = socket.recv_fds(right, 1, 1)[1][0]
    os.fchmod(received, 0o777)


def reopen_descriptor():
    held = os.open(at("lib/file"), os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{held}", os.O_RDWR | os.O_TRUNC))


def race(disturb, action):
    stop = threading.Event()

    def loop():
        while not stop.is_set():
            disturb()

    sibling = threading.Thread(target=loop)
    sibling.start()
    try:
        for _ in range(300):
            try:
                action()
            except OSError:
                pass
    finally:
        stop.set()
        sibling.join()


def swap_link():
    for target in ("file", "../lib/file", "../hidden/file"):
        os.symlink(target, at("work/next"))
        os.rename(at("work/next"), at("work/link"))


def write_link():
    fd = os.open(at("work/link"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"written")
    os.close(fd)


def create_in_exchanged():
    opened("work/dir/made", os.O_CREAT | os.O_WRONLY)
    os.unlink(at("work/dir/made"))


attempt("read own", lambda: opened("work/file", os.O_RDWR))
attempt("read library", lambda: opened("lib/file", os.O_RDONLY))
attempt("write library", lambda: opened("lib/file", os.O_WRONLY))
attempt("truncate library", lambda: opened("lib/file", os.O_WRONLY | os.O_TRUNC))
attempt("truncate for reading", lambda: opened("lib/file", os.O_RDONLY | os.O_TRUNC))
attempt("read hidden", lambda: opened("hidden/file", os.O_RDONLY))
attempt("dots", lambda: opened("work/../hidden/file", os.O_RDONLY))
attempt("create in library", lambda: opened("lib/new", os.O_CREAT | os.O_WRONLY))
attempt("create own", lambda: opened("work/new", os.O_CREAT | os.O_WRONLY))
attempt("fifo", lambda: opened("hidden/fifo", os.O_RDONLY))
os.symlink("../hidden", at("work/way"))
attempt("through a link", lambda: opened("work/way/file", os.O_RDONLY))
attempt("root by procfs", lambda: opened("/proc/self/root" + at("hidden/file"), os.O_RDONLY))
attempt("other process", lambda: opened("/proc/1/status", os.O_RDONLY))
attempt("hard link", lambda: os.link(at("lib/file"), at("work/hard")))
attempt("rename in", lambda: os.rename(at("lib/file"), at("work/stolen")))
attempt("rename out", lambda: os.rename(at("work/file"), at("lib/planted")))
attempt("exchange", lambda: exchange("work/dir", "lib"))
attempt("chmod", lambda: os.chmod(at("lib/file"), 0o777))
attempt("enter", lambda: os.chdir(at("hidden")))
attempt("passed descriptor", pass_descriptor)
attempt("reopened descriptor", reopen_descriptor)
attempt("execute library", lambda: execute("lib/program"))
attempt("execute hidden", lambda: execute("hidden/program"))
attempt("map library", lambda: map_executable("lib/file"))
attempt("protect library", lambda: protect_executable("lib/file"))
attempt("map data", lambda: map_executable("/dev/zero", 4096))
attempt("protect data", lambda: protect_executable("/dev/zero"))
race(swap_link, write_link)
race(lambda: exchange("work/dir", "work/way"), create_in_exchanged)
print("races: over")
