"""Finishes a library that zig linked for macOS: exports exactly what is listed, signs it anew.

    tools/macos/seal.py --exports plugin/exports.macos libtensorflow_metal_py.dylib

zig's linker ignores -exported_symbols_list, exports __mh_dylib_header and ___dso_handle, too, and
asks the loader to bind hidden weak definitions, such as vtables of libc++, to those of other
libraries in the process. This rewrites, in place, the export trie and the symbol table, drops those
bindings (without them the pointers point to our own definitions), and then computes the hashes of
the ad-hoc signature anew. The list is one for Apple's linker: a name or pattern on each line.
Formats: <mach-o/loader.h>, <mach-o/nlist.h>, and cs_blobs.h of xnu. Only the standard library is
used: `pip wheel` runs this.
"""

import argparse
import fnmatch
import hashlib
import pathlib
import struct
import sys
from collections.abc import Iterator

LC_SYMTAB = 0x2
LC_DYSYMTAB = 0xB
LC_CODE_SIGNATURE = 0x1D
LC_DYLD_INFO_ONLY = 0x80000022
LC_DYLD_EXPORTS_TRIE = 0x80000033

HEADER_BYTES = 32
MH_WEAK_DEFINES, MH_BINDS_TO_WEAK = 0x8000, 0x10000
NLIST_BYTES = 16
N_TYPE, N_PEXT, N_EXT = 0x0E, 0x10, 0x01
# Entries of the indirect symbol table that are no indices.
INDIRECT_SYMBOL_LOCAL, INDIRECT_SYMBOL_ABS = 0x80000000, 0x40000000

CSMAGIC_EMBEDDED_SIGNATURE = 0xFADE0CC0
CSMAGIC_CODEDIRECTORY = 0xFADE0C02


class SealError(Exception):
    """The library is not what zig is known to write."""


def uleb128(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def read_uleb128(data: bytes, at: int) -> tuple[int, int]:
    """The value, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def trie_entries(trie: bytes, node: int = 0, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """(name, what the trie says of it) of each exported symbol."""
    size, at = read_uleb128(trie, node)
    if size:
        yield prefix, trie[at : at + size]
    at += size
    children, at = trie[at], at + 1
    for _ in range(children):
        end = trie.index(b"\0", at)
        label, (child, after) = trie[at:end], read_uleb128(trie, end + 1)
        yield from trie_entries(trie, child, prefix + label)
        at = after


def flat_trie(entries: dict[bytes, bytes]) -> bytes:
    """A trie whose root has each name as an edge, in order; fine for a few names."""
    leaves = [uleb128(len(info)) + info + b"\0" for info in entries.values()]
    # Offsets of the leaves are written in front of them, in numbers whose length depends on them.
    size = 0
    while True:
        offsets = [size + sum(map(len, leaves[:i])) for i in range(len(leaves))]
        edges = (
            name + b"\0" + uleb128(offset) for name, offset in zip(entries, offsets, strict=True)
        )
        root = b"\0" + bytes([len(entries)]) + b"".join(edges)
        if len(root) == size:
            return root + b"".join(leaves)
        size = len(root)


class Library:
    """A thin 64-bit Mach-O file in memory."""

    def __init__(self, data: bytes):
        self.data = bytearray(data)
        self.commands: dict[int, int] = {}  # kind -> offset; the kinds used here occur once
        (count,) = struct.unpack_from("<I", data, 16)
        at = HEADER_BYTES
        for _ in range(count):
            kind, size = struct.unpack_from("<II", data, at)
            self.commands[kind] = at
            at += size

    def command(self, kind: int, layout: str) -> tuple[int, ...]:
        """The numbers after `cmd` and `cmdsize`."""
        if kind not in self.commands:
            raise SealError(f"no load command {kind:#x}")
        return struct.unpack_from(layout, self.data, self.commands[kind] + 8)

    def keep_in_trie(self, patterns: list[str]) -> set[bytes]:
        """Leaves what matches; returns those names."""
        if LC_DYLD_EXPORTS_TRIE in self.commands:
            field = self.commands[LC_DYLD_EXPORTS_TRIE] + 8
        elif LC_DYLD_INFO_ONLY in self.commands:
            field = self.commands[LC_DYLD_INFO_ONLY] + 40
        else:
            raise SealError("no export trie")
        start, size = struct.unpack_from("<II", self.data, field)
        old = bytes(self.data[start : start + size])
        exported = dict(sorted(trie_entries(old)))
        entries: dict[bytes, bytes] = {}
        for pattern in patterns:
            names = fnmatch.filter([name.decode() for name in exported], pattern)
            if not names:
                raise SealError(f"exports nothing like {pattern}")
            entries |= {name.encode(): exported[name.encode()] for name in names}
        new = flat_trie(entries)
        if len(new) > size:
            raise SealError("the new export trie is longer than the old one")
        self.data[start : start + size] = new.ljust(size, b"\0")
        return set(entries)

    def keep_in_symbol_table(self, names: set[bytes]) -> None:
        """Makes other defined symbols local: those come first, so the table changes its order."""
        table, count, strings, _ = self.command(LC_SYMTAB, "<IIII")
        entries = [
            list(struct.unpack_from("<IBBHQ", self.data, table + NLIST_BYTES * i))
            for i in range(count)
        ]

        def name(entry: list[int]) -> bytes:
            start = strings + entry[0]
            return bytes(self.data[start : self.data.index(0, start)])

        for entry in entries:
            if entry[1] & N_TYPE and entry[1] & N_EXT and name(entry) not in names:
                entry[1] = entry[1] & ~N_EXT | N_PEXT
        external = [bool(e[1] & N_EXT) for e in entries]
        undefined = [ext and not e[1] & N_TYPE for ext, e in zip(external, entries, strict=True)]
        order = sorted(range(count), key=lambda i: (external[i], undefined[i]))  # keeps the order
        for to, i in enumerate(order):
            struct.pack_into("<IBBHQ", self.data, table + NLIST_BYTES * to, *entries[i])
        self.renumber({i: to for to, i in enumerate(order)})
        locals_, undefs = external.count(False), sum(undefined)
        defs = count - locals_ - undefs
        counts = (0, locals_, locals_, defs, locals_ + defs, undefs)
        struct.pack_into("<6I", self.data, self.commands[LC_DYSYMTAB] + 8, *counts)

    def drop_weak_bindings(self) -> None:
        if LC_DYLD_INFO_ONLY not in self.commands:
            raise SealError("no classic binding information")
        field = self.commands[LC_DYLD_INFO_ONLY] + 24
        start, size = struct.unpack_from("<II", self.data, field)
        self.data[start : start + size] = bytes(size)
        struct.pack_into("<II", self.data, field, 0, 0)
        (flags,) = struct.unpack_from("<I", self.data, 24)
        struct.pack_into("<I", self.data, 24, flags & ~(MH_WEAK_DEFINES | MH_BINDS_TO_WEAK))

    def renumber(self, moved: dict[int, int]) -> None:
        """In the table that tells which pointer and stub is for which symbol."""
        *_, table, count, _, _, _, _ = self.command(LC_DYSYMTAB, "<18I")
        for at in range(table, table + 4 * count, 4):
            (index,) = struct.unpack_from("<I", self.data, at)
            if not index & (INDIRECT_SYMBOL_LOCAL | INDIRECT_SYMBOL_ABS):
                struct.pack_into("<I", self.data, at, moved[index])

    def sign(self) -> None:
        """Computes the page hashes of the linker's ad-hoc signature anew."""
        start, _ = self.command(LC_CODE_SIGNATURE, "<II")
        magic, _, blobs = struct.unpack_from(">III", self.data, start)
        kind, offset = struct.unpack_from(">II", self.data, start + 12)
        directory = start + offset
        if (magic, kind) != (CSMAGIC_EMBEDDED_SIGNATURE, 0) or blobs < 1:
            raise SealError("the signature is none that a linker writes")
        (magic, _, _, _, hashes, _, _, pages, limit) = struct.unpack_from(
            ">9I", self.data, directory
        )
        hash_bytes, hash_type, _, page_shift = struct.unpack_from(">4B", self.data, directory + 36)
        if (magic, hash_bytes, hash_type) != (CSMAGIC_CODEDIRECTORY, 32, 2):
            raise SealError("page hashes are not SHA-256")
        page = 1 << page_shift
        for i in range(pages):
            code = self.data[i * page : min((i + 1) * page, limit)]
            at = directory + hashes + i * hash_bytes
            self.data[at : at + hash_bytes] = hashlib.sha256(code).digest()


def seal(path: pathlib.Path, exports: pathlib.Path) -> None:
    """Does it to a file; raises SealError and leaves the file alone."""
    library = Library(path.read_bytes())
    library.keep_in_symbol_table(library.keep_in_trie(exports.read_text().split()))
    library.drop_weak_bindings()
    library.sign()
    path.write_bytes(library.data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=pathlib.Path)
    parser.add_argument("--exports", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    try:
        seal(arguments.library, arguments.exports)
    except SealError as error:
        print(f"{arguments.library}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
