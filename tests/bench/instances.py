"""What many sandboxes side by side cost: memory of each, and the time until all of them run.

Memory is PSS: of a page that several processes share, each has its part. So it is what one more instance takes, the
translator's tables and the guardians included.
"""
import dataclasses
import os
import selectors
import signal
import subprocess
import time


@dataclasses.dataclass(frozen=True)
class Result:
    count: int
    seconds: float      # from the first start until the last instance has said that it runs
    kib_each: float     # PSS


def children_of_all():
    """{pid: [pid of a child]} of this moment."""
    children = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(name))
    return children


def tree(root, children):
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def pss_kib(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (OSError, ValueError):
        return 0


def measure_once(words, program, count, environment, directory):
    """`count` instances of `program`, which says "ready" and waits. A Result, or why not."""
    begin = time.perf_counter()
    selector, instances = selectors.DefaultSelector(), []
    try:
        for _ in range(count):
            instance = subprocess.Popen([*words, program], env=environment, cwd=directory, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
            instances.append(instance)
            selector.register(instance.stdout, selectors.EVENT_READ)
        waiting, end = count, time.monotonic() + 120
        while waiting:
            for key, _ in selector.select(timeout=max(0, end - time.monotonic())) or [(None, None)]:
                if key is None:
                    return f"{waiting} of {count} do not run after 120 s"
                if not os.read(key.fd, 100):
                    return "an instance ended"
                selector.unregister(key.fileobj)
                waiting -= 1
        seconds = time.perf_counter() - begin
        children = children_of_all()
        pids = {pid for instance in instances for pid in tree(instance.pid, children)}
        return Result(count, seconds, sum(map(pss_kib, pids)) / count)
    finally:
        for instance in instances:
            instance.send_signal(signal.SIGTERM)
        for instance in instances:
            try:
                instance.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(instance.pid, signal.SIGKILL)
                instance.wait()
            instance.stdout.close()
