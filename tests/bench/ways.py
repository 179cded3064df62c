"""The ways a command can be run: natively, in the sandbox by each engine, and by what others have made.

A way is the words that stand before the command. Each is tried once with /bin/true: what is not installed or does
not work here is left out, and said.
"""
import dataclasses
import os
import shutil

NATIVE = "native"


@dataclasses.dataclass(frozen=True)
class Peer:
    """Somebody else's: `words` before a command, of Debian's `package`."""
    words: tuple
    package: str
    # Its work is done by processes that its first one does not wait for: only the clock on the wall sees it.
    by_wall_clock: bool = False


PEERS = {
    "qemu": Peer(("qemu-x86_64",), "qemu-user"),
    "bwrap": Peer(("bwrap", "--unshare-all", "--share-net", "--die-with-parent", "--bind", "/", "/",
                   "--dev", "/dev", "--proc", "/proc"), "bubblewrap", by_wall_clock=True),
    "gvisor": Peer(("runsc", "--rootless", "--network=host", "--ignore-cgroups", "do"), "runsc",
                   by_wall_clock=True),
    "valgrind": Peer(("valgrind", "--quiet", "--tool=none"), "valgrind"),
}
# Each engine and isolation; "policy": what a user has who says little, with both walls. With PREPARED behind it
# `dunebox prepare` has had each command before.
PREPARED = "+prepared"
OURS = ("jit:none", "jit:mask-writes", "jit:mask", "jit:mask" + PREPARED, "jit:seg", "jit:pku", "policy", "kvm")


@dataclasses.dataclass(frozen=True)
class Way:
    name: str
    words: tuple            # before the command
    is_ours: bool = True
    prepare: tuple = ()     # before the command once, ahead of all others
    by_wall_clock: bool = False


class Unknown(Exception):
    """No way has this name."""


HERE = os.path.dirname(os.path.abspath(__file__))


def find(name, dunebox, path, writable, prepared):
    """The Way, or why it is not here: a text. `writable`: the directory a policy lets the program write to; `prepared`:
    where translations are kept."""
    if name in PEERS:
        peer = PEERS[name]
        found = shutil.which(peer.words[0], path=path)
        if found is None:
            return f"{peer.words[0]} is not installed (Debian's package {peer.package})"
        return Way(name, (found, *peer.words[1:]), by_wall_clock=peer.by_wall_clock, is_ours=False)
    plain = name.removesuffix(PREPARED)
    if plain == "policy":
        options = ("--engine=jit", "--ro", "/", "--ro", HERE, "--ro", os.path.dirname(dunebox), "--rw", writable,
                   "--net=host")
    else:
        engine, _, isolation = plain.partition(":")
        if engine not in ("jit", "kvm", "auto"):
            raise Unknown(f"no such way to run: {name}")
        isolated = (f"--jit-isolation={isolation}",) if isolation else ()
        options = (f"--engine={engine}", *isolated, "--allow=all")
    if plain == name:
        nothing = ("--jit-prepared=none",) if options[0] == "--engine=jit" else ()  # the others may be kvm
        return Way(name, (dunebox, "run", *options, *nothing, "--"))
    kept = f"--jit-prepared={os.path.join(prepared, plain.replace(':', '-'))}"
    return Way(name, (dunebox, "run", *options, kept, "--"), prepare=(dunebox, "prepare", *options, kept, "--"))


def working(names, extra, dunebox, path, directory, prepared, try_out):
    """[Way] of those that run /bin/true; ([why not]). `try_out`(words) is "" or a complaint."""
    found, complaints = [], []
    ways = [(name, find(name, dunebox, path, directory, prepared)) for name in names]
    ways += [(name, Way(name, tuple(words))) for name, words in extra.items()]
    for name, way in ways:
        reason = way if isinstance(way, str) else ""
        for words in () if reason else (way.prepare, way.words):
            reason = reason or (try_out((*words, "/bin/true")) if words else "")
        if not reason:
            found.append(way)
            continue
        # An engine that should work here and does not is an error, else a broken build passes for one that has
        # nothing to measure.
        if name.startswith("kvm") and os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise RuntimeError(f"engine kvm does not work: {reason}")
        complaints.append(f"{name}: {reason}")
    return found, complaints
