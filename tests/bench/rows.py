"""The rows of tests/bench: what each one runs, and the inputs they read.

A command is a string of words. {NAME} in it is a program of CMakeLists.txt, an input made here by
the function of that name, or a script's folder; the first word is looked up in PATH
below.
"""
import dataclasses
import os
import random
import shlex
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(HERE, "scripts")
PATH = "/usr/local/bin:/usr/bin:/bin"   # the distribution's programs, whatever the caller prefers


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    command: str
    quick: str = ""          # the same with hardly any work; the command itself when empty
    ratio: float = 0         # target: CPU time relative to native
    plus_ms: float = 0       # target: wall-clock time over native; for rows that measure a start
    is_start: bool = False   # compared by wall-clock time, not by CPU time
    samples: int = 1         # runs in each repetition: more where a run is short
    stdin: str = ""          # a file, written like a command

    def words(self, quick):
        return shlex.split(self.quick if quick and self.quick else self.command)


ROWS = (
    Row("nbody", "scalar floating point", "{programs}/nbody 6000000", "{programs}/nbody 1000",
        ratio=1.05),
    Row("sha256sum", "coreutils, 64 MB", "sha256sum {bytes_64m}", "sha256sum {text_small}",
        ratio=1.05),
    Row("memcpy", "64 MiB, 25 times", "{programs}/memcpy_64m 25", "{programs}/memcpy_64m 1",
        ratio=1.05),
    Row("xz", "xz -1, 6 MB of text", "xz -1 --threads=1 --stdout {text}",
        "xz -1 --threads=1 --stdout {text_small}", ratio=1.2),
    Row("bzip2", "6 MB of text", "bzip2 --stdout {text}", "bzip2 --stdout {text_small}", ratio=1.2),
    Row("fib", "recursion: call and return", "{programs}/fib 40", "{programs}/fib 15", ratio=1.3),
    Row("virtual_calls", "8 types in random order", "{programs}/virtual_calls 100",
        "{programs}/virtual_calls 1", ratio=1.5),
    Row("interpreter", "threaded code (computed goto)", "{programs}/interpreter 200",
        "{programs}/interpreter 1", ratio=1.5),
    Row("sort_hash", "qsort and unordered_map", "{programs}/sort_hash 1500",
        "{programs}/sort_hash 5", ratio=1.3),
    Row("throw_catch", "60,000 C++ exceptions", "{programs}/throw_catch 60",
        "{programs}/throw_catch 1", ratio=1.6),
    Row("locked_add", "4 threads, LOCK XADD", "{programs}/locked_add 10",
        "{programs}/locked_add 1"),
    Row("short_threads", "20,000 threads, created and joined", "{programs}/short_threads 20",
        "{programs}/short_threads 1", samples=3),
    Row("python_loop", "pure Python, 5M iterations", "python3 {scripts}/loop.py 5000000",
        "python3 {scripts}/loop.py 1000", ratio=1.4),
    Row("python_short", "the same, 200k: start included", "python3 {scripts}/loop.py 200000",
        "python3 {scripts}/loop.py 1000", samples=3),
    Row("sqlite", ":memory:, insert, index, join",
        "sqlite3 -batch -cmd 'CREATE TABLE amount AS SELECT 120000 AS rows' :memory:",
        "sqlite3 -batch -cmd 'CREATE TABLE amount AS SELECT 1000 AS rows' :memory:",
        stdin="{scripts}/tables.sql", ratio=1.6),
    Row("perl", "hashes, concatenation, patterns", "perl {scripts}/hash.pl 1000",
        "perl {scripts}/hash.pl 1", ratio=1.8),
    Row("cc1plus", "-O1, 40,000 lines",
        "{cc1plus} -quiet -std=c++17 -fpreprocessed {source_40k} -O1 -frandom-seed=1 -o -",
        "{cc1plus} -quiet -std=c++17 -fpreprocessed {source_small} -O1 -frandom-seed=1 -o -",
        ratio=2.5),
    Row("node", "loop of 3e7, start included", "node {scripts}/loop.js 30000000",
        "node {scripts}/loop.js 1000", ratio=1.6),
    Row("luajit_loop", "one hot trace", "luajit {scripts}/loop.lua 50000000",
        "luajit {scripts}/loop.lua 1000", ratio=1.6),
    Row("luajit_tables", "strings and tables", "luajit {scripts}/tables.lua 600",
        "luajit {scripts}/tables.lua 1", ratio=1.6),
    Row("self_modifying", "3,000 patches x 1,000 calls", "{programs}/self_modifying 3000",
        "{programs}/self_modifying 10", ratio=8, samples=5),
    Row("getppid", "500k calls answered in the sandbox", "{programs}/getppid 500", "{programs}/getppid 1", ratio=1.5),
    Row("pread", "200k calls of the host's kernel", "{programs}/pread_byte 200", "{programs}/pread_byte 1"),
    Row("open_close", "100k files opened, looked at and closed", "{programs}/open_close 100", "{programs}/open_close 1"),
    Row("page_faults", "mapped, touched, given back: 100k pages", "{programs}/page_faults 400",
        "{programs}/page_faults 2"),
    Row("openssl", "dgst -sha256, 64 MB", "openssl dgst -sha256 {bytes_64m}",
        "openssl dgst -sha256 {text_small}"),
    Row("start_true", "/bin/true, dynamic", "/bin/true", plus_ms=5, is_start=True, samples=8),
    Row("start_static", "true, static", "{programs}/true_static", is_start=True, samples=8),
    Row("start_python", "python3 -c pass", "python3 -c pass", plus_ms=60, is_start=True, samples=4),
    Row("start_node", "node -e 0", "node -e 0", is_start=True, samples=2),
)


class Missing(Exception):
    """What a row needs is not on this machine."""


class Places(dict):
    """What {NAME} in a command stands for; inputs are made when first asked for."""

    def __init__(self, programs, inputs):
        super().__init__(programs=programs, scripts=SCRIPTS)
        self.inputs = inputs

    def __missing__(self, name):
        if name == "cc1plus":
            return compiler_proper()
        path = os.path.join(self.inputs, name + (".ii" if name.startswith("source") else ""))
        if not os.path.exists(path):
            os.makedirs(self.inputs, exist_ok=True)
            with open(path + ".part", "wb") as file:
                file.write(INPUTS[name]())
            os.rename(path + ".part", path)
        return path

    def command(self, words):
        """The words with everything filled in, the program by its absolute path."""
        program, *arguments = [word.format_map(self) for word in words]
        found = shutil.which(program, path=PATH)
        if found is None:
            raise Missing(f"{program} is not there")
        return [found, *arguments]


def compiler_proper():
    try:
        path = subprocess.run(["g++", "-print-prog-name=cc1plus"], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.strip()
    except OSError as error:
        raise Missing("g++ is not installed") from error
    return path


def text(size):
    """Words of a made-up language, frequent ones often, in sentences."""
    source = random.Random(1)
    syllables = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(source.choices(syllables, k=source.randint(1, 4))) for _ in range(5000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    lines, length = [], 0
    while length < size:
        chosen = source.choices(words, weights, k=2000)
        for begin in range(0, len(chosen), 11):
            lines.append(" ".join(chosen[begin:begin + 11]).capitalize() + ".\n")
            length += len(lines[-1])
    return "".join(lines)[:size].encode()


def preprocessed(classes, functions):
    """A C++ source, no two classes or functions the same, over a few of the library's headers."""
    source = random.Random(2)
    parts = [f"#include <{header}>\n" for header in ("algorithm", "iostream", "map", "vector")]
    for i in range(classes):
        a, b, c = (source.randint(2, 999) for _ in range(3))
        cases = "".join(
            f"      case {source.randint(n * 50, n * 50 + 49)}: return x * {n + a} + y;\n"
            for n in range(source.randint(3, 9)))
        parts.append(f"""
struct Item{i} {{
  long key = {a};
  std::string name = "item {b}";
  std::vector<long> parts;
  long Step(long x, long y) const {{
    switch (x % {c + 500}) {{
{cases}      default: break;
    }}
    long sum = {b};
    for (long i = 0; i < y; ++i) {{
      if ((i ^ x) % {a} == 1) sum += i * {c}; else sum -= parts[i % parts.size()] >> {a % 7};
    }}
    return sum;
  }}
  void Fill(long count) {{
    for (long i = 0; i < count; ++i) parts.push_back(Step(i, i % {b}));
    std::sort(parts.begin(), parts.end(), [](long x, long y) {{ return x % {c} < y % {c}; }});
    name += std::to_string(parts.size());
  }}
}};
long Use{i}(std::map<std::string, Item{i}>& items, const std::string& name) {{
  const auto found = items.find(name);
  if (found != items.end()) found->second.Fill({a});
  return found == items.end() ? {c} : found->second.Step({a}, {b});
}}
""")
    for i in range(functions):
        a, b, c = (source.randint(0, 13) for _ in range(3))
        fields = "".join(f"  long field{n} = {n * i};\n" for n in range(14))
        parts.append(f"""
struct Record{i} {{
{fields}}};
long Sum{i}(Record{i}* records, long count) {{
  long sum = records[0].field{a};
  for (long i = 0; i < count; ++i) {{
    if (records[i].field{b} > {i}) sum ^= records[i].field{c} * {a};
  }}
  return sum;
}}
""")
    return subprocess.run(["g++", "-E", "-P", "-x", "c++", "-std=c++17", "-"], check=True,
                          input="".join(parts).encode(), stdout=subprocess.PIPE).stdout


INPUTS = {
    "text": lambda: text(6_000_000),
    "text_small": lambda: text(20_000),
    "bytes_64m": lambda: random.Random(3).randbytes(64_000_000),
    "source_40k": lambda: preprocessed(5, 160),
    "source_small": lambda: b"int one() { return 1; }\n",
}
