"""An arm64 processor (unicorn) with memory, a checked heap, and C functions written in Python.

The C functions are Python functions of integers: `handler(a, b)` gets x0 and x1. What it returns
goes to x0, None leaves x0 alone. There is one thread.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable

import unicorn
from unicorn import arm64_const as arm

PAGE = 0x4000  # of arm64 macOS

# Where things are. Far apart, so that a wild pointer meets nothing; nothing is below 4 GB.
TRAPS, TRAPS_SIZE = 0x2_0000_0000, 0x10_0000
DATA, DATA_SIZE = 0x3_0000_0000, 0x10_0000
HEAP, HEAP_SIZE = 0x4_0000_0000, 0x4000_0000
STACK, STACK_SIZE = 0x7_0000_0000, 0x80_0000
IMAGE = 0x1_0000_0000

RED_ZONE = 256  # below the stack pointer, which a leaf function may use
UNTOUCHED, FREED = b"\xa5", b"\xdd"  # what fresh and freed heap blocks hold, so that reads show
FRAME = 16  # alignment of the stack and of heap blocks
RET = 0xD65F03C0
CPACR_FLOATS = 3 << 20  # the processor starts with floating point forbidden

X = [getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(8)]
# Functions get no more than these registers; variadic arguments are on the stack (stack_words).
MOST_ARGUMENTS = len(X)
WORD = (1 << 64) - 1

Handler = Callable[..., int | None]


class Fault(Exception):
    """What would crash or hang the process on a Mac, or what the emulator does not know."""


class Machine:
    """Attributes: calls: how often each C function was called; stderr: lines written there."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        # All that Apple's processors have, such as atomics in one instruction.
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        self.uc.reg_write(arm.UC_ARM64_REG_CPACR_EL1, CPACR_FLOATS)
        for address, size in ((TRAPS, TRAPS_SIZE), (DATA, DATA_SIZE), (STACK, STACK_SIZE)):
            self.uc.mem_map(address, size)
        self.uc.mem_map(HEAP, HEAP_SIZE)
        self.uc.mem_write(TRAPS, struct.pack("<I", RET) * (TRAPS_SIZE // 4))
        self.uc.hook_add(
            unicorn.UC_HOOK_CODE, self._trap, begin=TRAPS + 16, end=TRAPS + TRAPS_SIZE - 1
        )
        self.uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._bad_access)
        self.calls: dict[str, int] = {}
        self.stderr: list[str] = []
        self._handlers: dict[int, tuple[str, Handler, list[int]]] = {}
        self._functions: dict[str, int] = {}
        self._fault: Fault | None = None
        self._depth = 0
        self._data_end = DATA
        self._heap_end = HEAP
        self._live: dict[int, int] = {}
        self._unused: dict[int, list[int]] = {}

    # ---- memory ----

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.uc.mem_read(address, size)) if size else b""

    def write(self, address: int, data: bytes) -> None:
        if data:
            self.uc.mem_write(address, data)

    def word(self, address: int) -> int:
        return int.from_bytes(self.uc.mem_read(address, 8), "little")

    def set_word(self, address: int, value: int) -> None:
        self.uc.mem_write(address, (value & WORD).to_bytes(8, "little"))

    def text(self, address: int) -> bytes:
        """The C string there."""
        out = b""
        while True:
            at = address + len(out)
            piece = self.read(at, 64 - at % 64)  # never into the next page
            end = piece.find(b"\0")
            if end >= 0:
                return out + piece[:end]
            out += piece

    def new_data(self, size: int) -> int:
        """Zeroed memory for a variable of a library."""
        address = self._data_end
        self._data_end += (size + FRAME - 1) & -FRAME
        return address

    def new_text(self, text: bytes | str) -> int:
        data = (text.encode() if isinstance(text, str) else text) + b"\0"
        address = self.allocate(len(data))
        self.write(address, data)
        return address

    # ---- heap ----

    def allocate(self, size: int, alignment: int = FRAME, fill: bytes = UNTOUCHED) -> int:
        room = (max(size, 1) + FRAME - 1) & -FRAME
        unused = self._unused.get(room)
        if unused and alignment <= FRAME:
            address = unused.pop()
        else:
            address = (self._heap_end + alignment - 1) & -alignment
            self._heap_end = address + room
            if self._heap_end > HEAP + HEAP_SIZE:
                raise Fault(f"the heap of {HEAP_SIZE} bytes is full")
        self._live[address] = size
        self.uc.mem_write(address, fill * room)
        return address

    def free(self, address: int) -> None:
        if not address:
            return
        size = self._live.pop(address, None)
        if size is None:
            raise Fault(f"{address:#x} is freed, but not allocated")
        room = (max(size, 1) + FRAME - 1) & -FRAME
        self.uc.mem_write(address, FREED * room)
        self._unused.setdefault(room, []).append(address)

    # ---- functions ----

    def function(self, name: str, handler: Handler, arguments: int | None = None) -> int:
        """The address at which code can call `handler`; the same for the same name.
        `arguments`: how many it takes, if its signature does not tell."""
        if name not in self._functions:
            address = TRAPS + 16 * (len(self._functions) + 1)
            if arguments is None:
                arguments = len(inspect.signature(handler).parameters)
            self._handlers[address] = name, handler, X[:arguments]
            self._functions[name] = address
        return self._functions[name]

    @property
    def float_argument(self) -> float:
        """d0, which is the first argument and the result of a function of doubles."""
        bits = self.uc.reg_read(arm.UC_ARM64_REG_D0)
        return struct.unpack("<d", struct.pack("<Q", bits))[0]

    @float_argument.setter
    def float_argument(self, value: float) -> None:
        (bits,) = struct.unpack("<Q", struct.pack("<d", value))
        self.uc.reg_write(arm.UC_ARM64_REG_D0, bits)

    def stack_words(self, count: int = 0) -> int:
        """Where the variadic arguments are: arm64 macOS passes all of them on the stack."""
        return self.uc.reg_read(arm.UC_ARM64_REG_SP) + 8 * count

    def call(self, address: int, *arguments: int) -> int:
        """Calls code; a C function may do so, too. Returns x0."""
        outer = self.uc.context_save() if self._depth else None
        stack = STACK + STACK_SIZE - PAGE
        if outer is not None:
            stack = self.uc.reg_read(arm.UC_ARM64_REG_SP) - RED_ZONE
        for register, value in zip(X, arguments, strict=False):
            self.uc.reg_write(register, value & WORD)
        self.uc.reg_write(arm.UC_ARM64_REG_SP, stack & -FRAME)
        self.uc.reg_write(arm.UC_ARM64_REG_LR, TRAPS)
        self._depth += 1
        try:
            self.uc.emu_start(address, TRAPS)
        except unicorn.UcError as error:
            self._fault = self._fault or Fault(f"{error} at {self.where()}")
        finally:
            self._depth -= 1
        if self._fault:
            fault, self._fault = self._fault, None
            raise fault
        result = self.uc.reg_read(X[0])
        if outer is not None:
            self.uc.context_restore(outer)
        return result

    def where(self) -> str:
        """The program counter and the link register, for messages."""
        return " called by ".join(
            f"image+{self.uc.reg_read(register) - IMAGE:#x}"
            for register in (arm.UC_ARM64_REG_PC, arm.UC_ARM64_REG_LR)
        )

    def _trap(self, uc, address: int, size: int, _) -> None:
        # No exception may cross unicorn's C frames.
        try:
            name, handler, registers = self._handlers[address]
            self.calls[name] = self.calls.get(name, 0) + 1
            result = handler(*(uc.reg_read(register) for register in registers))
            if result is not None:
                uc.reg_write(X[0], result & WORD)
        except Fault as fault:
            self._stop(fault)
        except Exception as error:
            name = self._handlers.get(address, (f"{address:#x}",))[0]
            self._stop(Fault(f"{name}: {type(error).__name__} {error}"))

    def _stop(self, fault: Fault) -> None:
        if not self._fault:
            self._fault = Fault(f"{fault}, at {self.where()}")
        self.uc.emu_stop()

    def _bad_access(self, uc, kind: int, address: int, size: int, value: int, _) -> bool:
        if not self._fault:
            self._fault = Fault(f"bad access to {address:#x} at {self.where()}")
        return False
