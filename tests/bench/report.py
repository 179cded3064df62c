"""What was measured, for readers: lines, tables in Markdown, a chart. Ratios come first."""

NATIVE = "native"


def ratio_text(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def service_lines(entry):
    native = entry["engines"].get(NATIVE)
    for name, result in entry["engines"].items():
        ratio = f"{result['per_second'] / native['per_second']:.2f} of native, " if native else ""
        yield (f"{entry['name']:15} {name:12} {ratio}{result['per_second']:.0f}/s "
               f"[{result['spread'][0]:.0f}..{result['spread'][1]:.0f}], p99 {result['p99_ms']:.2f} ms")
    for name, reason in entry["failed"].items():
        yield f"    FAILED {entry['name']}, {name}: {reason}"


def instance_lines(entry):
    for name, result in entry["engines"].items():
        yield (f"{entry['count']:3} side by side  {name:12} {result['kib_each'] / 1024:.1f} MiB each, "
               f"all run after {result['seconds'] * 1000:.0f} ms")
    for name, reason in entry["failed"].items():
        yield f"    FAILED {entry['count']} side by side, {name}: {reason}"


def call_lines(calls):
    base = next((call["ns"] for call in calls if call["name"] == "SystemCall"), None)
    for call in calls:
        ratio = f", {call['ns'] / base:.2f} x getppid" if base else ""
        yield f"{call['name']:30} {call['ns']:.0f} ns{ratio}"


def table_of(head, lines):
    cells = [head, ["---"] + ["--:"] * (len(head) - 1), *lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells) + "\n"


def cell(entry, name):
    if name in entry["failed"]:
        return "failed"
    measured = entry["engines"].get(name)
    if measured is None:
        return "-"
    compared = measured["compared"]
    if entry["unit"] == "ratio":
        low, high = ratio_text(compared["low"]), ratio_text(compared["high"])
        return f"{ratio_text(compared['median'])} [{low}..{high}]"
    return f"{compared['median']:+.1f} ms [{compared['low']:.1f}..{compared['high']:.1f}]"


def native_cell(entry):
    native = entry["engines"][NATIVE]
    return f"{native['cpu']:.2f} s" if entry["unit"] == "ratio" else f"{native['wall'] * 1000:.1f} ms"


def markdown(data):
    names = list(data["engines"])
    facts = data["machine"]
    text = (f"{facts['processor']}, {facts['processors']} processors, Linux {facts['kernel']}, {facts['time'][:10]}, "
            f"load {facts['load']:.1f} at the start; medians of {data['repeat']} interleaved runs, quarter and "
            "three-quarter points in brackets.\n\n")
    if data["rows"]:
        by_wall_clock = data["by_wall_clock"]
        exception = f" ({', '.join(by_wall_clock)}: wall-clock time)" if by_wall_clock else ""
        text += (f"CPU time relative to native{exception}; of starts, wall-clock time added.\n\n"
                 + table_of(["row", NATIVE, *names],
                            [[entry["what"], native_cell(entry), *(cell(entry, name) for name in names)]
                             for entry in data["rows"]]))
    if data.get("services"):
        text += "Requests a second relative to native, and the slowest hundredth.\n\n"
        lines = []
        for entry in data["services"]:
            native = entry["engines"].get(NATIVE)
            line = [entry["what"], f"{native['per_second']:.0f}/s, {native['p99_ms']:.2f} ms" if native else "failed"]
            for name in names:
                result = entry["engines"].get(name)
                line.append(f"{result['per_second'] / native['per_second']:.2f}, {result['p99_ms']:.2f} ms"
                            if result and native else "failed")
            lines.append(line)
        text += table_of(["service", NATIVE, *names], lines)
    if data.get("instances"):
        text += "Memory of an instance that does nothing (PSS), and the time until all run.\n\n"
        lines = []
        for entry in data["instances"]:
            line = [f"{entry['count']} side by side"]
            for name in (NATIVE, *names):
                result = entry["engines"].get(name)
                line.append(f"{result['kib_each'] / 1024:.1f} MiB, {result['seconds'] * 1000:.0f} ms" if result
                            else "failed")
            lines.append(line)
        text += table_of(["instances", NATIVE, *names], lines)
    if data.get("calls"):
        base = next(call["ns"] for call in data["calls"] if call["name"] == "SystemCall")
        text += "Plugins, CPU time (or, by the name, real time) relative to the system call getppid.\n\n"
        text += table_of(["operation", "x getppid", "ns"],
                         [[call["name"], ratio_text(call["ns"] / base), f"{call['ns']:.0f}"]
                          for call in data["calls"]])
    return text


def draw(data, file):
    """The ratios of every row as bars. "", or why there is no chart."""
    try:
        import matplotlib
    except ImportError:
        return "matplotlib is not installed (Debian's package python3-matplotlib)"
    matplotlib.use("Agg")
    from matplotlib import pyplot
    entries = [entry for entry in data["rows"] if entry["unit"] == "ratio"]
    names = [name for name in data["engines"] if any(name in entry["engines"] for entry in entries)]
    if not entries or not names:
        return "no row has a ratio"
    figure, axes = pyplot.subplots(figsize=(10, 0.16 * len(entries) * len(names) + 1.5))
    height = 0.85 / len(names)
    for place, name in enumerate(names):
        shown = [(index, entry["engines"][name]["compared"]["median"]) for index, entry in enumerate(entries)
                 if name in entry["engines"]]
        axes.barh([index + (place + 0.5) * height for index, _ in shown], [ratio for _, ratio in shown],
                  height=height, label=name)
    axes.set_yticks([index + 0.42 for index in range(len(entries))], [entry["what"] for entry in entries])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("CPU time relative to native (logarithmic)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    return ""
