"""The macOS build of the plugin in the emulator, with TensorFlow's side played from a tape."""

from __future__ import annotations

import collections
import pathlib
import struct
from collections.abc import Callable

from tests.emulator import plugin, structs
from tests.emulator.image import Image
from tests.emulator.libsystem import LibSystem
from tests.emulator.machine import Fault, Machine
from tests.emulator.objc import ObjectiveC
from tests.emulator.structs import field, get

FRAMEWORK = "/tensorflow/libtensorflow_framework.2.dylib"  # what the plugin looks for
SIZE_OF_BUFFER = 24  # TF_Buffer: data, length, deallocator
OK, INTERNAL = 0, 13  # TF_Code
BUILDER_BYTES = 8  # only its address matters
ITEM = 1  # a TF_GrapplerItem, which only TensorFlow looks into


class EmulatedPlugin:
    """See structs.Process. Attributes: registrations: as in plugin.Tape; machine; image."""

    def __init__(self, library: pathlib.Path, tape: plugin.Tape) -> None:
        self.machine = Machine()
        self.tape = tape
        self._registrations = plugin.Registrations(self)
        self.registrations = self._registrations.rows
        self._statuses: dict[int, tuple[int, int]] = {}
        self._graph: plugin.OptimizedGraph | None = None
        self._optimizer = self._platform = 0
        self._asked: collections.Counter[str] = collections.Counter()
        self._version = self.machine.new_text(tape.version)
        self._answers = self._known_answers()
        self._system = LibSystem(self.machine, {})
        self._objc = ObjectiveC(self.machine)
        self._system.libraries[FRAMEWORK] = self._tensorflow
        if tape.shim:
            shim = library.parent / "_shims" / pathlib.Path(tape.shim).with_suffix(".dylib").name
            self._system.files[str(shim)] = self._shim
        self.image = Image(self.machine, library, self._import)
        self._system.image = self.image
        self.image.initialise()

    # ---- Process ----

    def read(self, address: int, size: int) -> bytes:
        return self.machine.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.machine.write(address, data)

    def text(self, address: int) -> bytes:
        return self.machine.text(address)

    def allocate(self, size: int) -> int:
        return self.machine.allocate(size)

    def call(self, address: int, *arguments: int) -> int:
        return self.machine.call(address, *arguments)

    # ---- what TensorFlow does ----

    def enter(self, entry: str) -> dict:
        """Calls an entry point of plugin.ENTRIES; returns what it filled."""
        struct, status = plugin.ENTRIES[entry], self._new_status()
        params = structs.make(self, struct, self.tape.before[entry])
        self.call(self.image.symbols[entry], params, status)
        self._check(status)
        if entry == "TF_InitGraph":
            self._optimizer = get(self, params, field(struct, "optimizer"))
        if entry == "SE_InitPlugin":
            self._platform = params
        return structs.describe(self, struct, params)

    def created(self) -> dict:
        """What the platform makes, after SE_InitPlugin."""
        status = self._new_status()
        made = plugin.created(self, self._platform, status)
        self._check(status)
        return made

    def register_kernels(self) -> None:
        self.call(self.image.symbols["TF_InitKernel"])

    def optimize(self, graph: plugin.OptimizedGraph) -> bytes:
        """The graph that the optimizer answers to `graph.before`."""
        self._graph = graph
        create, optimize, destroy = (
            get(self, self._optimizer, field("TP_Optimizer", name))
            for name in ("create_func", "optimize_func", "destroy_func")
        )
        status, result = self._new_status(), self._new_buffer(b"")
        source = self._new_buffer(graph.before)
        optimizer = self.call(create)
        self.call(optimize, optimizer, source, ITEM, result, status)
        self._check(status)
        self.call(destroy, optimizer)
        after = self.read(self.machine.word(result), self.machine.word(result + 8))
        self._delete_buffer(source)
        self._delete_buffer(result)
        return after

    # ---- what the plugin finds ----

    def _import(self, name: str) -> int:
        return self._objc.find(name) or self._system.find(name)

    def _tensorflow(self, name: str) -> int:
        """The address of a function of TensorFlow, or 0."""
        if name not in self.tape.functions:
            return 0
        if name in plugin.REGISTERING:
            count = len(plugin.REGISTERING[name].split())
            return self.machine.function(name, self._registering(name), count)
        return self.machine.function(name, self._answers.get(name, self._unasked(name)))

    def _shim(self, name: str) -> int:
        """Of the variable shim: it is for this TensorFlow, and has everything."""
        if name == "tfmetal_shim_tf_version":
            return self.machine.function(name, lambda: self._version)
        return (
            self.machine.function(f"shim:{name}", self._unasked(name)) if name[:3] == "TF_" else 0
        )

    @staticmethod
    def _unasked(name: str) -> Callable[[], int]:
        def fail() -> int:
            raise Fault(f"{name} is called")

        return fail

    def _registering(self, name: str) -> Callable[..., int]:
        def handler(*arguments: int) -> int:
            self._registrations.add(name, arguments)
            return self._registrations.returned(name, self.allocate(BUILDER_BYTES))

        return handler

    def _known_answers(self) -> dict[str, Callable]:
        return {
            "TF_Version": lambda: self._version,
            "TF_NewStatus": self._new_status,
            "TF_DeleteStatus": self._delete_status,
            "TF_SetStatus": lambda status, code, text: self._set_status(
                status, code & 0xFFFFFFFF, self.text(text)
            ),
            "TF_GetCode": lambda status: self._statuses[status][0],
            "TF_Message": lambda status: self._statuses[status][1],
            "TF_NewBuffer": lambda: self._new_buffer(b""),
            "TF_DeleteBuffer": self._delete_buffer,
            "TF_NewGraph": lambda: self.allocate(1),
            "TF_DeleteGraph": self.machine.free,
            "TF_GetRegisteredKernelsForOp": self._kernels,
            "TF_GraphGetOpDef": self._op_def,
            "TF_GetNodesToPreserveListSize": self._preserved_size,
            "TF_GetNodesToPreserveList": self._preserved,
            "TF_NewGraphProperties": lambda item: self.allocate(1),
            "TF_DeleteGraphProperties": self.machine.free,
            "TF_InferStatically": self._infer,
            "TF_GetOutputPropertiesListSize": self._properties_size,
            "TF_GetOutputPropertiesList": self._properties,
        }

    # ---- statuses and buffers ----

    def _new_status(self) -> int:
        status = self.allocate(8)
        self._statuses[status] = OK, self.machine.new_text("")
        return status

    def _delete_status(self, status: int) -> None:
        self.machine.free(self._statuses.pop(status)[1])
        self.machine.free(status)

    def _set_status(self, status: int, code: int, message: bytes = b"") -> None:
        self.machine.free(self._statuses[status][1])
        self._statuses[status] = code, self.machine.new_text(message)

    def _check(self, status: int) -> None:
        code, message = self._statuses[status]
        if code != OK:
            raise Fault(f"status {code}: {self.text(message).decode()}")
        self._delete_status(status)

    def _new_buffer(self, content: bytes) -> int:
        buffer = self.machine.allocate(SIZE_OF_BUFFER, fill=b"\0")
        self._fill_buffer(buffer, content)
        return buffer

    def _fill_buffer(self, buffer: int, content: bytes) -> None:
        data = self.allocate(len(content)) if content else 0
        self.write(data, content)
        deallocator = self.machine.function(
            "free_buffer", lambda data, size: self.machine.free(data)
        )
        self.write(buffer, struct.pack("<QQQ", data, len(content), deallocator))

    def _free_content(self, data: int, size: int) -> None:
        self.machine.free(data)

    def _delete_buffer(self, buffer: int) -> None:
        data, size, deallocator = struct.unpack("<QQQ", self.read(buffer, SIZE_OF_BUFFER))
        if data:
            self.call(deallocator, data, size)
        self.machine.free(buffer)

    # ---- answers from the tape ----

    def _kernels(self, op: int, status: int) -> int:
        self._set_status(status, OK)
        name = self.text(op).decode()
        self._asked[name] += 1
        return self._new_buffer(self.tape.kernels[name][self._asked[name] - 1])

    def _op_def(self, graph: int, op: int, buffer: int, status: int) -> None:
        code, message, data = self.tape.op_defs[self.text(op).decode()]
        self._set_status(status, code, message)
        self._fill_buffer(buffer, data)

    def _preserved_size(self, item: int, count: int, storage_size: int, status: int) -> None:
        nodes = self._graph.preserved
        self.write(count, struct.pack("<i", len(nodes)))
        self.machine.set_word(storage_size, sum(map(len, nodes)))
        self._set_status(status, OK)

    def _preserved(self, item, values, lengths, count, storage, size, status) -> None:
        for i, node in enumerate(self._graph.preserved):
            self.machine.set_word(values + 8 * i, storage)
            self.machine.set_word(lengths + 8 * i, len(node))
            self.write(storage, node)
            storage += len(node)
        self._set_status(status, OK)

    def _infer(self, properties, feeds, aggressive, inputs, outputs, status) -> None:
        self._set_status(status, OK if self._graph.inferred else INTERNAL)

    def _properties_size(self, properties: int, node: int, count: int, status: int) -> None:
        rows = self._graph.properties.get(self.text(node).decode(), [])
        self.write(count, struct.pack("<i", len(rows)))
        self._set_status(status, OK)

    def _properties(self, properties, node, buffers, count, status) -> None:
        for i, row in enumerate(self._graph.properties[self.text(node).decode()]):
            self._fill_buffer(self.machine.word(buffers + 8 * i), row)
        self._set_status(status, OK)
