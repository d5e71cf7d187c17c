"""Loads an arm64 macOS library into a machine as dyld does: maps, rebases, binds, initialises."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import lief

from tests import macho
from tests.emulator.machine import IMAGE, PAGE, Machine

SECTION = lief.MachO.Section.TYPE


class Image:
    """A library in a machine.

    Attributes:
      symbols: address by name, without the leading underscore of C.
    """

    def __init__(self, machine: Machine, path: pathlib.Path, find: Callable[[str], int]) -> None:
        """`find` tells the address of a function or variable of another library."""
        self._machine = machine
        self._fat, self._binary = macho.parse(path)
        self.path = path.absolute()
        self._map()
        self.symbols = {
            symbol.name.removeprefix("_"): IMAGE + symbol.value
            for symbol in self._binary.symbols
            if symbol.value
        }
        self._rebase()
        self._bind(find)

    def _map(self) -> None:
        for segment in self._binary.segments:
            if segment.name == "__PAGEZERO" or not segment.virtual_size:
                continue
            size = (segment.virtual_size + PAGE - 1) & -PAGE
            self._machine.uc.mem_map(IMAGE + segment.virtual_address, size)
            self._machine.write(IMAGE + segment.virtual_address, bytes(segment.content))

    def _rebase(self) -> None:
        for fixup in self._binary.relocations:
            if isinstance(fixup, lief.MachO.RelocationDyld):
                at = IMAGE + fixup.address
                self._machine.set_word(at, self._machine.word(at) + IMAGE)

    def _bind(self, find: Callable[[str], int]) -> None:
        for binding in self._binary.bindings:
            if not binding.has_symbol:
                continue
            name = binding.symbol.name.removeprefix("_")
            # Weak definitions, such as C++'s new and delete, are bound to the first library's.
            address = self.symbols.get(name)
            if address is None:
                address = find(name)
            self._machine.set_word(IMAGE + binding.address, address + binding.addend)

    def initialise(self) -> int:
        """Runs the static constructors; returns their number."""
        functions = [
            self._machine.word(IMAGE + section.virtual_address + at)
            for section in self._binary.sections
            if section.type == SECTION.MOD_INIT_FUNC_POINTERS
            for at in range(0, section.size, 8)
        ]
        for function in functions:
            self._machine.call(function)
        return len(functions)
