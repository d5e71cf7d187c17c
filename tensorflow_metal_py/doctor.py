"""Says what runs on the device, what does not, why, and what to do about it.

    python -m tensorflow_metal_py doctor                   this machine
    python -m tensorflow_metal_py doctor model.keras       ... and a Keras model (.keras, .h5)
    python -m tensorflow_metal_py doctor saved_model/      ... and the signatures of a SavedModel
    python -m tensorflow_metal_py doctor script.py ARGS    ... and the ops that a script makes

What would leave the device is read from TensorFlow's own kernel registry, for the device type of
the plugin, by op and dtypes: the rule by which TensorFlow places ops.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import runpy
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

FLOATS = ("float", "half", "bfloat16")
# Types that Metal has no arithmetic for, and what to use instead.
NO_METAL_TYPE = {
    "double": "Metal has no float64: use float32",
    "complex128": "Metal has no complex128: use complex64",
}


class BadInputError(ValueError):
    """What was given cannot be examined; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """An op with its type attributes, as TensorFlow places it."""

    op: str
    types: tuple[tuple[str, str], ...]  # attribute -> type, as in kernel definitions: "float"

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={dtype}" for name, dtype in self.types)
        return f"{self.op}({inside})"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Where TensorFlow would place an op. `advice` is empty when nothing is to be done."""

    on_device: bool
    reason: str = ""
    advice: str = ""


def type_name(enum: int) -> str:
    """ "float" for 1: the names that kernel definitions use."""
    from tensorflow.core.framework import types_pb2

    return types_pb2.DataType.Name(enum).removeprefix("DT_").lower()


def signature_of(node: Any) -> Signature:
    """Of a NodeDef."""
    types = [
        (name, type_name(value.type))
        for name, value in sorted(node.attr.items())
        if value.WhichOneof("value") == "type"
    ]
    return Signature(node.op, tuple(types))


def nodes_of(graph: Any) -> Iterator[Any]:
    """The NodeDefs of a GraphDef and of its functions."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _allows(kernel: Any, types: dict[str, str]) -> bool:
    """Whether a KernelDef's constraints admit these types."""
    return all(
        types.get(constraint.name) in {type_name(t) for t in constraint.allowed_values.list.type}
        for constraint in kernel.constraint
        if constraint.name in types
    )


def judge(signature: Signature, device_type: str) -> Verdict:
    """Where TensorFlow places an op of these types when the device is free to choose."""
    from tensorflow.python.framework import kernels

    types = dict(signature.types)
    listed = kernels.get_registered_kernels_for_op(signature.op).kernel
    if not listed:  # Placeholder-like, or a function
        return Verdict(True)
    ours = [k for k in listed if k.device_type in (device_type, "DEFAULT")]
    if any(_allows(kernel, types) for kernel in ours):
        return Verdict(True)
    for dtype, advice in NO_METAL_TYPE.items():
        if dtype in types.values():
            return Verdict(False, f"the type {dtype}", advice)
    if not set(types.values()) & set(FLOATS):
        return Verdict(False, "host work: not floating-point")
    if ours:
        have = sorted(
            {type_name(t) for k in ours for c in k.constraint for t in c.allowed_values.list.type}
        )
        return Verdict(False, f"the device has it for {', '.join(have)} only", "cast its inputs")
    return Verdict(
        False, "the device has no kernel for it", "it runs on the CPU, with copies there and back"
    )


# ---- what to examine ----------------------------------------------------------------------------


def load_keras(path: pathlib.Path) -> Any:
    """A saved Keras model, compiled if it was."""
    import keras

    try:
        return keras.saving.load_model(path)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        line = first_line(error)
        raise BadInputError(f"{path} is not a model that Keras can load: {line}") from error


def input_structure(model: Any) -> Any:
    """The symbolic inputs of a Keras model, nested as it takes them."""
    if not getattr(model, "inputs", None):
        raise BadInputError(
            f"the model {model.name!r} does not say its inputs' shapes: build it, then save it"
        )
    structure = getattr(model, "_inputs_struct", None)  # Sequential has none
    return model.inputs[0] if structure is None else structure


def keras_functions(path: pathlib.Path, dtype: str | None = None) -> Iterator[tuple[str, Any]]:
    """(title, ConcreteFunction) of a saved Keras model: a call, and a training step if it is
    compiled. `dtype`: another dtype policy for all layers, such as "mixed_bfloat16"; the copy with
    it is not compiled."""
    import keras
    import tensorflow as tf

    def with_dtype(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": dtype})

    model = load_keras(path)
    if dtype:
        try:
            model = keras.models.clone_model(model, clone_function=with_dtype)
        except (ValueError, TypeError) as error:
            line = first_line(error)
            raise BadInputError(f"{path} cannot be rebuilt in {dtype}: {line}") from error
    inputs = tf.nest.map_structure(
        lambda x: tf.TensorSpec([2 if d is None else d for d in x.shape], x.dtype),
        input_structure(model),
    )
    call = tf.function(lambda x: model(x, training=False), autograph=False)
    concrete = call.get_concrete_function(inputs)
    yield "inference", concrete
    if getattr(model, "optimizer", None) is None:
        return
    step = tf.function(lambda x, y: model.train_step((x, y)), autograph=False)
    error: Exception | None = None
    for targets in target_specs(concrete.structured_outputs):
        try:
            yield "training step", step.get_concrete_function(inputs, targets)
            return
        except (ValueError, TypeError, tf.errors.OpError) as failed:
            error = failed
    print(f"The training step could not be traced, only inference is shown: {first_line(error)}")


def target_specs(outputs: Any) -> Iterator[Any]:
    """Guesses what a model is trained on: class numbers, then something like its outputs."""
    import tensorflow as tf

    if isinstance(outputs, tf.Tensor) and outputs.shape.rank:
        yield tf.TensorSpec(outputs.shape[:-1], tf.int64)
    yield tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), outputs)


def saved_model_functions(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """(title, ConcreteFunction) of each signature of a SavedModel."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise BadInputError(
            f"{path} cannot be loaded as a SavedModel: {first_line(error)}"
        ) from error
    if not loaded.signatures:
        raise BadInputError(f"{path} has no signatures")
    for name, function in loaded.signatures.items():
        yield f"signature {name}", function


def script_signatures(path: pathlib.Path, arguments: Sequence[str]) -> collections.Counter:
    """Runs a script and counts the ops that it makes, eagerly and in graphs."""
    from tensorflow.python.framework import op_callbacks

    found: collections.Counter = collections.Counter()

    def count(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        from tensorflow.python.framework import dtypes

        pairs = zip(attrs[::2], attrs[1::2], strict=True) if attrs else ()
        types = []
        for name, value in pairs:
            if isinstance(value, dtypes.DType):
                value = value.as_datatype_enum
            elif hasattr(value, "WhichOneof") and value.WhichOneof("value") == "type":
                value = value.type
            elif not _is_type_attribute(op_type, name):
                continue
            types.append((name, type_name(int(value))))
        found[Signature(str(op_type), tuple(sorted(set(types))))] += 1

    op_callbacks.add_op_callback(count)
    argv = sys.argv
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            print(f"{path} ended with status {stop.code}; what it did until then:")
    finally:
        sys.argv = argv
        op_callbacks.remove_op_callback(count)
    return found


def _is_type_attribute(op_type: str, name: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op_type)
    return definition is not None and any(
        attr.name == name and attr.type == "type" for attr in definition.attr
    )


def first_line(error: Exception | None) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


# ---- the report ---------------------------------------------------------------------------------


def report(title: str, counts: collections.Counter, device_type: str) -> int:
    """Prints the table of one graph; returns how many of its ops leave the device to no good."""
    verdicts = {signature: judge(signature, device_type) for signature in counts}
    leaving = {s: v for s, v in verdicts.items() if not v.on_device}
    needed = {s: v for s, v in leaving.items() if v.advice}
    total = sum(counts.values())
    print(f"\n{title}: {total} ops, {total - sum(counts[s] for s in leaving)} on the device")
    if not needed:
        print("  nothing that belongs on the device leaves it")
    for signature, verdict in sorted(needed.items(), key=lambda item: -counts[item[0]]):
        print(f"  {counts[signature]:5} x {signature}: {verdict.reason}; {verdict.advice}")
    host = sum(counts[s] for s in leaving if s not in needed)
    if host:
        print(f"  {host} ops are work of the host by nature (strings, files, integer shapes)")
    return len(needed)


def quarantine(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows about what a selftest found wrong on this machine."""
    if found["state"] == "off":
        yield "quarantine", "switched off"
    elif found["state"] == "none":
        yield "quarantine", "no selftest has found anything wrong"
    elif found["state"] == "ignored":
        yield "quarantine", f"{found['path']} is ignored: {found['reason']}"
    else:
        yield "quarantine", f"these run on the CPU, as a selftest asked for ({found['path']}):"
        for row in found["ops"]:
            yield "", f"{row['op']} of {row['dtype']}"
        for name in found["fusions"]:
            yield "", f"fusion {name}"


def machine() -> str:
    """Prints what is installed and found; returns the device type, empty without a device."""
    import tensorflow as tf

    import tensorflow_metal_py as metal
    from tensorflow_metal_py import _runtime

    status = metal.status()
    rows = [
        ("python", sys.version.split()[0]),
        ("tensorflow", tf.__version__),
        ("tensorflow-metal-py", f"{metal.__version__} ({status['library']})"),
    ]
    if not status["active"]:
        rows.append(("device", f"none: {status['reason']}"))
    for device in metal.devices():
        info = metal.memory_info(device.name)
        simulated = ", simulated on the CPU" if device.simulated else ""
        rows += [
            ("device", f"{device.name}: {device.description}, macOS {device.macos}{simulated}"),
            ("memory", f"{info['current'] >> 20} MiB in use of {info['limit'] >> 20} MiB"),
        ]
    if status["active"]:
        mode = metal.variable_mode()
        rows += [
            ("variables", f"{mode['mode']}: {mode['reason']}"),
            ("ops", len({row["op"] for row in _runtime.call("ops")})),
            *quarantine(_runtime.call("quarantine")),
        ]
    for name, value in rows:
        print(f"{name:20} {value}")
    return status["type"] if status["active"] else ""


def functions_of(path: pathlib.Path) -> Iterable[tuple[str, Any]]:
    """(title, ConcreteFunction) of what a model file holds."""
    return saved_model_functions(path) if path.is_dir() else keras_functions(path)


def main(arguments: Sequence[str]) -> int:
    """what is installed; with a model or script: which of its ops leave the device, and why"""
    path = pathlib.Path(arguments[0]) if arguments else None
    if path and (not path.exists() or path.suffix not in (".keras", ".h5", ".py", "")):
        problem = "does not exist" if not path.exists() else "is no .keras, .h5, .py or SavedModel"
        print(f"{path} {problem}", file=sys.stderr)
        return 2
    device_type = machine()
    if path is None:
        return 0
    try:
        if path.suffix == ".py":
            report(str(path), script_signatures(path, arguments[1:]), device_type or "GPU")
            return 0
        for title, function in functions_of(path):
            counts = collections.Counter(map(signature_of, nodes_of(function.graph.as_graph_def())))
            report(title, counts, device_type or "GPU")
    except BadInputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
