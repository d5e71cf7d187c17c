"""_MetalRnn and _MetalRnnGrad, called by themselves, against loops of TensorFlow on the CPU."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py.selftest.properties import own
from tests.recurrent_loops import DEVICE, EPSILON

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@dataclasses.dataclass(frozen=True)
class Loop:
    mode: str = "lstm"
    time: int = 5
    batch: int = 3
    features: int = 4
    units: int = 3
    biases: int = 2
    limits: tuple[int, ...] = ()  # () stands for that of x
    length: int | None = None
    keeps: str = "all"
    # Operands with one batch row: it serves for all.
    single: str = ""
    uses_outputs: bool = True
    dtype: str = "float32"
    weight_dtype: str = "float32"
    input_gradient: bool = True

    @property
    def states(self):
        return "hc" if self.mode == "lstm" else "h"

    @property
    def steps(self):
        return max(0, min(self.limits or (self.time,)))

    def outputs_shape(self, batch):
        if self.keeps == "none":
            return (0,)
        return (self.list_length if self.keeps == "all" else 1, batch, self.units)

    @property
    def list_length(self):
        return self.steps if self.length is None else self.length

    def operands(self):
        rng = np.random.default_rng(3)

        def draw(*shape, by=1.0):
            with tf.device("CPU:0"):
                return tf.cast(rng.standard_normal(shape) * 0.6 * by, self.dtype)

        rows = GATES[self.mode] * self.units
        # A step hardly enlarges what the steps before left.
        weights = lambda n: draw(n, rows, by=max(1, n) ** -0.5)  # noqa: E731
        batch = {name: 1 if name in self.single else self.batch for name in "xhc"}
        return {
            "x": draw(self.time, batch["x"], self.features),
            "states": [draw(batch[name], self.units) for name in self.states],
            "weights": weights(self.features),
            "state_weights": weights(self.units),
            "biases": [draw(rows) for _ in range(self.biases)],
        }

    def gradients(self):
        """With respect to the outputs and the last states."""
        rng = np.random.default_rng(4)
        draw = lambda shape: tf.cast(rng.standard_normal(shape) * 0.6, self.dtype)  # noqa: E731
        batch = [1 if n in self.single and not self.steps else self.batch for n in self.states]
        with tf.device("CPU:0"):
            return {
                "doutputs": [draw(self.outputs_shape(self.batch))] if self.uses_outputs else [],
                "dstates": [draw((rows, self.units)) for rows in batch],
            }

    def host(self):
        limits = self.limits or (self.time,)
        return {
            "limits": [tf.constant(n) for n in limits],
            "length": tf.constant(self.list_length),
        }

    def attributes(self):
        shape = [self.batch if self.steps == 0 else None, self.units]
        return {"rnn_mode": self.mode, "keeps": self.keeps, "element_shape": shape}


# ---- the reference -----------------------------------------------------------------------------


def _step(mode, x, h, c, operands):
    given = operands["biases"]
    biases = [given[i] if i < len(given) else 0.0 for i in range(2)]
    a, b = x @ operands["weights"] + biases[0], h @ operands["state_weights"] + biases[1]
    if mode == "lstm":
        i, f, g, o = tf.split(a + b, 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c
    if mode == "gru":
        (az, ar, an), (bz, br, bn) = tf.split(a, 3, 1), tf.split(b, 3, 1)
        z, n = tf.sigmoid(az + bz), tf.tanh(an + tf.sigmoid(ar + br) * bn)
        return z * h + (1 - z) * n, c
    return (tf.tanh if mode == "rnn_tanh" else tf.nn.relu)(a + b), c


def _run_reference(loop, operands):
    h, c = operands["states"][0], operands["states"][-1]
    outputs = []
    for t in range(loop.steps):
        h, c = _step(loop.mode, operands["x"][t], h, c, operands)
        outputs.append(h)
    zeros = tf.zeros([loop.batch, loop.units], h.dtype)
    if loop.keeps == "all":
        outputs += [zeros] * (loop.list_length - loop.steps)
        stacked = tf.stack(outputs) if outputs else tf.zeros([0, *zeros.shape], h.dtype)
    else:
        stacked = (outputs or [zeros])[-1][None] if loop.keeps == "last" else tf.zeros([0], h.dtype)
    return [stacked, h, c] if loop.mode == "lstm" else [stacked, h]


def _expected(loop):
    """In float64: outputs and states, and gradients of the operands in their order."""
    widen = lambda t: tf.cast(t, "float64")  # noqa: E731
    with tf.device("CPU:0"):
        operands = tf.nest.map_structure(widen, loop.operands())
        seeds = tf.nest.map_structure(widen, loop.gradients())
        order = ("x", "states", "weights", "state_weights", "biases")
        flat = tf.nest.flatten([operands[name] for name in order])
        with tf.GradientTape() as tape:
            tape.watch(flat)
            results = _run_reference(loop, operands)
            used = results if loop.uses_outputs else results[1:]
            pairs = zip(used, seeds["doutputs"] + seeds["dstates"], strict=True)
            loss = tf.add_n([tf.reduce_sum(y * seed) for y, seed in pairs])
        return results, tape.gradient(loss, flat, unconnected_gradients="zero")


# ---- on the device -----------------------------------------------------------------------------


def _forward(loop, training=True):
    return own(
        "_MetalRnn", **loop.operands(), **loop.host(), **loop.attributes(), training=training
    )


def _backward(loop, reserve, changed=None):
    operands = {**loop.operands(), **loop.host(), **loop.gradients(), "reserve": reserve}
    return own(
        "_MetalRnnGrad",
        **{**operands, **(changed or {})},
        **loop.attributes(),
        D=loop.weight_dtype,
        input_gradient=loop.input_gradient,
    )


def _tolerance(loop, dtype):
    """Rounded once, behind sums in float32: over features and units in each step, then over all
    steps and the batch. Gates have slopes of at most 1."""
    terms = loop.features + (GATES[loop.mode] + 1) * loop.units + loop.batch
    return EPSILON[dtype] * (dtype != "float32") + 4 * EPSILON["float32"] * np.sqrt(terms) * max(
        1, loop.steps
    )


def _compare(loop, actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        a, e = a.numpy(), e.numpy()
        size = np.maximum(1, np.abs(e))
        np.testing.assert_allclose(
            a.astype("float64") / size, e / size, rtol=0, atol=_tolerance(loop, a.dtype.name)
        )


def _check(loop):
    results, gradients = _expected(loop)
    with tf.device(DEVICE):
        # What is left of this in memory that is given out again is not zero.
        del _make_dirty()[:]
        *actual, reserve = _forward(loop)
        *again, nothing = _forward(loop, training=False)
        outputs = _backward(loop, reserve)
    if loop.mode != "lstm":
        assert actual.pop().shape == again.pop().shape == [0]
    _compare(loop, actual, results)
    for a, b in zip(actual, again, strict=True):
        np.testing.assert_array_equal(a, b)
    has_steps = 0 not in (loop.steps, loop.batch, loop.units)
    assert nothing.shape == [0] and (reserve.shape[0] > 0) == has_steps
    assert {t.dtype for t in tf.nest.flatten(outputs)[:3]} == {tf.as_dtype(loop.dtype)}
    assert {t.dtype for t in tf.nest.flatten(outputs)[3:]} == {tf.as_dtype(loop.weight_dtype)}
    dx, dh, dc, *rest = outputs
    assert loop.mode == "lstm" or dc.shape == [0]
    parts = [dx] if loop.input_gradient else []
    assert loop.input_gradient or dx.shape == [0]
    parts += [dh, dc] if loop.mode == "lstm" else [dh]
    _compare(loop, parts + tf.nest.flatten(rest), gradients[0 if loop.input_gradient else 1 :])


def _make_dirty():
    return [tf.fill([size], np.float32(np.nan)) + 0 for size in (8, 64, 256, 1024, 4096) * 3]


# ---- tests -------------------------------------------------------------------------------------

CASES = {
    "all": {},
    "last": {"keeps": "last"},
    "none": {"keeps": "none"},
    "states only": {"uses_outputs": False},
    "limits": {"limits": (7, 4), "time": 7, "length": 4},
    "length": {"length": 8},
    "limits and last": {"limits": (4,), "time": 7, "keeps": "last"},
    "one row of x": {"single": "x", "time": 4},
    "one row of x, steps fewer": {"single": "x", "time": 6, "limits": (3,)},
    "one row of h": {"single": "h"},
    "one step": {"time": 1},
    "one of all": {"time": 2, "batch": 1, "features": 1, "units": 1},
    "no bias": {"biases": 0},
    "one bias": {"biases": 1},
    "no features": {"features": 0},
    "no input gradient": {"input_gradient": False},
    "no input gradient, one row": {"input_gradient": False, "single": "x"},
    "no step": {"limits": (0,), "length": 2},
    "no step, one row": {"limits": (0,), "single": "hx", "keeps": "last"},
    "no step, less than none": {"limits": (-2,), "keeps": "none"},
    "no time": {"time": 0},
    "no batch": {"batch": 0},
    "no batch, one row of x": {"batch": 0, "single": "x", "biases": 1},
    "no batch, one row of h": {"batch": 0, "single": "h", "keeps": "last"},
    "no units": {"units": 0},
}


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("name", CASES)
def test_against_the_cpu(name, mode):
    _check(Loop(mode, **CASES[name]))


@pytest.mark.parametrize("weight_dtype", ["as x", "float32"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", GATES)
def test_16_bits(mode, dtype, weight_dtype):
    """Gradients of weights in float32 have its precision."""
    wide = dtype if weight_dtype == "as x" else weight_dtype
    loop = Loop(mode, dtype=dtype, weight_dtype=wide, limits=(4,))
    for changes in (
        {},
        {"single": "x"},
        {"single": "h"},
        {"keeps": "last", "input_gradient": False},
    ):
        _check(dataclasses.replace(loop, **changes))


@pytest.mark.parametrize("single", ["c", "hc", "xc"])
def test_one_row_of_c(single):
    _check(Loop("lstm", single=single, keeps="last"))


def test_weights_wider_than_a_tile():
    """Of the shaders and the products."""
    for mode in GATES:
        _check(Loop(mode, time=3, batch=17, features=33, units=37))


WRONG = {
    "reserve": r"reserve has shape \[5\], not \[\d+\]",
    "doutputs": r"doutputs has shape \[4,3,3\], not \[5,3,3\]",
    "dstates": r"dstates\[1\] has shape \[3,2\], not \[3,3\]",
    "two of doutputs": "more than one tensor of doutputs",
    "states": "1 states, not 2",
    "biases": "more than two biases",
}


@pytest.mark.parametrize("name", WRONG)
def test_operands_that_do_not_fit(name):
    loop = Loop()
    with tf.device(DEVICE):
        zeros, reserve = lambda *shape: tf.zeros(shape), _forward(loop)[-1]
        changed = {
            "reserve": {"reserve": zeros(5)},
            "doutputs": {"doutputs": [zeros(4, 3, 3)]},
            "dstates": {"dstates": [zeros(3, 3), zeros(3, 2)]},
            "two of doutputs": {"doutputs": [zeros(5, 3, 3)] * 2},
            "states": {"states": [zeros(3, 3)], "dstates": [zeros(3, 3)]},
            "biases": {"biases": [zeros(12)] * 3},
        }[name]
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"_MetalRnnGrad.*{WRONG[name]}"):
            _backward(loop, reserve, changed)


def test_reserve_of_a_pass_that_was_not_in_training():
    with tf.device(DEVICE):
        reserve = _forward(Loop(), training=False)[-1]
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"reserve has shape \[0\], not"):
            _backward(Loop(), reserve)


def test_behind_the_end_of_a_list():
    with tf.device(DEVICE):
        reserve = _forward(Loop())[-1]
        for loop in (Loop(limits=(6,)), Loop(length=4)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="in a list with"):
                _backward(loop, reserve)
