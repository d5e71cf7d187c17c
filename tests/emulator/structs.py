"""The structs that a plugin fills, read from TensorFlow's headers: what is in them, where.

They have the same layout on Linux and on arm64 macOS.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Protocol

from tools import tf_headers

HEADERS = (
    "stream_executor/stream_executor.h",
    "grappler/grappler.h",
    "pluggable_profiler/pluggable_profiler.h",
)
SIZES = {"TF_Bool": 1, "int8_t": 1, "int32_t": 4, "TF_TriState": 4}
POINTER = 8


class Process(Protocol):
    """Where a plugin runs: this process, or an emulated one."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...
    def text(self, address: int) -> bytes: ...
    def allocate(self, size: int) -> int: ...
    def call(self, address: int, *arguments: int) -> int: ...


@dataclasses.dataclass(frozen=True)
class Field:
    """kind: integer, pointer, function, text, or the name of the struct that it points to."""

    name: str
    kind: str
    offset: int
    size: int


@functools.cache
def _definitions() -> dict[str, str]:
    folder = tf_headers.installed() / "include" / "tensorflow" / "c" / "experimental"
    text = "".join((folder / name).read_text() for name in HEADERS)
    text = re.sub(r"//[^\n]*|/\*.*?\*/|#define(?:[^\\\n]|\\.)*", "", text, flags=re.S)
    return dict(re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", text, flags=re.S))


def _kind(declaration: str) -> tuple[str, str, int]:
    """Name, kind and size of a member."""
    if match := re.search(r"\(\*\s*(\w+)\)\s*\(", declaration):
        return match[1], "function", POINTER
    kind, star, name = re.fullmatch(r"(?:const )?(\w+)\s*(\*?)\s*(\w+)", declaration).groups()
    if star:
        target = {"void": "pointer", "char": "text"}.get(kind, kind)
        return name, target, POINTER
    return name, "integer", SIZES.get(kind, POINTER)


@functools.cache
def fields(struct: str) -> tuple[Field, ...]:
    out, end = [], 0
    for declaration in _definitions()[struct].split(";"):
        if not declaration.strip():
            continue
        name, kind, size = _kind(" ".join(declaration.split()))
        offset = (end + size - 1) & -size
        out.append(Field(name, kind, offset, size))
        end = offset + size
    return tuple(out)


def size(struct: str) -> int:
    """As the header's *_STRUCT_SIZE has it: up to the end of the last member."""
    return fields(struct)[-1].offset + fields(struct)[-1].size


class Functions:
    """Numbers functions as they are seen, so that equal numbers mean equal functions."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def number(self, address: int) -> int | None:
        return self._numbers.setdefault(address, len(self._numbers)) if address else None


def describe(
    process: Process, struct: str, address: int, functions: Functions | None = None
) -> dict:
    """What is in a struct and in those it points to: integers, texts, numbers of functions, whether
    pointers are set."""
    functions = functions or Functions()
    out: dict[str, object] = {}
    for field in fields(struct):
        value = get(process, address, field)
        if field.kind == "integer":
            out[field.name] = value
        elif field.kind == "pointer":
            out[field.name] = bool(value)
        elif field.kind == "function":
            out[field.name] = functions.number(value)
        elif not value:
            out[field.name] = None
        elif field.kind == "text":
            out[field.name] = process.text(value).decode()
        else:
            out[field.name] = describe(process, field.kind, value, functions)
    return out


def make(process: Process, struct: str, values: dict) -> int:
    """A struct with these integers and structs in it, and otherwise zeros; returns its address."""
    address = process.allocate(size(struct))
    process.write(address, bytes(size(struct)))
    for field in fields(struct):
        value = values.get(field.name)
        if isinstance(value, dict):
            value = make(process, field.kind, value)
        if isinstance(value, int):
            put(process, address, field, value)
    return address


def empty(struct: str) -> dict:
    """Values for `make` of a struct that shall be filled: the sizes, nothing else."""
    sizes = {"struct_size": size(struct)}
    nested = {f.name: empty(f.kind) for f in fields(struct) if f.kind in _definitions()}
    return sizes | nested


def field(struct: str, name: str) -> Field:
    return next(field for field in fields(struct) if field.name == name)


def get(process: Process, address: int, field: Field) -> int:
    return int.from_bytes(process.read(address + field.offset, field.size), "little")


def put(process: Process, address: int, field: Field, value: int) -> None:
    process.write(address + field.offset, value.to_bytes(field.size, "little"))
