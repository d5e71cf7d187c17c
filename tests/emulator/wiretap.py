"""Writes down what the Linux build of the plugin and TensorFlow say to each other.

    python -m tests.emulator.wiretap LIBRARY TAPE TRAINING...

TensorFlow loads a library of taps as its plugin. A tap is a function of a name that one side looks
for; it goes to Python, which writes the call down and passes it on to the other side. Then a few
models train. The tape is a pickled `plugin.Tape`.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

from tests.emulator import plugin, structs
from tools import tf_headers

ROOT = pathlib.Path(__file__).resolve().parents[2]
# As many words as any function here has. Those that it does not have are garbage that nobody reads.
WORDS = [ctypes.c_uint64] * 8
Function = ctypes.CFUNCTYPE(ctypes.c_uint64, *WORDS)
ENTRY_POINTS = ("SE_InitPlugin", "TF_InitKernel", "TF_InitGraph", "TF_InitProfiler")

TAP = """
extern "C" {{
void* tap_{name};
typedef unsigned long word;
word {name}(word a, word b, word c, word d, word e, word f, word g, word h) {{
  typedef word (*Function)(word, word, word, word, word, word, word, word);
  return reinterpret_cast<Function>(tap_{name})(a, b, c, d, e, f, g, h);
}}
}}
"""


class ThisProcess:
    """The plugin in this process; see structs.Process."""

    def __init__(self, library: pathlib.Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self._allocated: list[ctypes.Array] = []

    def export(self, name: str) -> int:
        return ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def write(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def text(self, address: int) -> bytes:
        return ctypes.string_at(address)

    def allocate(self, size: int) -> int:
        self._allocated.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self._allocated[-1])

    def call(self, address: int, *arguments: int) -> int:
        return Function(address)(*arguments, *[0] * (len(WORDS) - len(arguments)))


class TensorFlow:
    """TensorFlow's C API, behind the taps."""

    def __init__(self) -> None:
        # Loaded before the taps, so that its own calls do not go through them.
        folder = tf_headers.installed()
        self._library = ctypes.CDLL(str(next(folder.glob("libtensorflow_cc.so.*"))))

    def address(self, name: str) -> int:
        function = getattr(self._library, name, None)
        return ctypes.cast(function, ctypes.c_void_p).value if function else 0

    def call(self, name: str, *arguments: int) -> int:
        return Function(self.address(name))(*arguments, *[0] * (len(WORDS) - len(arguments)))

    def status(self, status: int) -> tuple[int, bytes]:
        message = ctypes.string_at(self.call("TF_Message", status))
        return self.call("TF_GetCode", status) & 0xFFFFFFFF, message


class Wiretap:
    def __init__(self, library: pathlib.Path) -> None:
        self.tape = plugin.Tape()
        self.training = ""
        self._tensorflow = TensorFlow()
        self._callbacks: dict[str, object] = {}
        self._graph = threading.local()
        handlers = self._handlers()
        self.taps = self._compile(handlers)
        self._process = ThisProcess(library)
        self._registrations = plugin.Registrations(self._process)
        self.tape.registrations = self._registrations.rows
        for name, handler in handlers.items():
            self._callbacks[name] = Function(handler)
            slot = ctypes.c_void_p.in_dll(self.taps, f"tap_{name}")
            slot.value = ctypes.cast(self._callbacks[name], ctypes.c_void_p).value
        self._note_tensorflow()

    def _compile(self, names) -> ctypes.CDLL:
        folder = pathlib.Path(tempfile.mkdtemp())
        source, self.path = folder / "taps.cc", folder / "libtaps.so"
        source.write_text("".join(TAP.format(name=name) for name in names))
        compiler = os.environ.get("CXX", "g++")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", self.path, source], check=True)
        return ctypes.CDLL(str(self.path), ctypes.RTLD_GLOBAL)

    def _note_tensorflow(self) -> None:
        names = re.findall(r"X\((TF_\w+)\)", (ROOT / "plugin" / "tf_api.h").read_text())
        self.tape.functions = {name for name in names if self._tensorflow.address(name)}
        self.tape.version = ctypes.string_at(self._tensorflow.call("TF_Version")).decode()

    def _handlers(self) -> dict[str, Callable[..., int]]:
        handlers = {name: self._registering(name) for name in plugin.REGISTERING}
        handlers |= {name: self._filling(name) for name in plugin.ENTRIES}
        handlers["TF_InitKernel"] = lambda *a: self._plugin("TF_InitKernel")
        handlers["TF_GetRegisteredKernelsForOp"] = self._kernels
        handlers["TF_GraphGetOpDef"] = self._op_def
        handlers["TF_GetNodesToPreserveList"] = self._preserved
        handlers["TF_InferStatically"] = self._inferred
        handlers["TF_GetOutputPropertiesList"] = self._properties
        return handlers

    def _plugin(self, name: str, *arguments: int) -> int:
        return self._process.call(self._process.export(name), *arguments)

    # ---- from the plugin to TensorFlow ----

    def _registering(self, name: str) -> Callable[..., int]:
        def handler(*arguments: int) -> int:
            self._registrations.add(name, arguments)
            return self._registrations.returned(name, self._tensorflow.call(name, *arguments))

        return handler

    def _kernels(self, op: int, status: int, *_: int) -> int:
        buffer = self._tensorflow.call("TF_GetRegisteredKernelsForOp", op, status)
        self.tape.kernels.setdefault(self._process.text(op).decode(), []).append(
            self._content(buffer)
        )
        return buffer

    def _op_def(self, graph: int, op: int, buffer: int, status: int, *_: int) -> int:
        self._tensorflow.call("TF_GraphGetOpDef", graph, op, buffer, status)
        name = self._process.text(op).decode()
        self.tape.op_defs[name] = (*self._tensorflow.status(status), self._content(buffer))
        return 0

    def _preserved(self, item, values, lengths, count, storage, storage_size, status, _) -> int:
        name = "TF_GetNodesToPreserveList"
        self._tensorflow.call(name, item, values, lengths, count, storage, storage_size, status)
        self._graph.current.preserved = [
            self._process.read(self._word(values + 8 * i), self._word(lengths + 8 * i))
            for i in range(count & 0xFFFFFFFF)
        ]
        return 0

    def _inferred(self, properties, feeds, aggressive, inputs, outputs, status, *_) -> int:
        name = "TF_InferStatically"
        self._tensorflow.call(name, properties, feeds, aggressive, inputs, outputs, status)
        self._graph.current.inferred = self._tensorflow.status(status)[0] == 0
        return 0

    def _properties(self, properties, node, buffers, count, status, *_) -> int:
        name = "TF_GetOutputPropertiesList"
        self._tensorflow.call(name, properties, node, buffers, count, status)
        self._graph.current.properties[self._process.text(node).decode()] = [
            self._content(self._word(buffers + 8 * i)) for i in range(count & 0xFFFFFFFF)
        ]
        return 0

    def _word(self, address: int) -> int:
        return int.from_bytes(self._process.read(address, 8), "little")

    def _content(self, buffer: int) -> bytes:
        """Of a TF_Buffer: {data, length, deallocator}."""
        return self._process.read(self._word(buffer), self._word(buffer + 8)) if buffer else b""

    # ---- from TensorFlow to the plugin ----

    def _filling(self, entry: str) -> Callable[..., int]:
        struct = plugin.ENTRIES[entry]

        def handler(params: int, status: int, *_: int) -> int:
            self.tape.before[entry] = structs.describe(self._process, struct, params)
            self._plugin(entry, params, status)
            self.tape.after[entry] = structs.describe(self._process, struct, params)
            if entry == "SE_InitPlugin":
                self.tape.created = plugin.created(self._process, params, status)
            if entry == "TF_InitGraph":
                self._tap_optimizer(params)
            return 0

        return handler

    def _tap_optimizer(self, params: int) -> None:
        member = structs.field("TP_OptimizerRegistrationParams", "optimizer")
        optimizer = structs.get(self._process, params, member)
        function = structs.field("TP_Optimizer", "optimize_func")
        original = structs.get(self._process, optimizer, function)

        def handler(this, graph_in, item, graph_out, status, *_) -> int:
            current = plugin.OptimizedGraph(self.training, self._content(graph_in))
            self._graph.current = current
            self._process.call(original, this, graph_in, item, graph_out, status)
            current.after = self._content(graph_out)
            self.tape.graphs.append(current)
            return 0

        self._callbacks["optimize"] = Function(handler)
        address = ctypes.cast(self._callbacks["optimize"], ctypes.c_void_p).value
        structs.put(self._process, optimizer, function, address)


def main(library: str, tape: str, *trainings: str) -> None:
    wiretap = Wiretap(pathlib.Path(library))
    os.environ["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"] = str(wiretap.path)
    import tensorflow as tf

    import tensorflow_metal_py as metal
    from tests import training

    assert tf.config.list_physical_devices("GPU"), "the plugin offers no device"
    mode = metal.variable_mode()
    wiretap.tape.shim = mode["reason"] if mode["mode"] == "shim" else ""
    for name in trainings:
        wiretap.training = name
        model, policy = name.split("/")
        training.losses(model, "GPU:0", policy, steps=1)
    pathlib.Path(tape).write_bytes(pickle.dumps(wiretap.tape))


if __name__ == "__main__":
    main(*sys.argv[1:])
