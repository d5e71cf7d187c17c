"""Reads Mach-O files as Apple's loader would: with lief, and for the signature without it."""

import functools
import hashlib
import pathlib
import re
import struct

import lief

ROOT = pathlib.Path(__file__).resolve().parent.parent
STUBS = ROOT / "tools" / "macos" / "stubs"
LIBSYSTEM = "/usr/lib/libSystem.B.dylib"
# All that TensorFlow looks for in a plugin.
ENTRY_POINTS = {"SE_InitPlugin", "TF_InitKernel", "TF_InitGraph", "TF_InitProfiler"}


def parse(path: pathlib.Path):
    """(fat, thin): lief frees the one with the other."""
    fat = lief.MachO.parse(str(path))
    assert fat is not None, f"{path} is no Mach-O file"
    assert fat.size == 1
    return fat, fat.at(0)


def external_names(path: pathlib.Path) -> set[str]:
    """The symbol table's own opinion of what is exported, read without lief and without seal.py."""
    data = path.read_bytes()
    (commands,) = struct.unpack_from("<I", data, 16)
    at, names = 32, set()
    for _ in range(commands):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 0x2:  # LC_SYMTAB
            table, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for entry in struct.iter_unpack("<IBBHQ", data[table : table + 16 * count]):
                if entry[1] & 0x01 and entry[1] & 0x0E and not entry[1] & 0xE0:
                    end = data.index(b"\0", strings + entry[0])
                    names.add(data[strings + entry[0] : end].decode().removeprefix("_"))
        at += size
    return names


def wrong_pages(data: bytes) -> tuple[list[int], int]:
    """(pages whose hash is not the one in the signature, number of pages). Layout: cs_blobs.h."""
    (commands,) = struct.unpack_from("<I", data, 16)
    at, signature = 32, None
    for _ in range(commands):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 0x1D:  # LC_CODE_SIGNATURE
            signature, length = struct.unpack_from("<II", data, at + 8)
            assert signature % 16 == 0
            assert signature + length == len(data), "the signature is the last thing in the file"
        at += size
    assert signature, "not signed"
    magic, _, count = struct.unpack_from(">III", data, signature)
    assert magic == 0xFADE0CC0  # CSMAGIC_EMBEDDED_SIGNATURE
    index = dict(struct.unpack_from(">II", data, signature + 12 + 8 * i) for i in range(count))
    directory = signature + index[0]
    fields = struct.unpack_from(">9I4B", data, directory)
    magic, _, _, flags, hashes, identifier, _, pages, limit = fields[:9]
    hash_size, hash_type, _, page_shift = fields[9:]
    assert magic == 0xFADE0C02  # CSMAGIC_CODEDIRECTORY
    assert flags & 0x2, "not ad hoc"
    assert (hash_size, hash_type) == (32, 2)
    assert limit == signature, "all that comes before the signature is signed"
    assert page_shift in (12, 14) and pages == -(-limit >> page_shift)
    name = data[directory + identifier : data.index(b"\0", directory + identifier)]
    assert name, "no identifier"
    page = 1 << page_shift
    said = [data[directory + hashes + 32 * i :][:32] for i in range(pages)]
    found = [hashlib.sha256(data[i * page : min(i * page + page, limit)]) for i in range(pages)]
    return [i for i in range(pages) if said[i] != found[i].digest()], pages


@functools.cache
def oldest_macos() -> list[int]:
    text = (ROOT / "plugin" / "loading.cc").read_text()
    (found,) = re.findall(r" kOldestMacos\{(\d+), (\d+)\}", text)
    return [int(part) for part in found]


def assert_symbols_in_order(thin) -> None:
    """Local, then defined, then undefined ones; stubs are for what is bound."""
    table = thin.dynamic_symbol_command
    symbols = list(thin.symbols)
    external = [bool(s.raw_type & 0x01) for s in symbols]
    defined = [bool(s.raw_type & 0x0E) for s in symbols]
    first, second = (
        table.nb_local_symbols,
        table.nb_local_symbols + table.nb_external_define_symbols,
    )
    assert table.idx_local_symbol == 0
    assert (table.idx_external_define_symbol, table.idx_undefined_symbol) == (first, second)
    assert second + table.nb_undefined_symbols == len(symbols)
    assert not any(external[:first]) and all(external[first:])
    assert all(defined[first:second]) and not any(defined[second:])
    bound = {binding.symbol.name for binding in thin.bindings}
    stubs = {s.name for s in table.indirect_symbols if not s.raw_type & 0x0E}
    assert stubs and stubs <= bound


def assert_sound(path: pathlib.Path, exports: set[str]) -> None:
    """What holds for the plugin and for its shims."""
    fat, thin = parse(path)
    assert {s.name.removeprefix("_") for s in thin.exported_symbols} == exports
    trie = {e.symbol.name.removeprefix("_") for e in thin.dyld_info.exports}
    assert trie == external_names(path) == exports
    flags = {flag.name for flag in thin.header.flags_list}
    assert not flags & {"WEAK_DEFINES", "BINDS_TO_WEAK"}, "new or delete of other images"
    assert {"TWOLEVEL", "NOUNDEFS", "DYLDLINK"} <= flags
    assert thin.header.cpu_type.name == "ARM64"
    assert thin.header.file_type.name == "DYLIB"
    version = thin.build_version
    assert version.platform.name == "MACOS"
    assert version.minos[:2] == oldest_macos()
    (own,) = [c for c in thin.commands if c.command.name == "ID_DYLIB"]
    assert own.name == f"@rpath/{path.name}"
    assert thin.has_uuid and any(thin.uuid.uuid)
    assert_symbols_in_order(thin)
    wrong, pages = wrong_pages(path.read_bytes())
    assert not wrong and pages > 10
    del fat


def imports(thin) -> dict[str, set[str]]:
    """Library -> symbols that are bound to it; two-level, as dyld does it."""
    found: dict[str, set[str]] = {}
    for binding in thin.bindings:
        owner = binding.library.name if binding.has_library else ""
        found.setdefault(owner, set()).add(binding.symbol.name)
    return found


def stubbed() -> dict[str, set[str]]:
    """Install name -> symbols, of tools/macos/stubs."""
    libraries = {}
    for stub in STUBS.rglob("*.tbd"):
        text = stub.read_text()
        (name,) = re.findall(r"install-name: '(.*)'", text)
        (symbols,) = re.findall(r"symbols: \[(.*?)\]", text, re.DOTALL)
        libraries[name] = set(re.findall(r"[\w$]+", symbols))
    return libraries
