"""What ops without a result to compare with must keep: numbers that no seed repeats, and ops that
only graph passes make."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_library

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime
from tensorflow_metal_py.selftest import quarantine
from tensorflow_metal_py.selftest.tasks import Result, Task

R = tf.raw_ops
DRAWN = 20000
# Of a mean of so many numbers: the chance that a right one is further off is below 1e-9.
SIGMAS = 6.2
EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
BITS = {"int32": 32, "int64": 64, "uint32": 32, "uint64": 64}


def first_wrong(checks: dict[str, bool], detail: str) -> Result:
    wrong = [what for what, holds in checks.items() if not holds]
    return Result(not wrong, f"{wrong[0]}: {detail}" if wrong else detail)


def non_deterministic_ints(dtype: str) -> Result:
    """All bits are drawn, zeros as often as ones, and never the same again."""
    a, b = (R.NonDeterministicInts(shape=[DRAWN], dtype=dtype).numpy() for _ in range(2))
    bits = np.unpackbits(a.view(np.uint8)).reshape(DRAWN, BITS[dtype]).mean(0)
    off = float(np.abs(bits - 0.5).max())
    checks = {
        "not all of the type's bits are drawn evenly": off < SIGMAS * 0.5 / math.sqrt(DRAWN),
        "numbers repeat": len(np.unique(a)) > DRAWN * 0.999,
        "two draws are the same": bool((a != b).mean() > 0.999),
        "it answers another type": a.dtype == dtype and a.shape == (DRAWN,),
    }
    return first_wrong(checks, f"bits are set in 50 % of the numbers, at most {off:.2%} off")


# Of a normal distribution: mean, standard deviation, least and largest, which cut it within, to one
# side, in its tail and hardly at all; in numbers that bfloat16 has as they are.
TRUNCATED = [(0.5, 2.0, -1.0, 3.0), (0.0, 1.0, 1.0, 8.0), (1.0, 1.0, 4.0, 5.0), (-2.0, 0.5, -8, 8)]


def truncated_moments(
    mean: float, deviation: float, low: float, high: float
) -> tuple[float, float]:
    """Mean and variance of the truncated distribution, by its density on a grid."""
    x = np.linspace(low, high, 200001)
    density = np.exp(-0.5 * ((x - mean) / deviation) ** 2)
    density /= density.sum()
    center = float((x * density).sum())
    return center, float(((x - center) ** 2 * density).sum())


def parameterized_truncated_normal(dtype: str) -> Result:
    """Within the limits, with the mean and variance of the truncated distribution."""
    columns = [tf.constant(column, dtype) for column in zip(*TRUNCATED, strict=True)]
    names = ("means", "stdevs", "minvals", "maxvals")
    args = dict(zip(names, columns, strict=True))
    shape = tf.constant([len(TRUNCATED), DRAWN])
    drawn = [R.ParameterizedTruncatedNormal(shape=shape, **args).numpy() for _ in range(2)]
    wide = drawn[0].astype(np.float64)
    rounding = EPSILON[dtype]  # of each number: it moves the moments by less than this
    worst, details = 0.0, []
    for row, parameters in zip(wide, TRUNCATED, strict=True):
        mean, variance = truncated_moments(*parameters)
        spread = math.sqrt(variance / DRAWN)
        off = abs(row.mean() - mean) / (SIGMAS * spread + rounding * np.abs(row).max())
        # The fourth moment of these is at most 3 times the variance squared.
        allowed = SIGMAS * variance * math.sqrt(2 / DRAWN) + 2 * rounding * variance**0.5
        worst = max(worst, off, abs(row.var() - variance) / allowed)
        details.append(f"{row.mean():.3f} ({mean:.3f})")
        if not (row >= parameters[2]).all() or not (row <= parameters[3]).all():
            return Result(False, f"numbers outside of {parameters[2:]}")
    checks = {
        "mean or variance is off": worst <= 1,
        "two draws are the same": bool((drawn[0] != drawn[1]).any()),
    }
    return first_wrong(checks, f"means {', '.join(details)}: {worst:.0%} of what is allowed")


# ---- ops of the plugin's own --------------------------------------------------------------------


def own(op: str, **arguments: Any) -> Any:
    """The result of an op that only the plugin defines."""
    name = op.strip("_")  # of the node
    run = lambda: op_def_library.apply_op(op, name=name, **arguments)  # noqa: E731
    return tf.function(run, autograph=False)()


def does_nothing(dtype: str) -> Result:
    x = np.array([0.0, -0.0, np.inf, np.nan, 3.5], dtype)
    y = own("MetalDoNothing", x=tf.constant(x)).numpy()
    return Result(y.tobytes() == x.tobytes(), f"{x} is {y}")


def host_logical(_: str) -> Result:
    """The truth tables."""
    for a in (False, True):
        if bool(own("_MetalHostLogical", inputs=[tf.constant(a)], function="not")) is a:
            return Result(False, f"not {a} is {a}")
        for b in (False, True):
            both = [tf.constant(a), tf.constant(b)]
            for name, expected in {"and": a and b, "or": a or b}.items():
                if bool(own("_MetalHostLogical", inputs=both, function=name)) is not expected:
                    return Result(False, f"{a} {name} {b} is {not expected}")
    return Result(True, "truth tables")


def boxed_numbers(_: str) -> Result:
    """Numbers come out of their box as they went in."""
    for numbers in ([], [0], 7, -(2**31), [3, 0, 5], [2, -70000, 2**31 - 1]):
        box = own("_MetalBoxNumbers", numbers=tf.constant(numbers, tf.int32))
        back = own("_MetalUnboxNumbers", box=box).numpy().tolist()
        if back != numbers or int(tf.size(box)) != 0:
            return Result(False, f"{numbers} in a box of {box.shape} is {back}")
    return Result(True, "scalars and vectors")


def cluster(_: str) -> Result:
    """A chain of ops is one, and computes what its members do by themselves."""

    def chain(x):
        return tf.reduce_sum(tf.tanh(x @ x) * 2.0 - tf.exp(-x), 0)

    x = tf.constant(np.random.default_rng(1).standard_normal((8, 8)), tf.float32)
    before = metal.stats()["fusions"].get("cluster", 0)
    fused = tf.function(chain, autograph=False)(x).numpy()
    made = metal.stats()["fusions"].get("cluster", 0) - before
    off = float(np.abs(fused - chain(x).numpy()).max())
    checks = {"no cluster was made": made > 0, "it computes something else": off < 1e-5}
    return first_wrong(checks, f"{made} cluster, at most {off:.1e} off")


def attention(dtype: str) -> Result:
    """Two heads, alone and with a row of which a mask hides everything: the mean of the values."""
    q, k, v = np.random.default_rng(2).standard_normal((3, 2, 24, 16))
    shown = np.tril(np.ones((24, 24), bool), -1)
    worst = 0.0
    for mask in (np.ones_like(shown), shown):
        logits = np.where(mask, 0.25 * q @ k.transpose(0, 2, 1), -1e9)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        expected = weights / weights.sum(-1, keepdims=True) @ v
        y = own(
            "_MetalAttention",
            query=tf.constant(q, dtype),
            key=tf.constant(k, dtype),
            value=tf.constant(v, dtype),
            masks=[tf.constant(mask)],
            equation=".mf,.nf,.ne->.me",
            scale=0.25,
            masking="select",
            number=-1e9,
            zero=False,
        )
        worst = max(worst, float(np.abs(y.numpy().astype(np.float64) - expected).max()))
    # Operands are rounded to the type, too; values are up to 4.
    return Result(worst <= 16 * EPSILON[dtype], f"at most {worst:.1e} off")


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _step(mode: str, x: np.ndarray, h: np.ndarray, c: np.ndarray, of: dict[str, np.ndarray]) -> Any:
    """The states after a step of a cell, in float64."""
    a, b = x @ of["weights"] + of["biases"][0], h @ of["state_weights"] + of["biases"][1]
    if mode == "lstm":
        i, f, g, o = np.split(a + b, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(c), c
    if mode == "gru":
        (az, ar, an), (bz, br, bn) = np.split(a, 3, axis=1), np.split(b, 3, axis=1)
        z, n = _sigmoid(az + bz), np.tanh(an + _sigmoid(ar + br) * bn)
        return z * h + (1 - z) * n, c
    return np.tanh(a + b) if mode == "rnn_tanh" else np.maximum(a + b, 0), c


def recurrent_loop(dtype: str) -> Result:
    """All outputs and the last states of each cell, by its definition."""
    steps, batch, features, units = 9, 3, 5, 4
    rng, worst = np.random.default_rng(4), 0.0
    draw = lambda *shape: tf.cast(rng.standard_normal(shape) * 0.5, dtype)  # noqa: E731
    for mode, gates in {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}.items():
        states = [draw(batch, units) for _ in range(2 if mode == "lstm" else 1)]
        given: dict[str, Any] = {
            "x": draw(steps, batch, features),
            "weights": draw(features, gates * units),
            "state_weights": draw(units, gates * units),
            "biases": [draw(gates * units) for _ in range(2)],
        }
        host = {"limits": [tf.constant(steps)], "length": tf.constant(steps)}
        attrs: dict[str, Any] = {"rnn_mode": mode, "keeps": "all", "element_shape": [None, units]}
        all_h, last_h, last_c, _ = own(
            "_MetalRnn", states=states, training=False, **given, **host, **attrs
        )
        wide = tf.nest.map_structure(lambda t: t.numpy().astype(np.float64), given)
        h, c = (state.numpy().astype(np.float64) for state in (states[0], states[-1]))
        expected = []
        for x in wide["x"]:
            h, c = _step(mode, x, h, c, wide)
            expected.append(h)
        pairs = [(all_h, np.array(expected)), (last_h, h)]
        pairs += [(last_c, c)] if mode == "lstm" else []
        for result, right in pairs:
            off = np.abs(result.numpy().astype(np.float64) - right) / np.maximum(1, np.abs(right))
            worst = max(worst, float(off.max()))
    # Each step sums up products, and hands on what it rounded in float32; results are rounded once.
    allowed = EPSILON[dtype] + 4 * steps * math.sqrt(features + units) * EPSILON["float32"]
    return first_wrong({"it computes something else": worst <= allowed}, f"{worst:.1e} off at most")


def recurrent_loop_gradient(dtype: str) -> Result:
    """All gradients of each cell: how much a weighted sum of all outputs and last states changes
    with each number, by differences in float64."""
    steps, batch, features, units = 4, 2, 3, 3
    rng, worst = np.random.default_rng(5), 0.0
    draw = lambda *shape: tf.cast(rng.standard_normal(shape) * 0.5, dtype)  # noqa: E731
    for mode, gates in {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}.items():
        num_states = 2 if mode == "lstm" else 1
        given: dict[str, Any] = {
            "x": draw(steps, batch, features),
            "states": [draw(batch, units) for _ in range(num_states)],
            "weights": draw(features, gates * units),
            "state_weights": draw(units, gates * units),
            "biases": [draw(gates * units) for _ in range(2)],
        }
        weighting = {
            "doutputs": [draw(steps, batch, units)],
            "dstates": [draw(batch, units) for _ in range(num_states)],
        }
        host = {"limits": [tf.constant(steps)], "length": tf.constant(steps)}
        attrs: dict[str, Any] = {"rnn_mode": mode, "keeps": "all", "element_shape": [None, units]}
        reserve = own("_MetalRnn", **given, **host, **attrs, training=True)[3]
        attrs |= {"D": dtype, "input_gradient": True}
        operands = {**given, **host, "reserve": reserve, **weighting}
        dx, dh, dc, *rest = own("_MetalRnnGrad", **operands, **attrs)
        results = [dx, dh, *([dc] if mode == "lstm" else []), *tf.nest.flatten(rest)]
        wide, of = (
            tf.nest.map_structure(lambda t: t.numpy().astype(np.float64), d)
            for d in (given, weighting)
        )
        expected = _differences(functools.partial(_weighted_sum, mode, wide, of), wide)
        for result, right in zip(results, expected, strict=True):
            off = np.abs(result.numpy().astype(np.float64) - right) / np.maximum(1, np.abs(right))
            worst = max(worst, float(off.max()))
    # As above; each step goes back through sums over gates * units, too, and over the batch.
    sums = math.sqrt(features + units + 4 * units) * batch
    allowed = EPSILON[dtype] + 4 * steps * sums * EPSILON["float32"]
    return first_wrong({"it computes something else": worst <= allowed}, f"{worst:.1e} off at most")


def _weighted_sum(mode: str, of: dict[str, Any], by: dict[str, Any]) -> float:
    h, c = of["states"][0], of["states"][-1]
    total = 0.0
    for x, weight in zip(of["x"], by["doutputs"][0], strict=True):
        h, c = _step(mode, x, h, c, of)
        total += float((h * weight).sum())
    last = [h, c][: len(by["dstates"])]
    return total + sum(float((a * b).sum()) for a, b in zip(last, by["dstates"], strict=True))


def _differences(function: Callable[[], float], arrays: Any) -> list[np.ndarray]:
    """The gradient with respect to each array; `function` reads them."""
    step, gradients = 2.0**-17, []  # off by its square, and by 2**-52 over it
    for array in tf.nest.flatten(list(arrays.values())):
        gradient = np.zeros_like(array)
        for i in np.ndindex(array.shape):
            number = array[i]
            array[i] = number + step
            above = function()
            array[i] = number - step
            gradient[i] = (above - function()) / (2 * step)
            array[i] = number
        gradients.append(gradient)
    return gradients


# ---- the list -----------------------------------------------------------------------------------

# Op -> what it must keep, and the types of its kernels ("bool" if it has no attribute for one).
PROPERTIES: dict[str, tuple[Callable[[str], Result], tuple[str, ...]]] = {
    "NonDeterministicInts": (non_deterministic_ints, tuple(BITS)),
    "ParameterizedTruncatedNormal": (parameterized_truncated_normal, tuple(EPSILON)),
    "MetalDoNothing": (does_nothing, ("float32",)),
    "_MetalHostLogical": (host_logical, ("bool",)),
    "_MetalBoxNumbers": (boxed_numbers, ("bool",)),
    "_MetalUnboxNumbers": (boxed_numbers, ("bool",)),
    "_MetalAttention": (attention, tuple(EPSILON)),
    "_MetalCluster": (cluster, ("bool",)),
    "_MetalRnn": (recurrent_loop, tuple(EPSILON)),
    "_MetalRnnGrad": (recurrent_loop_gradient, tuple(EPSILON)),
}


def _run(op: str, dtype: str, device: str) -> Result:
    with tf.device(device):
        result = PROPERTIES[op][0](dtype)
    if not result.ok:
        result.quarantine = quarantine.entry(op, dtype)
    return result


def property_tasks(device: str) -> Iterator[Task]:
    """Of what is registered: an older macOS may lack the method for an op."""
    registered = {row["op"] for row in _runtime.call("ops")}
    for op, (_, dtypes) in PROPERTIES.items():
        for dtype in dtypes if op in registered else ():
            title = f"{op}({dtype})"
            run = functools.partial(_run, op, dtype, device)
            yield Task(f"ops/{title} property", title, run, quarantine.entry(op, dtype))
