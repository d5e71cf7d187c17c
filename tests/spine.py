"""The case spine: what a test case of an op is, and every way in which it is run.

A case names an op of ``tf.raw_ops``, its arguments as shapes and value kinds, and attributes. It is
expanded over the element types that the op table registers, so a new type is tested by being
registered. Each case runs eagerly, in a ``tf.function``, in a cluster, twice (bit for bit), with
its gradient and with NaN and infinities, against TensorFlow's CPU kernel; for float16 and bfloat16
the reference is the CPU's float64 (or float32) kernel on the rounded inputs.

Select on the command line: ``pytest tests/test_ops.py --case 'MatMul[[]float16*'`` (fnmatch on the
printed name) or ``-k MatMul``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest.cases import (
    FLOATS,
    REDUCED,
    TOLERANCE,
    Case,
    Host,
    Tensor,
    call,
    inputs_of,
)
from tests import clusters

__all__ = ["FLOATS", "REDUCED", "Case", "Host", "Tensor", "call", "inputs_of"]


def _map(args: dict[str, Any], f: Callable[[tf.Tensor], tf.Tensor]) -> dict[str, Any]:
    return {
        k: [f(x) for x in v] if isinstance(v, list) else (f(v) if tf.is_tensor(v) else v)
        for k, v in args.items()
    }


def device_type() -> str:
    return _runtime.call("loading")["type"]


def _forget_state(case: Case) -> None:
    """Makes TensorFlow create eager kernels anew."""
    if case.stateful:
        context.context().clear_kernel_cache()


def on_device(case: Case, args: dict[str, Any], run: Callable = call) -> list[tf.Tensor]:
    _forget_state(case)
    with tf.device(f"/{device_type()}:0"):
        return run(case, args)


def as_function(case: Case, args: dict[str, Any]) -> list[tf.Tensor]:
    names = [k for k, v in args.items() if tf.is_tensor(v) and not _is_host(case, k)]
    constants = {k: v for k, v in args.items() if k not in names}

    @tf.function(autograph=False)
    def function(*tensors):
        return call(case, {**dict(zip(names, tensors, strict=True)), **constants})

    return function(*(args[n] for n in names))


def in_cluster(case: Case, args: dict[str, Any]) -> list[tf.Tensor]:
    """The op as the only member of a cluster; host arguments are constants inside."""
    hosts = {k: v for k, v in args.items() if tf.is_tensor(v) and _is_host(case, k)}
    fed = {k: v for k, v in args.items() if tf.is_tensor(v) and k not in hosts}
    fed.update((k, v) for k, v in args.items() if isinstance(v, list))

    def function(*tensors):
        constants = {k: tf.constant(v.numpy()) for k, v in hosts.items()}
        return call(case, {**args, **tf.nest.pack_sequence_as(fed, tensors), **constants})

    return clusters.run(function, tf.nest.flatten(fed))


def _is_host(case: Case, name: str) -> bool:
    return isinstance(case.args[name], Host)


def gradient(case: Case, args: dict[str, Any]) -> list[tf.Tensor]:
    """d(sum of c * outputs)/d(arguments named by the case), c fixed."""
    sources = [x for n in case.grad for x in tf.nest.flatten(args[n])]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = [y for y in call(case, args) if y.dtype.is_floating]
    seeds = []
    with tf.device("/CPU:0"):
        for y in outputs:
            weights = np.cos(np.arange(y.shape.num_elements())).reshape(y.shape.as_list())
            if case.dtype in REDUCED:  # also for a reference in a wider type
                weights = weights.astype(tf.as_dtype(case.dtype).as_numpy_dtype)
            seeds.append(tf.constant(weights.astype(y.dtype.as_numpy_dtype)))
    gradients = tape.gradient(outputs, sources, seeds)
    return [tf.convert_to_tensor(g) for g in gradients if g is not None]  # of IndexedSlices, too


@functools.cache
def cpu_supports(op: str, dtype: str) -> bool:
    from tensorflow.python.framework import kernels

    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        if kernel.device_type != "CPU":
            continue
        rules = {c.name: list(c.allowed_values.list.type) for c in kernel.constraint}
        types = rules.get("T", rules.get("dtype"))
        if types is None or tf.as_dtype(dtype).as_datatype_enum in types:
            return True
    return False


def reference_types(case: Case, widest: str) -> list[str]:
    """The types to compute the reference in, best first.

    float16 and bfloat16: the widest float, so that only the final rounding remains. Other types
    that the CPU cannot do: one that holds their values, or at least their bits.
    """
    rounds = case.dtype in REDUCED and not case.exact and not case.own_type
    wider = [widest, "float32"] if case.dtype in FLOATS else ["int64", "int32", "float64"]
    candidates = wider if rounds else [case.dtype, *wider]
    supported = [d for d in candidates if cpu_supports(case.op, d)]
    return supported or (candidates if case.reference else [])


def reference(
    case: Case, args: dict[str, Any], run: Callable = call, widest: str = "float64"
) -> list[np.ndarray]:
    """What TensorFlow's CPU kernel answers."""
    op = case.reference or case.op

    def compute(dtype: str) -> list[np.ndarray]:
        if dtype == case.dtype:
            return [y.numpy() for y in run(dataclasses.replace(case, op=op), args)]
        types = {k: dtype if v == case.dtype else v for k, v in case.types.items()}
        wide = _map(args, lambda x: tf.cast(x, dtype) if x.dtype.name == case.dtype else x)
        return [y.numpy() for y in run(dataclasses.replace(case, op=op, types=types), wide)]

    _forget_state(case)
    choices = reference_types(case, widest)
    with tf.device("/CPU:0"):
        for dtype in choices:
            try:
                return compute(dtype)
            except tf.errors.UnimplementedError:  # a kernel that is registered but cannot
                if dtype == choices[-1]:
                    raise
    raise AssertionError(f"{case}: the CPU has no kernel to compare with")


def assert_close(case: Case, actual: Iterable[tf.Tensor], expected: list[np.ndarray]) -> None:
    actual = [y.numpy() for y in actual]
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        where = f"{case}: output {i}"
        assert a.shape == e.shape, f"{where}: shape {a.shape}, expected {e.shape}"
        with np.errstate(over="ignore"):
            e = e.astype(a.dtype)  # overflow to infinity as the element type does
        if a.dtype.kind in "biu":
            np.testing.assert_array_equal(a, e, err_msg=where)
            continue
        name = tf.as_dtype(a.dtype).name
        rtol, atol = (0.0 if case.exact else t * case.scale for t in TOLERANCE[name])
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(
            a.astype(wide), e.astype(wide), rtol=rtol, atol=atol, equal_nan=True, err_msg=where
        )


def table() -> list[dict[str, Any]]:
    """The op table as the plugin registered it."""
    return _runtime.call("ops")


@functools.cache
def registered() -> dict[str, list[dict[str, list[str]]]]:
    """Op to its rows' type attributes and their element types."""
    rows: dict[str, list[dict[str, list[str]]]] = {}
    for row in table():
        rows.setdefault(row["op"], []).append(row["types"])
    return rows


@functools.cache
def clusterable() -> set[str]:
    """Ops of which every row can be a member of a cluster."""
    never = {row["op"] for row in table() if row["cluster"] == "never"}
    return set(registered()) - never


INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def expand(case: Case, attr: str = "T", only: tuple[str, ...] = ()) -> list[Case]:
    """The case for every element type that any row of the op registers for `attr`.

    With `only`, for those of them that it names.
    """
    dtypes = list(
        dict.fromkeys(itertools.chain.from_iterable(r.get(attr, []) for r in registered()[case.op]))
    )
    return [
        dataclasses.replace(case, dtype=d, grad=case.grad if d in FLOATS else ())
        for d in dtypes
        if d != "variant" and (not only or d in only)  # lists: tests/cases/variable.py
    ]
