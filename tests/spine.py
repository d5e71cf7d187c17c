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
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tensorflow_metal_py import _runtime
from tests import clusters

FLOATS = ("float32", "float16", "bfloat16")
REDUCED = ("float16", "bfloat16")
# Largest relative and absolute difference by element type, for one rounding of the result plus the
# error of a transcendental function; cases with long sums scale them by `Case.scale`.
TOLERANCE = {
    "float32": (2e-6, 1e-6),
    "float16": (1.0e-3, 1e-3),
    "bfloat16": (8.0e-3, 8e-3),
    "complex64": (2e-6, 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An argument: shape, kind of values, and element type (None: the case's own)."""

    shape: tuple[int, ...]
    kind: str = "normal"
    dtype: str | None = None

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape)) or "scalar"
        return text + ("" if self.dtype is None else f":{self.dtype}")


@dataclasses.dataclass(frozen=True)
class Host:
    """An argument that the kernel reads on the host: given values."""

    value: Any
    dtype: str = "int32"

    def __str__(self) -> str:
        return str(self.value).replace(" ", "")


@dataclasses.dataclass(frozen=True)
class Case:
    """One op on one set of shapes, types and attributes.

    Attributes:
      op: name in ``tf.raw_ops``.
      args: argument name to Tensor, Host or a list of those.
      attrs: attributes other than types.
      dtype: element type of the arguments without one of their own.
      types: type attributes that cannot be inferred from the arguments.
      grad: names of the arguments to differentiate by; the gradient is compared as well.
      special: also run with NaN, infinities and zeros mixed into the arguments.
      scale: factor on the tolerance, sqrt of the length of the longest sum.
      exact: results must be equal bit for bit (data movement, integers).
      own_type: the reference is computed in the element type itself (random numbers depend on it).
      stateful: kernels keep state, so each eager run gets new ones.
      label: told apart in the printed name.
      reference: computes what the CPU kernel cannot: takes the arguments and attributes of the op.
    """

    op: str
    args: dict[str, Any]
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str = "float32"
    types: dict[str, str] = dataclasses.field(default_factory=dict)
    grad: tuple[str, ...] = ()
    special: bool = False
    scale: float = 1.0
    exact: bool = False
    own_type: bool = False
    stateful: bool = False
    label: str = ""
    reference: Callable[..., Any] | None = None

    def __str__(self) -> str:
        def show(value: Any) -> str:
            return "+".join(map(show, value)) if isinstance(value, list) else str(value)

        parts = [self.dtype]
        parts += [f"{k}={v}" for k, v in self.types.items()]
        parts += [f"{k}={show(v)}" for k, v in self.args.items()]
        parts += [f"{k}={v}" for k, v in self.attrs.items()]
        return f"{self.op}[{' '.join(parts)}]" + (f"#{self.label}" if self.label else "")


def _random(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind == "normal":
        return rng.standard_normal(shape) * 2
    if kind == "positive":
        return rng.uniform(0.1, 4.0, shape)
    if kind == "unit":
        return rng.uniform(-0.95, 0.95, shape)
    if kind == "box":  # two corners each, some of them outside of the unit square
        corner = rng.uniform(-0.1, 0.8, (*shape[:-1], 2))
        return np.concatenate([corner, corner + rng.uniform(0.05, 0.4, corner.shape)], -1)
    if kind == "transform":  # near the identity
        return np.array([1, 0, 0, 0, 1, 0, 0, 0]) + rng.uniform(-0.3, 0.3, shape) * np.array(
            [1, 1, 8, 1, 1, 8, 0.05, 0.05]
        )
    if kind == "above_one":
        return rng.uniform(1.05, 8.0, shape)
    if kind == "wide":
        return np.exp(rng.uniform(-4, 4, shape)) * rng.choice([-1, 1], shape)
    if kind == "probability":
        return 10.0 ** rng.uniform(-6, 0, shape)
    if kind == "nonzero":
        return rng.uniform(0.5, 3.0, shape) * rng.choice([-1, 1], shape)
    if kind == "zeros":  # about half of the elements
        return rng.standard_normal(shape) * rng.integers(0, 2, shape)
    if kind == "bool":
        return rng.integers(0, 2, shape)
    if kind == "small":  # sums of many are exact
        return rng.integers(0, 5, shape)
    if kind == "tenths":
        return rng.integers(-20, 30, shape) / 10
    if kind == "sorted":
        return np.sort(rng.standard_normal(shape) * 2)
    if kind == "distribution":  # rows that sum to one
        values = rng.uniform(0.1, 1.0, shape)
        return values / values.sum(-1, keepdims=True)
    if kind.startswith("below:"):  # indices
        return rng.integers(0, int(kind.removeprefix("below:")), shape)
    if kind.startswith("signed:"):  # indices, some of them below zero
        return rng.integers(-2, int(kind.removeprefix("signed:")), shape)
    if kind.startswith("sorted:"):  # segments
        return np.sort(rng.integers(0, int(kind.removeprefix("sorted:")), shape))
    raise ValueError(f"unknown kind of values {kind!r}")


def _matrices(kind: str, shape: tuple[int, ...], rng, is_complex: bool) -> np.ndarray:
    """Well-conditioned square matrices: "definite" (Hermitian, positive) or "dominant"."""
    values = rng.standard_normal(shape)
    if is_complex:
        values = values + 1j * rng.standard_normal(shape)
    n = max(shape[-1], 1)
    if kind == "definite":
        return values @ np.conj(np.swapaxes(values, -1, -2)) / n + np.eye(shape[-1])
    return values + np.eye(shape[-1]) * rng.choice([-2.0, 2.0], shape[-1]) * np.sqrt(n)


def _integers(kind: str, shape: tuple[int, ...], dtype: np.dtype, rng) -> np.ndarray:
    info = np.iinfo(dtype)
    if kind.startswith(("below:", "signed:", "sorted:")) or kind in ("bool", "small"):
        return _random(kind, shape, rng).astype(dtype)
    if kind == "zeros":
        return (rng.integers(0, 2, shape) * rng.integers(1, 100, shape)).astype(dtype)
    values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    small = rng.integers(0 if info.min == 0 else -20, 20, shape).astype(dtype)
    values = np.where(rng.integers(0, 2, shape) == 1, values, small).astype(dtype)
    if kind == "sorted":
        return np.sort(values)
    return np.where(values == 0, 1, values).astype(dtype) if kind == "nonzero" else values


_SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]


def make_values(spec: Any, dtype: str, rng: np.random.Generator, special: bool) -> Any:
    """A tf.Tensor (on the CPU) for an argument, or a list of them."""
    if isinstance(spec, list):
        return [make_values(s, dtype, rng, special) for s in spec]
    if isinstance(spec, Host):
        return tf.constant(spec.value, dtype=spec.dtype)
    if not isinstance(spec, Tensor):
        return spec
    dtype = spec.dtype or dtype
    np_dtype = tf.as_dtype(dtype).as_numpy_dtype
    if dtype == "bool":
        values = rng.integers(0, 2, spec.shape).astype(bool)
    elif tf.as_dtype(dtype).is_integer:
        values = _integers(spec.kind, spec.shape, np.dtype(np_dtype), rng)
    elif spec.kind in ("definite", "dominant"):
        values = _matrices(spec.kind, spec.shape, rng, tf.as_dtype(dtype).is_complex)
        values = values.astype(np_dtype)
    else:
        values = np.asarray(_random(spec.kind, spec.shape, rng), np.float64)
        if tf.as_dtype(dtype).is_complex:
            values = values + 1j * _random(spec.kind, spec.shape, rng)
        if special and values.size:
            flat = values.reshape(-1)
            picks = rng.permutation(flat.size)[: max(1, flat.size // 2)]
            for i, p in enumerate(picks):
                flat[p] = _SPECIAL[i % len(_SPECIAL)]
        values = values.astype(np_dtype)
    return tf.constant(values)


def inputs_of(case: Case, special: bool = False) -> dict[str, Any]:
    """The arguments, the same for every run of the case."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    with tf.device("/CPU:0"):
        return {k: make_values(v, case.dtype, rng, special) for k, v in case.args.items()}


def call(case: Case, args: dict[str, Any], types: dict[str, str] | None = None) -> list[tf.Tensor]:
    kwargs = {k: tf.as_dtype(v) for k, v in (types or case.types).items()}
    op = case.op if callable(case.op) else getattr(tf.raw_ops, case.op)
    result = op(**args, **case.attrs, **kwargs)
    return list(tf.nest.flatten(result))


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
        if "T" not in rules or tf.as_dtype(dtype).as_datatype_enum in rules["T"]:
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
        if d != "variant" and (not only or d in only)  # variants: tests/test_variables.py
    ]
