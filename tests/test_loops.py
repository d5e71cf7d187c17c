"""The graph passes "host_predicates" and "lists": no step of a loop waits for the device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import reset_stats, stats
from tests import rewriting, spine

X = tf.constant(np.linspace(-1, 1, 6, dtype="float32"))
HOST = "_MetalHostLogical"
STEPS = 25


def _loop(condition, **kwargs):
    """A loop of STEPS steps under `condition(i, x)` and a limit of iterations."""

    def function(x):
        def body(i, y):
            return i + 1, tf.tanh(y) * 1.5

        return tf.while_loop(condition, body, [0, x], maximum_iterations=STEPS, **kwargs)

    return function


def _check(function, x=X, fires=1):
    with tf.device("CPU:0"):
        expected = tf.function(function, autograph=False)(x)
    plain, _ = rewriting.run(function, x, passes="none")
    result, graph = rewriting.run(function, x, passes="host_predicates")
    assert graph.count(HOST) == fires
    for got, same, cpu in zip(
        *(tf.nest.flatten(r) for r in (result, plain, expected)), strict=True
    ):
        np.testing.assert_array_equal(got, same)
        np.testing.assert_allclose(got, cpu, rtol=1e-5)
    return graph


def test_fires_on_conditions_over_counters():
    _check(_loop(lambda i, y: i < 100))
    _check(_loop(lambda i, y: tf.logical_or(i < 3, tf.logical_not(i > 10))), fires=2)


def test_no_wait_per_step():
    waits = {}
    for passes in ("none", "host_predicates"):
        with rewriting.environment(TF_METAL_GRAPPLER=passes):
            fresh = tf.function(_loop(lambda i, y: i < 100), autograph=False)
            fresh(X)
        reset_stats()
        fresh(X)
        waits[passes] = stats()["sync_dtoh"]
    assert waits["none"] >= STEPS
    assert waits["host_predicates"] == 0


@pytest.mark.parametrize(
    "condition",
    [
        lambda i, y: y[0] < 100.0,  # on the device: the data decide
        lambda i, y: tf.cast(i, tf.int64) < 100,  # int64 is computed on the device
        lambda i, y: tf.reduce_all(y < 100.0),
    ],
)
def test_must_not_fire_on_conditions_over_data(condition):
    _check(_loop(condition), fires=0)


def test_must_not_fire_when_the_device_reads():
    def function(x):
        n = tf.size(x)
        return tf.where(tf.logical_and(n < 7, n > 3), x, -x)

    with tf.device("CPU:0"):
        np.testing.assert_array_equal(function(X), X)
    open_shape = tf.function(function, input_signature=[tf.TensorSpec([None])], autograph=False)

    def body(x):
        return open_shape(x)

    result, graph = rewriting.run(body, X, passes="host_predicates")
    np.testing.assert_array_equal(result, X)
    assert graph.count(HOST) == 0


def test_branches():
    def function(x):
        n = tf.size(x)
        return tf.cond(tf.logical_and(n > 3, n < 7), lambda: x * 2, lambda: x - 1)

    open_shape = tf.function(function, input_signature=[tf.TensorSpec([None])], autograph=False)
    for x in (X, tf.concat([X, X], 0)):
        result, _ = rewriting.run(lambda x: open_shape(x) + 0.0, x, passes="host_predicates")
        with tf.device("CPU:0"):
            np.testing.assert_array_equal(result, function(x))


def _gradient_of_loop(body, w):
    """x to d(sum of STEPS times body(y, w))/dw, for x with any number of rows."""

    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(w)
            _, y = tf.while_loop(
                lambda i, y: i < STEPS, lambda i, y: (i + 1, body(i, y, w)), [0, x]
            )
            loss = tf.reduce_sum(y * y)
        return tape.gradient(loss, w)

    return tf.function(function, input_signature=[tf.TensorSpec([None, 3])], autograph=False)


def _check_gradient(body, w, fires, ops=("_MetalBoxNumbers", "_MetalUnboxNumbers")):
    x = tf.constant(np.random.default_rng(0).standard_normal((4, 3)), tf.float32)

    def on_device():
        with tf.device(f"{spine.device_type()}:0"):
            return _gradient_of_loop(body, w)(x)

    plain, _ = rewriting.recorded(on_device, "none")
    result, graphs = rewriting.recorded(on_device, "lists")
    (graph,) = (calls[-1] for calls in graphs)
    np.testing.assert_array_equal(result, plain)
    with tf.device("CPU:0"):
        np.testing.assert_allclose(result, _gradient_of_loop(body, w)(x), rtol=1e-4, atol=1e-6)
    for op in ops:
        assert (graph.count(op) > 0) == fires, op


def test_shapes_of_a_batch_of_any_size_stay_on_the_host():
    w = tf.constant(np.eye(3, dtype="float32") * 0.7 - 0.2)
    _check_gradient(lambda i, y, w: tf.tanh(y @ w + (y @ w) @ w), w, fires=True)
    _check_gradient(lambda i, y, w: tf.tanh(y @ w + tf.reduce_mean(y @ w, 1, True)), w, fires=True)


EYE = tf.constant(np.eye(3, dtype="float32"))


def test_numbers_of_the_host_stay_there():
    _check_gradient(lambda i, y, w: tf.tanh(y) * w[i % 3], EYE, fires=True)


def test_must_not_fire_on_numbers_of_the_device():
    def function(x):
        def body(i, y):
            rows = tf.cast(tf.minimum(tf.abs(y) * 2, 5.0), tf.int32)
            return i + 1, y + tf.gather(x, rows)

        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.while_loop(lambda i, _: i < STEPS, body, [0, x])[1])
        return tape.gradient(loss, x)

    plain, _ = rewriting.run(function, X, passes="none")
    result, graph = rewriting.run(function, X, passes="lists")
    np.testing.assert_array_equal(result, plain)
    ops = {node.name: node.op for node in graph.after.node}
    boxed = [node.input[0] for node in graph.after.node if node.op == "_MetalBoxNumbers"]
    assert {ops[name.split(":")[0]] for name in boxed} <= {"Shape"}


def test_numbers_of_any_size():
    """Steps count from below zero, and further than 16 bits."""

    def function(x, start):
        def body(i, y):
            return i + 40_000, y * tf.gather(x, tf.abs(i) // 40_000 % 3)

        with tf.GradientTape() as tape:
            tape.watch(x)
            _, y = tf.while_loop(lambda i, _: i < 100_000, body, [start, tf.constant(1.0)])
        return tape.gradient(y, x)

    x = tf.constant([1.5, -2.0, 0.5])
    result, graph = rewriting.run(function, x, tf.constant(-120_001), passes="lists")
    assert graph.count("_MetalUnboxNumbers") > 0
    with tf.device("CPU:0"):
        np.testing.assert_allclose(result, tf.function(function)(x, tf.constant(-120_001)))


def test_masks_are_kept_as_numbers():
    _check_gradient(
        lambda i, y, w: tf.where(y > 0.1, tf.tanh(y @ w), y * 0.5), EYE, fires=True, ops=["Cast"]
    )


def test_lists_of_masks():
    """Read, written, and stacked behind the loop."""

    def function(x):
        masks = tf.TensorArray(tf.bool, STEPS).unstack(tf.tile(x > 0, [5])[:STEPS])
        kept = tf.TensorArray(tf.bool, STEPS, element_shape=[])

        def body(i, kept, y):
            mask = masks.read(i)
            return i + 1, kept.write(i, mask & (y > 0)), tf.where(mask, y + 1, y - 2)

        _, kept, y = tf.while_loop(lambda i, *_: i < STEPS, body, [0, kept, tf.constant(0.0)])
        return kept.stack(), y

    def waits(passes):
        with rewriting.environment(TF_METAL_GRAPPLER=passes):
            fresh = tf.function(function, autograph=False)
            with tf.device(f"{spine.device_type()}:0"):
                result = fresh(X)
                reset_stats()
                fresh(X)
        return result, stats()["sync_dtoh"]

    (fused, few), (plain, many) = waits("all"), waits("-lists")
    assert few < STEPS <= many
    with tf.device("CPU:0"):
        expected = function(X)
    for got, same, cpu in zip(fused, plain, expected, strict=True):
        np.testing.assert_array_equal(got, same)
        np.testing.assert_array_equal(got, cpu)


def test_must_not_fire_on_lists_that_are_joined():
    def function(x):
        masks = tf.TensorArray(tf.bool, 6, infer_shape=False).unstack(x[:, None] > 0)
        return masks.concat()

    result, graph = rewriting.run(function, X, passes="lists")
    np.testing.assert_array_equal(result, X > 0)
    assert graph.count("Cast") == 0


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.LSTM(5, use_cudnn=False),
        lambda: keras.layers.GRU(5, use_cudnn=False),
        lambda: keras.layers.SimpleRNN(5),
        lambda: keras.layers.LSTM(5, recurrent_dropout=0.3, activation="relu"),
        lambda: keras.layers.LSTM(5, use_cudnn=False, implementation=1),
        lambda: keras.layers.GRU(5, reset_after=False),
    ],
    ids=["lstm", "gru", "simple", "lstm_dropout", "gate_by_gate", "reset_before"],
)
@pytest.mark.parametrize("below", ["input", "layer", "mask"])
def test_recurrent_layers_train_without_a_wait_per_step(layer, below):
    """Whose input is data, or another layer, which needs a gradient, or partly hidden."""
    keras.utils.set_random_seed(1)
    layers = {
        "input": [],
        "layer": [keras.layers.Dense(3)],
        "mask": [keras.layers.Dense(3), keras.layers.Masking(0.1)],
    }
    model = keras.Sequential(
        [keras.Input((STEPS, 3)), *layers[below], layer(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((8, STEPS, 3)).astype("float32")
    y = x[:, 0, :1]
    model.fit(x, y, epochs=1, verbose=0)
    reset_stats()
    model.fit(x, y, epochs=1, verbose=0)
    counts = stats()
    assert counts["sync_dtoh"] + counts["sync_op"] < STEPS / 2, counts  # reading the loss is one
