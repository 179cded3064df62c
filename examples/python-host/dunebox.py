"""Untrusted native libraries from Python: the C API of Dunebox (dunebox.h) with ctypes.

    with Sandbox(deadline="1s") as sandbox:
        sandbox.load("/usr/lib/x86_64-linux-gnu/libz.so.1")
        crc32 = sandbox.find("crc32", "u64(u64, ptr, u32)")
        text = sandbox.allocate(b"some text")
        print(crc32(0, text, 9))

What fails raises Error; what a plugin has done to itself raises Failure, and the sandbox is over until
reset(). Numbers that a plugin returns may be any of their type: check them.

Python opens the library at run time, so that it cannot put itself in front of handlers of signals that are set
later: none may be (signal.signal, faulthandler.enable), nor may signals be blocked (signal.pthread_sigmask), once
there has been a sandbox. What was set before is safe.
"""
import ctypes
import os

OK, FAILED = 0, 9
FAILURES = {1: "trap", 2: "timeout", 3: "exited", 4: "denied", 5: "mismatch", 6: "cpu budget",
            7: "instruction budget"}


class _Details(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("failure", ctypes.c_int), ("signal", ctypes.c_int),
                ("exit_status", ctypes.c_int), ("instruction", ctypes.c_uint64),
                ("fault_address", ctypes.c_uint64), ("reached_memory_limit", ctypes.c_int), ("symbol", ctypes.c_char * 256),
                ("system_call", ctypes.c_char * 64), ("message", ctypes.c_char * 512)]


class _Value(ctypes.Union):
    _fields_ = [("i", ctypes.c_int64), ("u", ctypes.c_uint64), ("f64", ctypes.c_double),
                ("f32", ctypes.c_float)]


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Value), ctypes.POINTER(_Value))

_library = ctypes.CDLL(os.environ.get("DUNEBOX_LIBRARY", "libdunebox.so.0"))
for _name, _result in {"policy_create": ctypes.c_void_p, "memory_host": ctypes.c_void_p,
                       "memory_guest": ctypes.c_uint64, "status_name": ctypes.c_char_p,
                       "engine": ctypes.c_char_p, "isolation": ctypes.c_char_p}.items():
    getattr(_library, "dunebox_" + _name).restype = _result


class Error(Exception):
    """A call of the library's was refused; `status` is its dunebox_status."""

    def __init__(self, details):
        super().__init__(details.message.decode(errors="replace"))
        self.status = details.status


class Failure(Error):
    """The plugin is over: `kind` is one of FAILURES. `reached_memory_limit`: it was refused memory meanwhile."""

    def __init__(self, details):
        super().__init__(details)
        self.kind = FAILURES[details.failure]
        self.signal = details.signal
        self.exit_status = details.exit_status
        self.reached_memory_limit = details.reached_memory_limit != 0
        self.symbol = details.symbol.decode(errors="replace")
        self.system_call = details.system_call.decode()


def _call(name, *arguments):
    details = _Details()
    status = getattr(_library, "dunebox_" + name)(*arguments, ctypes.byref(details))
    if status != OK:
        raise (Failure if status == FAILED else Error)(details)


def _types(signature):
    """The field of _Value for the result, and those for the parameters."""
    def field(name):
        return {"f64": "f64", "f32": "f32"}.get(name, "i" if name.startswith("i") else "u")
    result, _, inside = "".join(signature.split()).rstrip(")").partition("(")
    names = [name for name in inside.split(",") if name not in ("", "void")]
    return None if result == "void" else field(result), [field(name) for name in names]


class Memory:
    """Bytes that both sides use. `view` is the host's; a plugin may change what is in it at any moment."""

    def __init__(self, handle, size):
        self._handle = handle
        self.address = _library.dunebox_memory_guest(handle)
        host = _library.dunebox_memory_host(handle)
        self.view = memoryview((ctypes.c_char * size).from_address(host)).cast("B") if size else memoryview(b"")

    def __bytes__(self):
        return bytes(self.view)

    def free(self):
        """`view` is not to be used afterwards."""
        handle, self._handle = self._handle, None
        _library.dunebox_memory_free(handle)

    def __del__(self):
        self.free()


class Function:
    """One of the plugin's. Takes numbers, and for pointers Memory, addresses and None."""

    def __init__(self, sandbox, handle, signature):
        self._sandbox = sandbox
        self._handle = handle
        self._result, self._parameters = _types(signature)

    def __call__(self, *arguments):
        values = (_Value * len(arguments))()
        for value, field, argument in zip(values, self._parameters, arguments):
            if isinstance(argument, Memory):
                argument = argument.address
            _set(value, field, 0 if argument is None else argument)
        result = _Value()
        self._sandbox._raised = None
        _call("call", self._handle, values, ctypes.c_size_t(len(arguments)), ctypes.byref(result))
        if self._sandbox._raised is not None:
            raise self._sandbox._raised
        return None if self._result is None else getattr(result, self._result)

    def __del__(self):
        _library.dunebox_function_destroy(self._handle)


def _set(value, field, number):
    # ctypes cuts integers to their size without a word.
    if field in "iu" and not (-1 << 63 if field == "i" else 0) <= number < (1 << 63 if field == "i" else 1 << 64):
        raise OverflowError(f"{number} does not fit")
    setattr(value, field, number)


class Sandbox:
    """A plugin's own memory, C library and libraries. Settings are those of dunebox_policy_set; lists for those
    that may be given more than once."""

    def __init__(self, **settings):
        self._handle = None
        self._callbacks = []  # as long as the sandbox lives, the plugin may call them
        self._raised = None
        policy = ctypes.c_void_p(_library.dunebox_policy_create())
        try:
            for name, value in {"late_handlers": "none", **settings}.items():
                for text in value if isinstance(value, (list, tuple)) else [value]:
                    _call("policy_set", policy, name.encode(), str(text).encode())
            handle = ctypes.c_void_p()
            _call("create", policy, ctypes.byref(handle))
            self._handle = handle
        finally:
            _library.dunebox_policy_destroy(policy)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        handle, self._handle = self._handle, None
        _library.dunebox_destroy(handle)

    def load(self, path):
        _call("load", self._handle, os.fsencode(path))

    def reset(self):
        _call("reset", self._handle)

    def find(self, name, signature):
        handle = ctypes.c_void_p()
        _call("find", self._handle, name.encode(), signature.encode(), ctypes.byref(handle))
        return Function(self, handle, signature)

    def export(self, signature, function):
        """The address of a C function for the plugin that calls `function`. What that raises, the call that the
        plugin was in raises in the end; the plugin gets 0."""
        result, parameters = _types(signature)

        def run(_, arguments, answer):
            try:
                value = function(*(getattr(arguments[i], field) for i, field in enumerate(parameters)))
                if result is not None:
                    _set(answer[0], result, value)
            except BaseException as raised:  # pylint: disable=broad-except
                self._raised = self._raised or raised
        callback = _Callback(run)
        self._callbacks.append(callback)
        address = ctypes.c_uint64()
        _call("export", self._handle, signature.encode(), callback, None, ctypes.byref(address))
        return address.value

    def allocate(self, content):
        """Shared memory: so many bytes of zeros, or these."""
        size = content if isinstance(content, int) else len(content)
        handle = ctypes.c_void_p()
        _call("allocate", self._handle, ctypes.c_size_t(size), ctypes.byref(handle))
        memory = Memory(handle, size)
        if not isinstance(content, int):
            memory.view[:] = content
        return memory

    def read(self, address, size):
        """A copy of the plugin's bytes."""
        content = ctypes.create_string_buffer(size)
        _call("read", self._handle, ctypes.c_uint64(address), content, ctypes.c_size_t(size))
        return content.raw

    def read_string(self, address, most=4096):
        content = ctypes.create_string_buffer(most + 1)
        _call("read_string", self._handle, ctypes.c_uint64(address), content, ctypes.c_size_t(most + 1), None)
        return content.value

    def write(self, address, content):
        _call("write", self._handle, ctypes.c_uint64(address), bytes(content), ctypes.c_size_t(len(content)))

    def output(self):
        """What the plugin has written to its stdout and stderr since the last time."""
        parts, content, length = [], ctypes.create_string_buffer(4096), ctypes.c_size_t(1)
        while length.value != 0:
            _call("take_output", self._handle, content, ctypes.c_size_t(4096), ctypes.byref(length))
            parts.append(content.raw[:length.value])
        return b"".join(parts)

    @property
    def isolation(self):
        return f"{_library.dunebox_engine(self._handle).decode()}/{_library.dunebox_isolation(self._handle).decode()}"
