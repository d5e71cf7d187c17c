"""Replays the recorded vectors of ops and fusions on the device."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.eager import context

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime
from tensorflow_metal_py._environment import environment
from tensorflow_metal_py.selftest import cases, golden, quarantine
from tensorflow_metal_py.selftest.tasks import Result, Task, first_line

# Of a fused graph, relative to the largest value of a result: some tens of roundings.
GRAPH_TOLERANCE = {"float32": 4e-5, "float16": 4e-2, "bfloat16": 2e-1}


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def compare(
    actual: list[np.ndarray], expected: list[np.ndarray], rtol: float, atol: float
) -> Result:
    """All outputs against what is expected; integers and Bool must be equal."""
    if len(actual) != len(expected):
        return Result(False, f"{len(actual)} outputs, expected {len(expected)}")
    worst, of_tolerance = 0.0, 0.0
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if a.shape != e.shape or a.dtype != e.dtype:
            return Result(
                False, f"output {i} is {a.dtype}{a.shape}, expected {e.dtype}{e.shape}", np.inf
            )
        exact = a.dtype.kind in "biu"
        a, e = _wide(a), _wide(e)
        with np.errstate(all="ignore"):
            same = (a == e) | (np.isnan(a) & np.isnan(e))
            difference = np.where(same, 0.0, np.abs(a - e))
            difference = np.where(np.isnan(difference), np.inf, difference)
            size = np.where(np.isfinite(e), np.abs(e), 0.0)
            allowed = 0.0 if exact else atol + rtol * size
            part = np.where(same, 0.0, difference / np.maximum(allowed, np.finfo(float).tiny))
            relative = difference / np.maximum(1.0, size)
        if not part.size:
            continue
        worst = max(worst, float(relative.max()))
        if part.max() > max(1.0, of_tolerance):
            where = tuple(int(n) for n in np.unravel_index(np.argmax(part), part.shape))
            text = f"output {i} at {list(where)} is {a[where]:.9g}, expected {e[where]:.9g}"
            wrong = int((part > 1).sum())
            return Result(False, f"{text} ({wrong} of {part.size} are wrong)", worst, part.max())
        of_tolerance = max(of_tolerance, float(part.max()))
    return Result(True, "", worst, of_tolerance)


# ---- ops ----------------------------------------------------------------------------------------


def _run_op(vector: golden.OpVector, device: str) -> Result:
    case = vector.case
    args = cases.inputs_of(case, vector.special, vector.seed)
    if golden.checksum(args) != vector.checksum:
        return Result(False, "this NumPy draws other numbers than the recorded ones", None)
    if case.stateful:
        context.context().clear_kernel_cache()
    with tf.device(device):
        results = cases.call(case, args)
    key = quarantine.entry(case.op, vector.dtype)
    for y in results:
        if device not in y.device.replace("/device:", "/"):
            return Result(False, f"TensorFlow placed it on {y.device}")
    outputs = [y.numpy() for y in results]
    name = tf.as_dtype(outputs[0].dtype).name if outputs else ""
    floats = [tf.as_dtype(y.dtype).name for y in outputs if y.dtype.kind not in "biu"]
    rtol, atol = cases.TOLERANCE.get(next(iter(floats), name), (0.0, 0.0))
    scale = 0.0 if case.exact else case.scale
    result = compare(outputs, vector.outputs, rtol * scale, atol * scale)
    if not result.ok:
        result.quarantine = key
    return result


def op_tasks(vectors: list[golden.OpVector], device: str) -> Iterator[Task]:
    """Of what is registered here: where variables have no functions to reach them by, their ops are
    not (metal.variable_mode())."""
    registered = {row["op"] for row in _runtime.call("ops")}
    for i, vector in enumerate(vectors):
        if vector.case.op not in registered:
            continue
        key = quarantine.entry(vector.case.op, vector.dtype)
        title = f"{vector.case.op}({vector.dtype})"
        yield Task(
            f"ops/{i} {vector.case}{' special values' if vector.special else ''}",
            title,
            functools.partial(_run_op, vector, device),
            key,
        )


# ---- fusions ------------------------------------------------------------------------------------


def _run_graph(vector: golden.FusionVector, device: str, passes: str) -> list[np.ndarray]:
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(vector.options)
    try:
        with environment(TF_METAL_GRAPPLER=passes), tf.device(device):
            graph = graph_pb2.GraphDef.FromString(vector.graph)
            function = golden.imported(graph, vector.feeds, vector.fetches)
            feeds = [tf.constant(x) for x in vector.feeds.values()]
            return [y.numpy() for y in function(*feeds)]
    finally:
        again = dict.fromkeys(vector.options, True) | before
        tf.config.optimizer.set_experimental_options(again)


def fires(vector: golden.FusionVector, device: str) -> bool:
    """Whether the graph's own pattern makes anything of it, all others switched off."""
    metal.reset_stats()
    _run_graph(vector, device, f"none,remapper/{vector.pattern}")
    return metal.stats()["fusions"].get(vector.pattern, 0) >= vector.count


def _compare_graph(vector: golden.FusionVector, outputs: list[np.ndarray]) -> Result:
    largest = max([1.0, *(np.abs(_wide(y)).max(initial=0) for y in vector.outputs)])
    return compare(outputs, vector.outputs, 0.0, GRAPH_TOLERANCE[vector.dtype] * largest)


def _run_fusion(vector: golden.FusionVector, device: str) -> Result:
    """The pattern alone; if that fails, whether the graph without it is right."""
    banned = {"fusion": f"remapper/{vector.pattern}"}
    metal.reset_stats()
    try:
        result = _compare_graph(vector, _run_graph(vector, device, f"none,{banned['fusion']}"))
    except tf.errors.OpError as error:
        result = Result(False, first_line(error))
    fired = metal.stats()["fusions"].get(vector.pattern, 0)
    if fired < vector.count:
        return Result(False, f"fires {fired} times instead of {vector.count}")
    if result.ok:
        return result
    try:
        plain = _compare_graph(vector, _run_graph(vector, device, "none"))
    except tf.errors.OpError as error:
        plain = Result(False, first_line(error))
    if plain.ok:
        result.quarantine = banned
    else:
        result.detail += "; it is wrong without the fusion, too: an op in it is to blame"
    return result


def fusion_tasks(vectors: list[golden.FusionVector], device: str) -> Iterator[Task]:
    for vector in vectors:
        yield Task(
            f"fusions/{vector.pattern} {vector.name} {vector.dtype}",
            f"{vector.pattern} fusion",
            functools.partial(_run_fusion, vector, device),
            {"fusion": f"remapper/{vector.pattern}"},
        )
