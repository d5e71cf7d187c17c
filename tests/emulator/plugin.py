"""What the test of the emulator knows of a plugin, in whatever process it runs."""

from __future__ import annotations

import dataclasses

from tests.emulator import structs
from tests.emulator.structs import Process, field, get

# The functions that TensorFlow calls with a struct to fill.
ENTRIES = {
    "SE_InitPlugin": "SE_PlatformRegistrationParams",
    "TF_InitGraph": "TP_OptimizerRegistrationParams",
    "TF_InitProfiler": "TF_ProfilerRegistrationParams",
}
# The functions of SP_PlatformFns that fill one more.
CREATORS = {
    "create_device": "SE_CreateDeviceParams",
    "create_device_fns": "SE_CreateDeviceFnsParams",
    "create_stream_executor": "SE_CreateStreamExecutorParams",
    "create_timer_fns": "SP_TimerFns",
}
# The functions that register something, and what their arguments are.
REGISTERING = {
    "TF_NewKernelBuilder": "text text function function function",
    "TF_KernelBuilder_TypeConstraint": "object text integer status",
    "TF_KernelBuilder_HostMemory": "object text",
    "TF_KernelBuilder_Priority": "object integer",
    "TF_RegisterKernelBuilder": "text object status",
    "TF_DeleteKernelBuilder": "object",
    "TF_NewOpDefinitionBuilder": "text",
    "TF_OpDefinitionBuilderAddAttr": "object text",
    "TF_OpDefinitionBuilderAddInput": "object text",
    "TF_OpDefinitionBuilderAddOutput": "object text",
    "TF_OpDefinitionBuilderSetIsStateful": "object boolean",
    "TF_OpDefinitionBuilderSetShapeInferenceFunction": "object function",
    "TF_RegisterOpDefinition": "object status",
}


@dataclasses.dataclass
class OptimizedGraph:
    """One call of the plugin's optimizer: what went in, what TensorFlow told, what came out."""

    training: str
    before: bytes
    after: bytes = b""
    preserved: list[bytes] = dataclasses.field(default_factory=list)  # nodes
    inferred: bool = True  # whether TensorFlow could infer shapes
    properties: dict[str, list[bytes]] = dataclasses.field(default_factory=dict)  # of outputs


@dataclasses.dataclass
class Tape:
    """What the Linux build and TensorFlow said to each other.

    Attributes:
      version: TensorFlow's.
      functions: of those in tf_api.h, the ones that this TensorFlow exports.
      shim: the functions that the variable shim provides, by path; none without a shim.
      kernels: the answers of TF_GetRegisteredKernelsForOp, in order: they grow as kernels register.
      op_defs: the answers of TF_GraphGetOpDef: code, message, data.
      registrations: the calls of functions in REGISTERING, with their arguments.
      before, after: what was in the structs of ENTRIES.
      created: what is in the structs of CREATORS, and the number of devices.
    """

    version: str = ""
    functions: set[str] = dataclasses.field(default_factory=set)
    shim: str = ""
    kernels: dict[str, list[bytes]] = dataclasses.field(default_factory=dict)
    op_defs: dict[str, tuple[int, bytes, bytes]] = dataclasses.field(default_factory=dict)
    registrations: list[tuple] = dataclasses.field(default_factory=list)
    before: dict[str, dict] = dataclasses.field(default_factory=dict)
    after: dict[str, dict] = dataclasses.field(default_factory=dict)
    created: dict[str, object] = dataclasses.field(default_factory=dict)
    graphs: list[OptimizedGraph] = dataclasses.field(default_factory=list)


class Registrations:
    """Calls of functions in REGISTERING as rows that compare.

    A builder is shown as the number of builders before it, a function as the number of functions
    before it: addresses differ from process to process.
    """

    def __init__(self, process: Process) -> None:
        self.rows: list[tuple] = []
        self._process = process
        self._functions = structs.Functions()
        self._builders: list[int] = []

    def add(self, name: str, arguments: tuple) -> None:
        row: list[object] = [name]
        for kind, value in zip(REGISTERING[name].split(), arguments, strict=False):
            if kind == "text":
                row.append(self._process.text(value).decode())
            elif kind == "function":
                row.append(self._functions.number(value))
            elif kind == "object":
                row.append(len(self._builders) - 1 - self._builders[::-1].index(value))
            elif kind == "integer":
                row.append(value & 0xFFFFFFFF)
            elif kind == "boolean":
                row.append(bool(value & 0xFF))
        self.rows.append(tuple(row))

    def returned(self, name: str, result: int) -> int:
        """Notes what the last call returned."""
        if name.startswith("TF_New"):
            self._builders.append(result)
        return result


def created(process: Process, params: int, status: int) -> dict[str, object]:
    """What the platform makes: `params` is the SE_PlatformRegistrationParams that it filled."""
    platform = get(process, params, field(ENTRIES["SE_InitPlugin"], "platform"))
    functions = get(process, params, field(ENTRIES["SE_InitPlugin"], "platform_fns"))

    def call(function: str, address: int) -> None:
        code = get(process, functions, field("SP_PlatformFns", function))
        process.call(code, platform, address, status)

    out: dict[str, object] = {}
    for function, struct in CREATORS.items():
        address = structs.make(process, struct, structs.empty(struct))
        call(function, address)
        out[function] = structs.describe(process, struct, address)
    count = process.allocate(4)
    call("get_device_count", count)
    out["devices"] = int.from_bytes(process.read(count, 4), "little")
    return out
