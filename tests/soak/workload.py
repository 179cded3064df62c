"""What a soak runs inside: a round of unlike things for each line of standard input, which is answered by a line.

Nothing is kept from one round to the next, so whatever grows is somebody else's.
"""
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

SHELL = """for i in 1 2 3; do echo $i | tr 1-3 a-c | cat; done >/dev/null
x=$(seq 100 | sort -rn | head -n 1); [ "$x" = 100 ] || exit 1
gzip -c /bin/true | gzip -dc | cmp - /bin/true"""
DATABASE = "create table t(x); insert into t values (1), (2), (3); select sum(x) from t;"


def programs():
    subprocess.run(["/bin/sh", "-c", SHELL], check=True)
    found = subprocess.run(["sqlite3", ":memory:", DATABASE], check=True, capture_output=True)
    assert found.stdout == b"6\n", found.stdout
    subprocess.run(["perl", "-e", "my %h = map { $_ => 1 } 1 .. 2000; exit(keys %h == 2000 ? 0 : 1)"], check=True)
    missing = subprocess.run(["/bin/sh", "-c", "kill -SEGV $$"], check=False)
    assert missing.returncode == -signal.SIGSEGV, missing.returncode


def executions():
    # What one of these leaves behind is little beside all that the others do.
    for _ in range(40):
        subprocess.run(["/bin/true"], check=True)


def threads():
    # All of them live at the same time, in every round: what is kept for as many threads as there were is kept from the
    # first round on.
    found = []
    all_are_there = threading.Barrier(16)

    def run(number):
        all_are_there.wait()
        found.append(sum(range(number)))

    several = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert len(found) == 16


def memory():
    with mmap.mmap(-1, 8 << 20) as area:
        area[::4096] = b"x" * (len(area) // 4096)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(1 << 20))
        file.flush()
        with mmap.mmap(file.fileno(), 0) as area:
            assert area[4095] == 0
    for _ in range(20):
        area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        area[0] = 1
        area.close()


def signals():
    caught = []
    old = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    for _ in range(50):
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, old)
    assert len(caught) == 50, len(caught)


def sockets():
    for _ in range(10):
        left, right = socket.socketpair()
        with left, right, select.epoll() as poll:
            poll.register(right, select.EPOLLIN)
            left.send(b"word")
            assert poll.poll(5) and right.recv(10) == b"word"


def forks():
    for number in range(5):
        child = os.fork()
        if child == 0:
            os._exit(number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == number


def main():
    rounds = 0
    while sys.stdin.readline():
        for work in (programs, executions, threads, memory, signals, sockets, forks):
            work()
        rounds += 1
        print(rounds, flush=True)


main()
