"""What a case of an op is: its arguments by shape and kind of values, and the values themselves.

The tests expand cases over all types and run them in every way (tests/spine.py); the selftest
replays recorded ones.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_metal_py.selftest import as_tensors

FLOATS = ("float32", "float16", "bfloat16")
REDUCED = ("float16", "bfloat16")
# Largest relative and absolute difference by element type, for one rounding of the result plus the
# error of a transcendental function; cases with long sums scale them by `Case.scale`. float64 and
# complex128 are types of variables only, whose arithmetic rounds as the CPU's does.
TOLERANCE = {
    "float32": (2e-6, 1e-6),
    "float16": (1.0e-3, 1e-3),
    "bfloat16": (8.0e-3, 8e-3),
    "complex64": (2e-6, 1e-6),
    "float64": (0.0, 0.0),
    "complex128": (2.5e-16, 0.0),
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
      op: name in ``tf.raw_ops``; as_tensors.py says what stands for a variable or a list.
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
    if kind == "few":
        return rng.integers(1, 5, shape)
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
    if kind.startswith(("below:", "signed:", "sorted:")) or kind in ("bool", "small", "few"):
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


def seed_of(case: Case) -> int:
    return zlib.crc32(str(case).encode())


def inputs_of(case: Case, special: bool = False, seed: int | None = None) -> dict[str, Any]:
    """The arguments, the same for every run of the case (`seed`: by default its `seed_of`)."""
    rng = np.random.default_rng(seed_of(case) if seed is None else seed)
    with tf.device("/CPU:0"):
        return {k: make_values(v, case.dtype, rng, special) for k, v in case.args.items()}


def call(case: Case, args: dict[str, Any], types: dict[str, str] | None = None) -> list[tf.Tensor]:
    kwargs = {k: tf.as_dtype(v) for k, v in (types or case.types).items()}
    op = case.op if callable(case.op) else as_tensors.function_of(case.op, case.dtype)
    result = op(**args, **case.attrs, **kwargs)
    return list(tf.nest.flatten(result))
