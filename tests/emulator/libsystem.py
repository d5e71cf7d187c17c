"""The functions of libSystem that the plugin calls, in Python.

A function that is not here can be bound, but calling it is a Fault that names it.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Callable

from tests.emulator.image import Image
from tests.emulator.machine import Fault, Machine

MACOS = "15.0"  # as plugin/host has it when nothing else is asked for
PROCESS = 4242  # id of the process and of its thread
RTLD_DEFAULT = -2
NO_SUCH_FILE = 2  # errno
REGULAR_FILE = 0o100644
SIZE_OF_STAT, STAT_MODE = 144, 4  # of struct stat on arm64 macOS: its size, where st_mode is
DATA_BYTES = 4096  # at least as large as any variable that libSystem exports

FUNCTIONS: dict[str, Callable] = {}


def function(body: Callable) -> Callable:
    FUNCTIONS[body.__name__] = body
    return body


def named(*names: str) -> Callable[[Callable], Callable]:
    def add(body: Callable) -> Callable:
        FUNCTIONS.update(dict.fromkeys(names, body))
        return body

    return add


class LibSystem:
    """State of the C library.

    Attributes:
      libraries: what is loaded, by path: functions that tell the address of a symbol, or 0.
      files: what dlopen can load besides, in the same way; only its handle finds symbols there.
      image: the library that was loaded, once it is.
    """

    VARIABLES = ("__stderrp", "_DefaultRuneLocale", "_NSConcreteStackBlock")

    def __init__(self, machine: Machine, environment: dict[str, str]) -> None:
        self.machine = machine
        self.environment = {k: machine.new_text(v) for k, v in environment.items()}
        self.libraries: dict[str, Callable[[str], int]] = {}
        self.files: dict[str, Callable[[str], int]] = {}
        self.handles: list[Callable[[str], int]] = []
        self.image: Image | None = None
        self.errno = machine.new_data(8)
        self._variables: dict[str, int] = {}

    def find(self, name: str) -> int:
        """The address of a function or variable."""
        if name in self.VARIABLES:
            return self._variables.setdefault(name, self.machine.new_data(DATA_BYTES))
        body = FUNCTIONS.get(name)
        if body is None:
            return self.machine.function(name, functools.partial(unknown, name))
        return self.machine.function(name, functools.partial(body, self))

    def fail(self, error: int, result: int = -1) -> int:
        self.machine.write(self.errno, struct.pack("<i", error))
        return result


def unknown(name: str) -> int:
    raise Fault(f"{name} is called, which the emulator does not have")


def signed(value: int, bits: int = 32) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# ---- memory -------------------------------------------------------------------------------------


@function
def malloc(s, size):
    return s.machine.allocate(size)


@function
def free(s, address):
    s.machine.free(address)


@function
def bzero(s, to, size):
    s.machine.write(to, bytes(size))


@function
def memset_pattern16(s, to, pattern, size):
    s.machine.write(to, (s.machine.read(pattern, 16) * (size // 16 + 1))[:size])


@function
def memchr(s, text, byte, size):
    at = s.machine.read(text, size).find(bytes([byte & 0xFF]))
    return text + at if at >= 0 else 0


# ---- text ---------------------------------------------------------------------------------------


@named("strtol", "strtoll")
def strtol(s, text, end, base):
    content = s.machine.text(text)
    digits = {10: rb"[0-9]+", 16: rb"(?:0[xX])?[0-9a-fA-F]+"}[base & 0xFFFFFFFF]
    match = re.match(rb"\s*[-+]?" + digits, content)
    if end:
        s.machine.set_word(end, text + (match.end() if match else 0))
    return int(match.group(), base) if match else 0


def formatted(s: LibSystem, template: bytes, arguments: int) -> bytes:
    """printf over arguments of eight bytes each."""

    def one(match: re.Match) -> bytes:
        nonlocal arguments
        flags, length, kind = (g.decode() if g else "" for g in match.groups())
        if kind == "%":
            return b"%"
        raw, arguments = s.machine.word(arguments), arguments + 8
        if kind == "s":
            return (f"%{flags}s" % s.machine.text(raw).decode("latin1")).encode("latin1")
        if kind in "efg":
            return (f"%{flags}{kind}" % struct.unpack("<d", struct.pack("<Q", raw))[0]).encode()
        bits = 64 if length in ("l", "ll", "z", "j", "t") or kind == "p" else 32
        value = signed(raw, bits) if kind in "di" else raw & ((1 << bits) - 1)
        return (f"%{flags}{kind.replace('p', 'x').replace('u', 'd')}" % value).encode()

    return re.sub(rb"%([-+ #0-9.]*)(ll|hh|[lhzjt])?([diuxXcspefg%])", one, template)


def store_text(s: LibSystem, to: int, size: int, text: bytes) -> int:
    if size:
        s.machine.write(to, text[: size - 1] + b"\0")
    return len(text)


@function
def sscanf(s, text, template):
    """Of integers with what is between them."""
    pattern = re.escape(s.machine.text(template)).replace(b"%d", rb"([-+]?\d+)")
    match = re.match(pattern, s.machine.text(text))
    found = [int(group) for group in match.groups()] if match else []
    for i, value in enumerate(found):
        s.machine.write(s.machine.word(s.machine.stack_words(i)), struct.pack("<i", value))
    return len(found)


@function
def ldexp(s, exponent):
    s.machine.float_argument = math.ldexp(s.machine.float_argument, signed(exponent))


# ---- files and the process ----------------------------------------------------------------------


@function
def fprintf(s, file, template):
    return vfprintf(s, file, template, s.machine.stack_words())


@function
def vfprintf(s, file, template, arguments):
    text = formatted(s, s.machine.text(template), arguments)
    s.machine.stderr.append(text.decode().rstrip())
    return len(text)


@function
def stat(s, path, result):
    if s.machine.text(path).decode() not in s.libraries | s.files:
        return s.fail(NO_SUCH_FILE)
    data = bytearray(SIZE_OF_STAT)
    struct.pack_into("<H", data, STAT_MODE, REGULAR_FILE)
    s.machine.write(result, bytes(data))
    return 0


@function
def getenv(s, name):
    return s.environment.get(s.machine.text(name).decode(), 0)


@function
def setenv(s, name, value, overwrite):
    s.environment[s.machine.text(name).decode()] = s.machine.new_text(s.machine.text(value))
    return 0


@function
def sysctlbyname(s, name, value, size, _new, _new_size):
    if s.machine.text(name) != b"kern.osproductversion":
        return s.fail(NO_SUCH_FILE)
    store_text(s, value, s.machine.word(size), MACOS.encode())
    return 0


@named("getpid", "pthread_self", "pthread_mach_thread_np")
def process(s):
    return PROCESS


@named("__error")
def error(s):
    return s.errno


@function
def abort(s):
    raise Fault("abort; on stderr: " + "; ".join(s.machine.stderr[-2:]))


# ---- dyld ---------------------------------------------------------------------------------------


@named("_dyld_image_count")
def dyld_image_count(s):
    return len(s.libraries)


@named("_dyld_get_image_name")
def dyld_get_image_name(s, index):
    return s.machine.new_text(list(s.libraries)[index])


@function
def dlopen(s, path, mode):
    """A handle: a number from 1 on."""
    find = (s.libraries | s.files).get(s.machine.text(path).decode())
    if not find:
        return 0
    s.handles.append(find)
    return len(s.handles)


@function
def dlsym(s, handle, name):
    everywhere = signed(handle, 64) == RTLD_DEFAULT
    libraries = s.libraries.values() if everywhere else [s.handles[handle - 1]]
    text = s.machine.text(name).decode()
    return next((address for find in libraries if (address := find(text))), 0)


@function
def dladdr(s, address, info):
    """Fills {path, base, name, address} of the library, the only one that asks."""
    s.machine.set_word(info, s.machine.new_text(str(s.image.path)))
    return 1


# ---- threads: there is one ----------------------------------------------------------------------


@named(
    "__cxa_atexit",
    "_tlv_atexit",
    "pthread_atfork",
    "pthread_mutex_init",
    "pthread_mutex_destroy",
    "pthread_mutex_lock",
    "pthread_mutex_trylock",
    "pthread_mutex_unlock",
    "pthread_mutexattr_init",
    "pthread_mutexattr_settype",
    "pthread_mutexattr_destroy",
    "pthread_cond_signal",
    "pthread_cond_broadcast",
    "pthread_cond_destroy",
)
def nothing_to_do(s):
    return 0
