#!/usr/bin/env python3
"""Job control of a confined program, from an interactive shell on a terminal of its own.

    terminal.py DUNEBOX ENGINE

The shell must see the job stop on ^Z and go on with fg, ^C must end it, and an interactive shell
inside must have job control itself. Exit status: 0 as it should be, 1 not, 77 skipped.
"""
import os
import pty
import re
import select
import sys
import time

DUNEBOX, ENGINE = sys.argv[1], sys.argv[2]
RUN = f"{DUNEBOX} run --engine={ENGINE} --ro /usr --"
PATIENCE = 40  # seconds; a busy machine is slow


if ENGINE == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("skip: /dev/kvm cannot be used here")
    sys.exit(77)


class Terminal:
    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="ready> ", LC_ALL="C", TERM="dumb")
            os.chdir("/")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.seen = ""

    def expect(self, pattern):
        end = time.monotonic() + PATIENCE
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end():]
                return match
            if time.monotonic() > end:
                sys.exit(f"FAILED: no {pattern!r} in {self.seen!r}")
            if select.select([self.fd], [], [], 0.5)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def send(self, text):
        os.write(self.fd, text.encode())


terminal = Terminal()
terminal.expect("ready> ")

# Stopped by the terminal, continued by the shell, ended by ^C.
terminal.send(f"{RUN} bash -c 'echo up; while :; do read -t 1; done'\n")
terminal.expect(r"\nup\r\n")
terminal.send("\x1a")
terminal.expect(r"Stopped")
terminal.expect("ready> ")
terminal.send("fg\n")
terminal.expect(r"\n.*run.*\r\n")
time.sleep(0.5)
terminal.send("\x03")
terminal.expect("ready> ")
terminal.send("jobs; echo none\n")
terminal.expect(r"\nnone\r\n")

# ^C alone: the status is that of the signal.
terminal.send(f"{RUN} bash -c 'echo up; exec sleep 1000'\n")
terminal.expect(r"\nup\r\n")
terminal.send("\x03")
terminal.expect("ready> ")
terminal.send("echo \"status=$?\"\n")
terminal.expect(r"\nstatus=130\r\n")
terminal.expect("ready> ")

# A shell inside has jobs of its own and gives the terminal back.
terminal.send(f"{RUN} bash --norc --noprofile -i\n")
terminal.send("PS1='inside> '\n")
terminal.expect(r"\ninside> |\rinside> |inside> $")
terminal.send("sleep 1000\n")
time.sleep(1)
terminal.send("\x1a")
terminal.expect("Stopped")
terminal.send("fg\n")
terminal.expect(r"sleep 1000\r\n")
time.sleep(0.5)
terminal.send("\x03")
terminal.send("echo in-$((1 + 1))\n")
terminal.expect(r"\nin-2\r\n")
terminal.send("exit\n")
terminal.expect("ready> ")
terminal.send("echo back-$((2 + 3))\n")
terminal.expect(r"\nback-5\r\n")
terminal.send("exit\n")
os.waitpid(terminal.pid, 0)
