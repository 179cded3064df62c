"""Checks what --trace=json, --trace=chrome and --stats=json have written about observe_test.sh's job.

    check_observations.py trace FILE ENGINE
    check_observations.py stats FILE ENGINE [TRACE]
    check_observations.py chrome FILE
    check_observations.py unclosed FILE

Exit status: 0, or 1 with a line for everything that is wrong.
"""
import collections
import json
import sys

PIPE_BUF = 4096
ODD_PATH = r"/no/\xff\xfe\n\"such\"\xc3"
PROCESS_STARTS = {"program", "fork", "vfork"}
FORKS = {"fork", "vfork", "clone", "clone3"}
EXECUTED = {"sort", "head", "true", "echo"}

failures = []


def expect(holds, message):
    if not holds:
        failures.append(message)


def lines_of(path):
    with open(path, "rb") as file:
        data = file.read()
    expect(data.endswith(b"\n"), "the last line is not whole")
    for line in data.splitlines():
        expect(all(0x20 <= byte < 0x7F for byte in line), f"not printable: {line!r}")
        expect(len(line) < PIPE_BUF, f"too long for a pipe: {line[:80]!r}")
        yield line.decode("ascii")


def children(calls):
    """The ids that successful forks and thread starts gave their callers."""
    return {call["result"] for call in calls
            if call["name"] in FORKS and (call["result"] or 0) > 0}


def check_trace(path, engine):
    events = [json.loads(line) for line in lines_of(path)]
    for event in events:
        expect(event["event"] in {"call", "exit", "exec", "signal", "start"}, f"event {event}")
        expect(event["engine"].split()[0] == engine, f"engine {event}")
        expect(event["start_ns"] > 0 and event["pid"] > 0 and event["tid"] > 0, f"origin {event}")
        expect(event.get("duration_ns", 0) >= 0, f"negative duration {event}")
        if "args" in event:
            expect(event["route"] in {"forwarded", "handled", "denied", "absent"}, f"{event}")
            expect((event.get("denied_by") == "table") == (event["route"] in {"denied", "absent"}),
                   f"denied by whom: {event}")
            expect(("errno" in event) <= (event["result"] == -1), f"errno {event}")
    calls = [event for event in events if event["event"] == "call"]
    starts = [event for event in events if event["event"] == "start"]
    begun = {event["tid"] for event in starts if event["name"] != "program"}
    made = children(calls)
    expect(len(made) >= 7, f"only {len(made)} children")
    expect(made <= begun, f"children without a first event: {made - begun}")
    threads = [event for event in starts if event["name"] == "thread"]
    expect(len(threads) == 3, f"{len(threads)} threads")
    expect(all(event["tid"] != event["pid"] for event in threads), "a thread with its process's id")
    # Each execve that did not return is followed by its program's first event, and by no other.
    executed = collections.Counter(event["pid"] for event in events if event["event"] == "exec")
    programs = collections.Counter(event["pid"] for event in starts if event["name"] == "program")
    programs[events[0]["pid"]] -= 1
    expect(+programs == executed, f"execs {executed}, programs {programs}")
    names = {event["program"].rsplit("/", 1)[1] for event in starts if event["name"] == "program"}
    # head may be a link; what counts is that every name is there.
    expect(EXECUTED <= names, f"programs {names}")
    for pid in {event["pid"] for event in starts if event["name"] in PROCESS_STARTS}:
        own = [event for event in events if event["pid"] == pid]
        expect(any(event["event"] == "exit" for event in own), f"process {pid} has no end")
    expect(any(call["args"].get("pathname") == ODD_PATH
               and call["errno"] == "ENOENT" for call in calls), "no odd path")
    signals = {event["name"] for event in events if event["event"] == "signal"}
    expect("SIGUSR1" in signals, f"signals {signals}")
    return events


def check_stats(path, engine, trace=None):
    programs = [json.loads(line) for line in lines_of(path)]
    for program in programs:
        expect(program["engine"].split()[0] == engine, f"engine {program}")
        for name in ("wall_ns", "user_us", "system_us", "minor_faults", "peak_memory_kib"):
            expect(program[name] >= 0, f"{name} {program}")
        expect(program["wall_ns"] > 0 and program["peak_memory_kib"] > 0, f"nothing {program}")
        expect(set(program["calls"]) == {"forwarded", "handled", "denied", "absent"}, f"{program}")
        expect(program["counters"]["entries"] > 0, f"counters {program}")
    names = [program["program"].rsplit("/", 1)[1] for program in programs]
    expect(EXECUTED <= set(names), f"programs {names}")
    if trace is None:
        return
    # Both have seen the same calls: of a program without threads and children, one for one.
    with open(trace, encoding="ascii") as file:
        events = [json.loads(line) for line in file]
    sort = next(program for program in programs if program["program"].endswith("/sort"))
    first = max(i for i, event in enumerate(events) if event["pid"] == sort["pid"]
                and event["event"] == "start" and event["name"] == "program")
    seen = collections.Counter(event["name"] for event in events[first:]
                               if event["pid"] == sort["pid"] and event["event"] in {"call", "exit"})
    counted = collections.Counter()
    for calls in sort["calls"].values():
        counted.update(calls)
    expect(seen == counted, f"traced {seen}, counted {counted}")
    failed = sum(1 for event in events[first:]
                 if event["pid"] == sort["pid"] and event["event"] == "call" and "errno" in event)
    expect(failed == sort["failed_calls"], f"failed {failed}, counted {sort['failed_calls']}")


def load_unclosed(path):
    text = "\n".join(lines_of(path))
    expect(text.startswith("[\n"), "no array")
    expect(text.endswith(","), "the last event is not whole")
    return json.loads(text[:-1] + "]")


def check_chrome(path):
    events = load_unclosed(path)
    for event in events:
        expect(event["ph"] in {"X", "i", "M"}, f"phase {event}")
        expect(event["ts"] > 0 and event["pid"] > 0 and event["tid"] > 0, f"origin {event}")
        expect((event["ph"] == "X") == ("dur" in event), f"duration {event}")
        expect(event.get("dur", 0) >= 0, f"negative duration {event}")
    slices = [event for event in events if event["ph"] == "X"]
    calls = [{"name": event["name"], "result": event["args"]["result"]} for event in slices]
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    made = children(calls)
    expect(len(made) >= 7, f"only {len(made)} children")
    expect(made <= named, f"children without a name: {made - named}")
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    expect({"worker0", "worker1", "worker2"} <= names, f"thread names {names}")
    processes = {event["args"]["name"].rsplit("/", 1)[1] for event in events
                 if event["name"] == "process_name"}
    expect(EXECUTED <= processes, f"process names {processes}")


def main(what, path, *more):
    if what == "trace":
        check_trace(path, *more)
    elif what == "stats":
        check_stats(path, *more)
    elif what == "chrome":
        check_chrome(path)
    else:
        expect(len(load_unclosed(path)) > 10, "too few events")
    for failure in failures[:20]:
        print(f"{path}: {failure}"[:2000])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
