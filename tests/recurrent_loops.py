"""Loops over time of recurrent cells: what the tests of the graph pass "rnn" have in common."""

import keras
import numpy as np
import tensorflow as tf

from tests import rewriting, spine

OP, PASS = "_MetalRnn", "rnn"
DEVICE = f"/{spine.device_type()}:0"
BATCH, STEPS, FEATURES, UNITS = 3, 7, 5, 6
L = keras.layers
ANY = (None, None, FEATURES)
# Half a last digit.
EPSILON = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def make_input(dtype="float32", shape=(BATCH, STEPS, FEATURES)):
    return tf.cast(np.random.default_rng(0).standard_normal(shape), dtype)


def tolerance(dtype):
    """Sums of K products in another order differ by some sqrt(K) roundings of terms about 1, and
    with 16 bits the loop rounds about as many results in a step; gates have slopes of at most 1, so
    that no step enlarges what the steps before left."""
    return 4 * np.sqrt(FEATURES + UNITS) * EPSILON[dtype] * STEPS


def run(function, arguments, device, passes, spec=None):
    signature = None if spec is None else [tf.TensorSpec(spec, arguments[0].dtype)]
    with tf.device(device):
        compiled = tf.function(function, autograph=False, input_signature=signature)
        return rewriting.recorded(lambda: compiled(*arguments), passes)


def count(graphs):
    return sum(calls[-1].count(OP) for calls in graphs)


def compare(actual, expected, dtype="float32"):
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        a, e = (tf.cast(t, "float64") for t in (a, e))
        size = np.maximum(1, np.abs(np.nan_to_num(e, posinf=1, neginf=1)))
        np.testing.assert_allclose(a / size, e / size, rtol=0, atol=tolerance(dtype))


def check(function, *arguments, fires=1, spec=None, dtype="float32"):
    """Compares fused, as a loop, and on the CPU. Where nothing fires, graphs are the same bytes."""
    plain, _ = run(function, arguments, DEVICE, "none", spec)
    result, graphs = run(function, arguments, DEVICE, "all" if fires else PASS, spec)
    expected, _ = run(function, arguments, "CPU:0", "none", spec)
    assert count(graphs) == fires
    assert fires or all(graph.unchanged for calls in graphs for graph in calls)
    compare(result, plain, dtype)
    compare(result, expected, dtype)


def make_layer(kind, **arguments):
    keras.utils.set_random_seed(7)
    layer = getattr(L, kind)(UNITS, **arguments)
    with tf.device(DEVICE):
        layer.build((BATCH, None, FEATURES))
        for weight in layer.trainable_variables:  # the biases, too
            weight.assign(np.random.default_rng(1).standard_normal(weight.shape) * 0.4)
    return layer


LAYERS = {
    "LSTM": {"use_cudnn": False},
    "GRU": {"use_cudnn": False},
    "SimpleRNN": {},
}
W, U, B = (
    tf.constant(np.random.default_rng(n).standard_normal(shape) * 0.5, tf.float32)
    for n, shape in enumerate([(FEATURES, UNITS), (UNITS, UNITS), (UNITS,)])
)


def tanh_cell(x, h, i):
    return tf.tanh(tf.matmul(x, W) + tf.matmul(h, U) + B)


def make_loop(
    cell=tanh_cell, start=0, step=1, limit=None, length=None, read=None, write=None, more=None
):
    """A loop over x, [time, batch, features], from the state h; results: stacked outputs, h."""

    def function(x, h):
        time = tf.shape(x)[0]
        items = tf.TensorArray(x.dtype, time).unstack(x)
        results = tf.TensorArray(
            x.dtype, time if length is None else length, element_shape=(None, UNITS)
        )
        end = time if limit is None else limit

        def body(i, h, results):
            h = cell(items.read(read(i, time) if read else i), h, i)
            return i + step, h, results.write(write(i, time) if write else i, h)

        _, h, results = tf.while_loop(
            lambda i, h, _: more(i, h, end) if more else i < end,
            body,
            (start, h, results),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, UNITS]),
                tf.TensorShape(None),
            ),
        )
        return results.stack(), h

    return function


def make_operands(time=STEPS, batch=BATCH, states=None):
    rng = np.random.default_rng(5)
    x = tf.constant(rng.standard_normal((time, batch, FEATURES)), tf.float32)
    return x, tf.constant(rng.standard_normal((states or batch, UNITS)), tf.float32)
