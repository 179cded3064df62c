"""One run of a command, and how several runs of one way compare with native ones."""
import dataclasses
import hashlib
import os
import signal
import statistics
import time

import rows as table

ENVIRONMENT = {"PATH": table.PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run. CPU seconds are those of the process and of every descendant it waited for."""
    wall: float
    user: float
    system: float
    peak_kib: int
    status: str     # "0", "exit 3", "signal 11", "over 300 s"
    output: str     # checksum of standard output

    @property
    def cpu(self):
        return self.user + self.system


class Runner:
    """Starts commands in a directory of their own, with a fixed environment and a time limit."""

    def __init__(self, directory, seconds_allowed, prepared=None):
        self.directory = directory
        self.prepared = prepared  # where translations are kept
        self.output = os.path.join(directory, "stdout")
        self.errors = os.path.join(directory, "stderr")
        self.seconds_allowed = seconds_allowed
        self.environment = dict(ENVIRONMENT, HOME=directory, TMPDIR=directory)

    def run(self, command, stdin="/dev/null"):
        create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        files = [(os.POSIX_SPAWN_OPEN, 0, stdin or "/dev/null", os.O_RDONLY, 0),
                 (os.POSIX_SPAWN_OPEN, 1, self.output, create, 0o600),
                 (os.POSIX_SPAWN_OPEN, 2, self.errors, create, 0o600)]
        begin = time.perf_counter()
        child = os.posix_spawn(command[0], command, self.environment, file_actions=files,
                               setpgroup=0)
        overdue = []

        def end(*_):
            overdue.append(True)
            os.killpg(child, signal.SIGKILL)

        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, self.seconds_allowed)
        _, status, used = os.wait4(child, 0)
        wall = time.perf_counter() - begin
        signal.setitimer(signal.ITIMER_REAL, 0)
        code = os.waitstatus_to_exitcode(status)
        how = (f"over {self.seconds_allowed:g} s" if overdue else
               f"signal {-code}" if code < 0 else f"exit {code}" if code else "0")
        with open(self.output, "rb") as file:
            checksum = hashlib.sha256(file.read()).hexdigest()
        return Sample(wall, used.ru_utime, used.ru_stime, used.ru_maxrss, how, checksum)

    def complaint(self):
        """What the last run wrote to standard error, shortened."""
        with open(self.errors, errors="replace") as file:
            return file.read(300).strip().partition("\n")[0]


def quartiles(values):
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A way beside native: a ratio of CPU times (of wall-clock times where only those are known) or, of a start,
    wall-clock ms more."""
    median: float
    low: float
    high: float

    @staticmethod
    def of(row, samples, native, by_wall_clock=False):
        def times(of):
            return [sample.wall if row.is_start or by_wall_clock else sample.cpu for sample in of]

        def compare(seconds):
            return (seconds - middle) * 1000 if row.is_start else seconds / max(middle, 1e-6)

        middle = statistics.median(times(native))
        low, high = quartiles(times(samples))
        return Comparison(compare(statistics.median(times(samples))), compare(low), compare(high))

    def text(self, row):
        if row.is_start:
            return f"{self.median:+.1f} ms [{self.low:.0f}..{self.high:.0f}]"
        digits = 2 if self.median < 10 else 1
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}..{self.high:.{digits}f}]"

    def verdict(self, row):
        target = row.plus_ms if row.is_start else row.ratio
        return "" if not target else " ok" if self.median <= target else " MISSED"
