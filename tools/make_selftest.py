"""Records the vectors that the selftest replays, from the cases of the tests.

    make selftest-vectors        # writes tensorflow_metal_py/selftest/golden.npz

The outputs are those of TensorFlow's CPU kernels, by the rules of tests/spine.py. What is chosen:
for each op and type the smallest cases that differ in attributes or ranks, one with NaN and
infinities, and every case of the fusions.
"""

from __future__ import annotations

import collections
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest import cases, golden, replay
from tests import fusion_cases, spine
from tests.cases import all_cases

OUT = flags.DEFINE_string("out", str(golden.PATH), "file to write")
ONLY = flags.DEFINE_list("only", [], 'ops to record, and "fusions"; default: all')

CASES_PER_TYPE = 3
SMALL = 1024  # elements of all arguments; larger cases are for what has no smaller one
ENOUGH_VALUES = 8  # of a case, where there is one with so many
# Types in which the first case of each pattern is recorded; all are in float32.
REDUCED = ("float16", "bfloat16")


def elements(case: cases.Case) -> int:
    specs = (s for v in case.args.values() for s in (v if isinstance(v, list) else [v]))
    return sum(int(np.prod(s.shape)) for s in specs if isinstance(s, cases.Tensor))


def shape_of(case: cases.Case) -> str:
    """The same for cases that are alike: attributes, further types and ranks."""
    flat = {k: v if isinstance(v, list) else [v] for k, v in case.args.items()}
    ranks = {k: [len(s.shape) for s in v if hasattr(s, "shape")] for k, v in flat.items()}
    return f"{case.attrs} {case.types} {ranks}"


def choose(group: list[cases.Case]) -> list[cases.Case]:
    """Of the cases of one op and type."""
    useful = [c for c in group if ENOUGH_VALUES <= elements(c) <= SMALL]
    useful = useful or sorted((c for c in group if elements(c)), key=elements)[:1] or group[:1]
    different = list({shape_of(c): c for c in reversed(useful)}.values())
    step = max(1, len(different) // CASES_PER_TYPE)
    return different[::step][:CASES_PER_TYPE]


def kernel_type(case: cases.Case, args: dict[str, Any]) -> str:
    """The first type attribute of the row that serves the case; "bool" if it has none.

    "" for a case that a kernel of TensorFlow's own serves (shape arithmetic in int32).
    """
    with tf.Graph().as_default():
        constants = tf.nest.map_structure(
            lambda x: tf.constant(x.numpy()) if tf.is_tensor(x) else x, args
        )
        cases.call(case, constants)
        node = [n for n in tf.compat.v1.get_default_graph().get_operations() if n.type == case.op][
            -1
        ]
        for types in spine.registered()[case.op]:
            actual = {name: node.get_attr(name).name for name in types}
            if all(actual[name] in types[name] for name in types):
                return next(iter(actual.values()), "bool")
    return ""


def record(case: cases.Case, special: bool) -> Iterator[golden.OpVector]:
    args = cases.inputs_of(case, special)
    checksum = golden.checksum(args)  # before anything runs: InplaceUpdate writes to its input
    dtype = kernel_type(case, args)
    if not dtype:
        return
    with np.errstate(all="ignore"):
        widest = "float32" if special else "float64"
        expected = spine.reference(case, args, widest=widest)
        on_device = spine.on_device(case, args)
        spine.assert_close(case, on_device, expected)
        outputs = [
            e.astype(y.dtype.as_numpy_dtype) for e, y in zip(expected, on_device, strict=True)
        ]
    yield golden.OpVector(
        case=case,
        dtype=dtype,
        seed=cases.seed_of(case),
        special=special,
        checksum=checksum,
        outputs=outputs,
    )


def op_vectors() -> Iterator[golden.OpVector]:
    groups: dict[tuple[str, str], list[cases.Case]] = collections.defaultdict(list)
    for case in all_cases():
        if not ONLY.value or case.op in ONLY.value:
            groups[case.op, case.dtype].append(case)
    for i, group in enumerate(groups.values()):
        if i % 100 == 0:
            logging.info("%d of %d ops and types", i, len(groups))
        for case in choose(group):
            yield from record(case, special=False)
        special = [c for c in group if c.special and c.dtype in cases.FLOATS and elements(c)]
        for case in sorted(special, key=elements)[-1:] if len(special) < 2 else special[:1]:
            yield from record(case, special=True)


# ---- fusions ------------------------------------------------------------------------------------


def exported(function: Any, arguments: list[tf.Tensor]) -> tuple[Any, dict[str, np.ndarray]]:
    """GraphDef of a ConcreteFunction in which reads of variables are placeholders, and all feeds.

    What the function does besides its results is left out.
    """
    graph = function.graph.as_graph_def()
    variables = {id(v.handle): v for v in function.graph.variables}
    feeds = {}
    inputs = function.inputs[: len(arguments)]
    for inside, value in zip(inputs, arguments, strict=True):
        feeds[inside.op.name] = value.numpy()
    handles = {}
    for outside, inside in function.graph.captures:
        if inside.dtype == tf.resource:
            handles[inside.op.name] = variables[id(outside)]
        else:
            feeds[inside.op.name] = outside.numpy()
    for node in graph.node:
        if node.op == "ReadVariableOp":
            value = handles[node.input[0]].numpy()
            node.op = "Placeholder"
            del node.input[:]
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            feeds[node.name] = value
        node.device = ""
        node.attr.pop("_output_shapes", None)
        kept = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(kept)
    keep = sorted({y.op.name for y in function.outputs})
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, keep)
    for node in graph.node:
        node.ClearField("experimental_debug_info")
    names = {node.name for node in graph.node}
    return graph, {name: value for name, value in feeds.items() if name in names}


def fusion_vector(case: fusion_cases.Case, dtype: str) -> golden.FusionVector:
    tf.keras.utils.set_random_seed(11)
    body, arguments = case.build(dtype)
    with tf.device("/CPU:0"):
        function = body if hasattr(body, "get_concrete_function") else tf.function(body)
        concrete = function.get_concrete_function(
            *[tf.TensorSpec(x.shape, x.dtype) for x in arguments]
        )
        graph, feeds = exported(concrete, arguments)
        fetches = [y.name for y in concrete.outputs]
        imported = golden.imported(graph, feeds, fetches)
        outputs = imported(*(tf.constant(x) for x in feeds.values()))
    return golden.FusionVector(
        name=case.name,
        pattern=case.pattern,
        dtype=dtype,
        count=case.count,
        options=case.options,
        graph=graph.SerializeToString(deterministic=True),
        feeds=feeds,
        fetches=fetches,
        outputs=[y.numpy() for y in outputs],
    )


def fusion_vectors() -> Iterator[golden.FusionVector]:
    if ONLY.value and "fusions" not in ONLY.value:
        return
    logging.info("%d graphs", len(fusion_cases.CASES))
    for case in fusion_cases.CASES:
        yield fusion_vector(case, "float32")
    patterns = dict.fromkeys(case.pattern for case in fusion_cases.CASES)
    patterns.pop("cast")  # it is of several types itself
    for pattern, dtype in itertools.product(patterns, REDUCED):
        vector = first_in(pattern, dtype)
        if vector:
            yield vector


def first_in(pattern: str, dtype: str) -> golden.FusionVector | None:
    """Of the first case of the pattern that this type can be used in and that fires then."""
    for case in fusion_cases.CASES:
        if case.pattern != pattern:
            continue
        try:
            vector = fusion_vector(case, dtype)
            if replay.fires(vector, f"/{spine.device_type()}:0"):
                return vector
        except (TypeError, ValueError, tf.errors.OpError):  # an op of it has no such type
            continue
    return None


def main(_: list[str]) -> None:
    tf.config.set_soft_device_placement(False)
    result = golden.Golden(
        tensorflow=tf.__version__,
        methods=_runtime.call("methods_in_use"),
        shaders=_runtime.call("shaders"),
        fusions=list(fusion_vectors()),
        ops=list(op_vectors()),
    )
    path = pathlib.Path(OUT.value)
    golden.write(result, path)
    logging.info(
        "%d vectors of ops, %d of fusions: %d KB", len(result.ops), len(result.fusions),
        path.stat().st_size >> 10,
    )  # fmt: skip


if __name__ == "__main__":
    app.run(main)
