"""Calls the distribution's zlib, PCRE2 and C library as untrusted code: a Python function sorts for them, a
pattern that takes for ever ends at its deadline, and a crash is an exception.

    DUNEBOX_LIBRARY=build/release/libdunebox.so python3 examples/python-host/main.py
"""
import signal
import struct
import zlib

import dunebox

LIBRARIES = "/usr/lib/x86_64-linux-gnu/"


def compress(sandbox, content):
    """With the plugin's zlib; its answer is checked with Python's own."""
    sandbox.load(LIBRARIES + "libz.so.1")
    function = sandbox.find("compress", "i32(ptr, ptr, ptr, u64)")
    source = sandbox.allocate(content)
    target = sandbox.allocate(len(content) + 100)
    size = sandbox.allocate(struct.pack("<Q", len(target.view)))
    assert function(target, size, source, len(content)) == 0
    # Whatever the plugin says, no more than there is; a copy, which it cannot change any more.
    (length,) = struct.unpack("<Q", bytes(size))
    packed = bytes(target.view[:min(length, len(target.view))])
    assert zlib.decompress(packed) == content
    return packed


def sort(sandbox, numbers):
    """With the plugin's qsort, in an order that Python knows."""
    def compare(left, right):
        a, b = (struct.unpack("<i", sandbox.read(address, 4))[0] for address in (left, right))
        return (a > b) - (a < b)
    shared = sandbox.allocate(struct.pack(f"<{len(numbers)}i", *numbers))
    qsort = sandbox.find("qsort", "void(ptr, u64, u64, ptr)")
    qsort(shared, len(numbers), 4, sandbox.export("i32(ptr, ptr)", compare))
    return list(struct.unpack(f"<{len(numbers)}i", bytes(shared)))


def matches(sandbox, pattern, text):
    """With the plugin's PCRE2."""
    compile_ = sandbox.find("pcre2_compile_8", "ptr(ptr, u64, u32, ptr, ptr, ptr)")
    make_data = sandbox.find("pcre2_match_data_create_from_pattern_8", "ptr(ptr, ptr)")
    match = sandbox.find("pcre2_match_8", "i32(ptr, ptr, u64, u64, u32, ptr, ptr)")
    # The library has a limit of its own; a host that needs none trusts the deadline.
    context = sandbox.find("pcre2_match_context_create_8", "ptr(ptr)")(None)
    sandbox.find("pcre2_set_match_limit_8", "i32(ptr, u32)")(context, 0xffffffff)
    error = sandbox.allocate(16)
    code = compile_(sandbox.allocate(pattern + b"\0"), len(pattern), 0, error, error.address + 8, None)
    assert code != 0
    return match(code, sandbox.allocate(text + b"\0"), len(text), 0, 0, make_data(code, None), context) >= 0


def main():
    with dunebox.Sandbox(deadline="60s") as sandbox:
        print("isolation", sandbox.isolation)
        content = b"what goes in comes out " * 1000
        print("compressed", len(content), "to", len(compress(sandbox, content)))
        print("sorted", sort(sandbox, [5, -3, 900, 0, 7]))

        try:
            sandbox.find("qsort", "void(ptr, u64, u64, ptr)")(
                sandbox.allocate(16), 4, 4, sandbox.export("i32(ptr, ptr)", lambda *_: 1 // 0))
        except ZeroDivisionError as raised:
            print("callback raised", raised)

        strlen = sandbox.find("strlen", "u64(ptr)")
        try:
            strlen(16)
        except dunebox.Failure as failure:
            print("crashed", failure.kind, signal.Signals(failure.signal).name)
        try:
            strlen(sandbox.allocate(b"a\0"))
        except dunebox.Failure as failure:
            print("still", failure.kind)
        sandbox.reset()
        print("after a reset", strlen(sandbox.allocate(b"abc\0")))

        for name, arguments, kind in (("exit", (3,), "exited"), ("abort", (), "trap")):
            try:
                sandbox.find(name, "void(i32)" if arguments else "void()")(*arguments)
            except dunebox.Failure as failure:
                print(name, failure.kind == kind)
            sandbox.reset()
        try:
            sandbox.find("no_such_function", "void()")
        except dunebox.Error as error:
            print("refused:", error)

    with dunebox.Sandbox(deadline="500ms") as sandbox:
        sandbox.load(LIBRARIES + "libpcre2-8.so.0")
        print("match", matches(sandbox, b"^a+b", b"aaab"), matches(sandbox, b"^x", b"abc"))
        slow = b"^(a|aa|a?)+(a|aa|a?)+(a|aa|a?)+$"
        try:
            matches(sandbox, slow, b"a" * 50 + b"b")
        except dunebox.Failure as failure:
            print("pattern", failure.kind)


if __name__ == "__main__":
    main()
