"""What macOS does where Apple does not say: the questions of docs/mac_selftest.md that lowerings
depend on, each a small program for MPSGraph itself, run outside of any op (kernels/probe.cc).

A question has an id, the answer that the plugin assumes, and what this machine answers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest.tasks import Result, Task

HALF, BFLOAT16 = np.float16, tf.bfloat16.as_numpy_dtype
REDUCED = {"float16": HALF, "bfloat16": BFLOAT16}
# Integers and Bool that a method only moves: their highest bits are those that get lost.
MOVED = (np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def ask_graph(
    method: str, *operands: np.ndarray, numbers: Sequence[int] = (), offset: int = 0
) -> dict[str, Any]:
    """Bytes and shape of the result of one method of MPSGraph at optimization level 0.

    `offset`: bytes before each operand and the result in their buffers. "feeds" in the answer is
    how many of the operands the executable asks for.
    """
    rows = [
        {
            "dtype": tf.as_dtype(x.dtype).as_datatype_enum,
            "shape": list(x.shape),
            "bytes": np.ascontiguousarray(x).tobytes().hex(),
        }
        for x in operands
    ]
    extra = {"offset": offset} if offset else {}
    return _runtime.call("probe", method=method, operands=rows, numbers=list(numbers), **extra)


def probe(
    method: str, *operands: np.ndarray, numbers: Sequence[int] = (), offset: int = 0
) -> np.ndarray:
    """The result of `ask_graph`, of the operands' first type; Bool for comparisons."""
    answer = ask_graph(method, *operands, numbers=numbers, offset=offset)
    dtype = operands[-1].dtype if method == "select" else operands[0].dtype
    if method in ("equal", "less"):
        dtype = np.dtype(bool)
    if method == "cast":
        dtype = np.dtype(tf.as_dtype(numbers[0]).as_numpy_dtype)
    return np.frombuffer(bytes.fromhex(answer["bytes"]), dtype).reshape(answer["shape"])


def same_bits(actual: np.ndarray, expected: np.ndarray, what: str) -> Result:
    """Equal bit for bit, NaNs equal whatever their payload."""
    a, e = np.ravel(actual), np.ravel(expected).astype(actual.dtype)
    with np.errstate(all="ignore"):
        nans = (a != a) & (e != e)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    wrong = (a.view(unsigned) != e.view(unsigned)) & ~nans
    if not wrong.any():
        return Result(True, what)
    i = int(np.argmax(wrong))
    count = f"{int(wrong.sum())} of {wrong.size}"
    return Result(False, f"{what}: {count} differ, element {i} is {a[i]}, assumed {e[i]}")


def close(actual: np.ndarray, expected: np.ndarray, most: float, what: str) -> Result:
    a, e = actual.astype(np.float64), np.asarray(expected, np.float64)
    error = float(np.max(np.abs(a - e) / np.maximum(np.abs(e), 1e-30)))
    return Result(error <= most, f"{what}: relative error {error:.1e}, assumed at most {most:.1e}")


def all_of(results: Sequence[Result]) -> Result:
    """The failures, or the last."""
    failed = [r for r in results if not r.ok]
    return Result(not failed, "; ".join(r.detail for r in failed[:2]) or results[-1].detail)


# ---- numbers ------------------------------------------------------------------------------------


def special(dtype: type) -> np.ndarray:
    tiny = np.finfo(HALF).smallest_subnormal if dtype is HALF else 1.2e-38  # normal: GPUs flush
    values = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.5, tiny]
    return np.array(values, np.float32).astype(dtype)


def keeps_special(dtype: type) -> Result:
    """NaN, infinities, signs of zero and the smallest numbers pass through a sum and a product."""
    x, one = special(dtype), np.ones(8, dtype)
    product = probe("mul", x, one)
    return same_bits(product, x, "x * 1 is x")


def rounds_to_even(dtype: type) -> Result:
    """Sums half way between two numbers."""
    bits = {HALF: 11, BFLOAT16: 8}[dtype]
    big = np.array([2.0**bits, 2.0**bits + 2, 2.0**bits + 4, -(2.0**bits)], np.float32)
    one = np.array([1, 1, 1, -1], np.float32)
    return same_bits(
        probe("add", big.astype(dtype), one.astype(dtype)), (big + one).astype(dtype), "ties"
    )


def casts_down(dtype: type) -> Result:
    """Ties, overflow, NaN and numbers below the normal ones, from float32."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ties = np.arange(1, 65, dtype=np.float32) + np.float32(2.0**-11)
    small = np.ldexp(np.float32(1), np.arange(-30, -10)).astype(np.float32) * np.float32(1.5)
    x = np.concatenate([bits, ties, small, np.array([65519, 65520, 1e6, -1e6], np.float32)])
    # What float32 itself keeps below its normal numbers is not asked: GPUs flush them.
    x = np.where(np.abs(x) < np.finfo(np.float32).tiny, 0, x).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(dtype)
    target = tf.as_dtype(np.dtype(dtype)).as_datatype_enum
    return same_bits(probe("cast", x, numbers=[target]), expected, f"{x.size} casts")


def power_edges() -> Result:
    base = np.array([0, 0, 0, 1, 1, np.nan, np.inf, np.inf, 2, 0.5, 0.5], np.float32)
    exponent = np.array([0, 2, -1, np.nan, np.inf, 0, 0, -1, -np.inf, np.inf, -np.inf], np.float32)
    with np.errstate(divide="ignore"):
        expected = np.power(base, exponent)
    return same_bits(probe("pow", base, exponent), expected, "as in C")


def orders_zeros() -> Result:
    a, b = np.array([0.0, -0.0], np.float32), np.array([-0.0, 0.0], np.float32)
    low, high = probe("minimum_nan", a, b), probe("maximum_nan", a, b)
    both = np.concatenate([low, high])
    return same_bits(both, np.array([-0.0, -0.0, 0.0, 0.0], np.float32), "-0 is below +0")


# ---- reductions ---------------------------------------------------------------------------------


def long_sums() -> Result:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 1.5, (1, 70_000)).astype(np.float32)
    return close(probe("sum", x, numbers=[1]), x.sum(1, np.float64), 1e-5, "sum of 70,000")


def very_long_sums() -> Result:
    x = np.random.default_rng(2).uniform(0.5, 1.5, (1, 2_000_000)).astype(np.float32)
    return close(probe("mean", x, numbers=[1]), x.mean(1, np.float64), 1e-5, "mean of 2 million")


def two_pass_variance() -> Result:
    x = (np.random.default_rng(3).standard_normal((1, 4096)) + 1000).astype(np.float32)
    expected = x.astype(np.float64).var(1)
    return close(probe("variance", x, numbers=[1]), expected, 1e-3, "variance far from zero")


def reduces_bool() -> Result:
    x = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0]], bool)
    all_, any_ = probe("reduce_and", x, numbers=[1]), probe("reduce_or", x, numbers=[1])
    got = np.concatenate([np.ravel(all_), np.ravel(any_)])
    return same_bits(got, np.concatenate([x.all(1), x.any(1)]), "and, or")


# ---- moving -------------------------------------------------------------------------------------


def bits_of(dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(4)
    if dtype is np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def moves(dtype: type) -> Result:
    """All bits of integers and Bool."""
    x, y = bits_of(dtype, (3, 5)), bits_of(dtype, (3, 5))[::-1].copy()
    flags = bits_of(np.bool_, (3, 5))
    return all_of(
        [
            same_bits(probe("transpose", x, numbers=[1, 0]), x.T, "transpose"),
            same_bits(probe("concat", x, y, numbers=[1]), np.concatenate([x, y], 1), "concat"),
            same_bits(probe("tile", x, numbers=[2, 1]), np.tile(x, (2, 1)), "tile"),
            same_bits(probe("slice", x, numbers=[1, 0, 3, 5, 1, 2]), x[1:3, 0:5:2], "slice"),
            same_bits(
                probe("broadcast", x[:1], numbers=[4, 5]), np.tile(x[:1], (4, 1)), "broadcast"
            ),
            same_bits(probe("select", flags, x, y), np.where(flags, x, y), "select"),
        ]
    )


def compares_int64() -> Result:
    x = np.array([2**53, 2**53 + 1, -(2**62), 2**62 - 1, 5], np.int64)
    y = np.array([2**53 + 1, 2**53 + 1, -(2**62) + 1, 2**62, 5], np.int64)
    return all_of(
        [
            same_bits(probe("equal", x, y), x == y, "equal"),
            same_bits(probe("less", x, y), x < y, "less"),
        ]
    )


def normalizes(shape: tuple[int, ...], axis: int) -> Result:
    rng = np.random.default_rng(5)
    x = rng.standard_normal(shape).astype(np.float32)
    small = [1] * len(shape)
    small[axis] = shape[axis]
    mean, variance, gamma, beta = (rng.uniform(0.5, 1.5, small).astype(np.float32) for _ in "mvgb")
    wide = x.astype(np.float64)
    expected = (wide - mean) / np.sqrt(variance.astype(np.float64) + 1e-3) * gamma + beta
    got = probe("normalize", x, mean, variance, gamma, beta)
    error = float(np.abs(got - expected).max())
    return Result(error < 1e-5, f"shape {list(shape)}: error {error:.1e}, assumed below 1e-5")


def convolves(inputs: int, outputs: int) -> Result:
    """One pixel with so many channels, in small integers, whose sums are exact."""
    rng = np.random.default_rng(7)
    x = rng.integers(-2, 3, (1, 1, 1, inputs)).astype(np.float32)
    filters = rng.integers(-2, 3, (1, 1, inputs, outputs)).astype(np.float32)
    expected = (x.reshape(1, -1) @ filters[0, 0]).reshape(1, 1, 1, outputs)
    return same_bits(probe("convolve", x, filters), expected, f"{inputs} to {outputs} channels")


# ---- memory -------------------------------------------------------------------------------------


def writes_views() -> Result:
    """A result that is a view of a feed, behind the identity that the plugin puts there."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    return all_of(
        [
            same_bits(probe("transpose", x, numbers=[1, 0]), x.T, "transpose"),
            same_bits(probe("reshape", x, numbers=[4, 3]), x.reshape(4, 3), "reshape"),
            same_bits(probe("identity", x), x, "identity"),
        ]
    )


def names_unused_feeds() -> Result:
    """An operand that no target depends on; either answer is served (kernels/plan.cc)."""
    x, unused = np.arange(6, dtype=np.float32), np.ones(3, np.float32)
    answer = ask_graph("exp", x, unused)
    got = np.frombuffer(bytes.fromhex(answer["bytes"]), np.float32)
    named = "named" if answer["feeds"] == 2 else "left out"
    return close(got, np.exp(x.astype(np.float64)), 1e-6, f"what no target needs is {named}")


def takes_packed_buffers() -> Result:
    """Buffers of exactly the bytes of their tensor."""
    results = []
    for x in (np.ones((2, 4), HALF), np.ones(3, bool), np.ones((5, 3), np.int8)):
        results.append(same_bits(probe("identity", x), x, f"{x.dtype}{list(x.shape)}"))
    return all_of(results)


def takes_offset(offset: int) -> Result:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    return same_bits(probe("mul", x, x, offset=offset), x * x, f"offset of {offset} bytes")


def multiplies_parts(offset: int, columns: int) -> Result:
    """Operands and result in one buffer, rows of few bytes, none of them padded."""
    rng = np.random.default_rng(6)
    left = rng.integers(-4, 5, (5, columns)).astype(np.float32)
    right = rng.integers(-4, 5, (columns, columns)).astype(np.float32)
    result = np.zeros_like(left)
    head = b"\0" * offset
    content = head + left.tobytes() + right.tobytes() + result.tobytes()
    at = [offset, offset + left.nbytes, offset + left.nbytes + right.nbytes]
    rows = [
        [place, x.shape[0], x.shape[1], x.shape[1] * 4]
        for place, x in zip(at, (left, right, result), strict=True)
    ]
    answer = _runtime.call(
        "probe_product", bytes=content.hex(), left=rows[0], right=rows[1], result=rows[2]
    )
    got = np.frombuffer(bytes.fromhex(answer), np.uint8)[at[2] :].view(np.float32)
    what = f"offset {offset}, rows of {4 * columns} bytes"
    return same_bits(got.reshape(result.shape), left @ right, what)


# ---- the list -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Question:
    """`assumed`: the answer that lowerings rely on. `macos`: asked from this version on."""

    id: str
    assumed: str
    ask: Callable[[], Result]
    macos: tuple[int, int] = (14, 0)


def questions() -> Iterator[Question]:
    for name, dtype in REDUCED.items():
        yield Question(
            f"{name}-keeps-special-values",
            "NaN, infinities, -0 and the smallest numbers pass",
            functools.partial(keeps_special, dtype),
        )
        yield Question(
            f"{name}-rounds-to-even", "ties go to even", functools.partial(rounds_to_even, dtype)
        )
        yield Question(
            f"cast-to-{name}",
            "to nearest even, overflow to infinity, NaN stays",
            functools.partial(casts_down, dtype),
        )
    yield Question("power-edges", "as C's pow, for bases of at least 0", power_edges)
    yield Question("zeros-are-ordered", "-0 is below +0", orders_zeros)
    yield Question("sum-of-70000", "partial sums: relative error below 1e-5", long_sums)
    yield Question("mean-of-2000000", "partial sums: relative error below 1e-5", very_long_sums)
    yield Question("variance-is-two-pass", "relative error below 1e-3", two_pass_variance)
    yield Question("and-or-of-bool", "0 or 1", reduces_bool)
    for dtype in MOVED:
        name = np.dtype(dtype).name
        yield Question(f"moves-{name}", "all bits", functools.partial(moves, dtype))
    yield Question("compares-int64", "exactly", compares_int64)
    for shape, axis in (((4, 3), 1), ((2, 4, 3), 2), ((2, 3, 4, 5), 1)):
        name = f"normalizes-rank-{len(shape)}-axis-{axis}"
        yield Question(name, "as for rank 4", functools.partial(normalizes, shape, axis))
    yield Question(
        "output-channels-65540", "right", functools.partial(convolves, 2, 65540), macos=(15, 1)
    )
    yield Question("input-channels-65540", "right", functools.partial(convolves, 65540, 2))
    yield Question("names-unused-feeds", "either", names_unused_feeds)
    yield Question("writes-views", "identity writes", writes_views)
    yield Question("takes-packed-buffers", "no rows are padded", takes_packed_buffers)
    for offset in (4, 16, 64, 256):
        yield Question(
            f"array-at-offset-{offset}",
            "any multiple of the element",
            functools.partial(takes_offset, offset),
            macos=(15, 0),
        )
    for offset, columns in ((0, 4), (4, 1), (8, 2), (12, 3), (16, 4)):
        yield Question(
            f"matrix-at-offset-{offset}-of-{columns}-columns",
            "any offset and length of rows; operands and result in one buffer",
            functools.partial(multiplies_parts, offset, columns),
        )


def question_tasks(macos: str) -> Iterator[Task]:
    version = tuple(int(n) for n in (macos.split(".") + ["0"])[:2])

    def ask(question: Question) -> Result:
        result = question.ask()
        result.expected = question.assumed
        return result

    for question in questions():
        if question.macos <= version:
            yield Task(f"questions/{question.id}", "questions", functools.partial(ask, question))
