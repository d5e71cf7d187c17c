"""The graph passes "host_predicates" and "shape_stacks": no step of a loop waits for the device."""

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


def _check_gradient(body, w, fires):
    x = tf.constant(np.random.default_rng(0).standard_normal((4, 3)), tf.float32)

    def on_device():
        with tf.device(f"{spine.device_type()}:0"):
            return _gradient_of_loop(body, w)(x)

    plain, _ = rewriting.recorded(on_device, "none")
    result, graphs = rewriting.recorded(on_device, "shape_stacks")
    (graph,) = (calls[-1] for calls in graphs)
    np.testing.assert_array_equal(result, plain)
    with tf.device("CPU:0"):
        np.testing.assert_allclose(result, _gradient_of_loop(body, w)(x), rtol=1e-4, atol=1e-6)
    for op in ("_MetalBoxShape", "_MetalUnboxShape"):
        assert (graph.count(op) > 0) == fires, op


def test_shapes_of_a_batch_of_any_size_stay_on_the_host():
    w = tf.constant(np.eye(3, dtype="float32") * 0.7 - 0.2)
    _check_gradient(lambda i, y, w: tf.tanh(y @ w + (y @ w) @ w), w, fires=True)
    _check_gradient(lambda i, y, w: tf.tanh(y @ w + tf.reduce_mean(y @ w, 1, True)), w, fires=True)


def test_must_not_fire_on_stacked_numbers():
    """Indices are pushed as well: they are values, not shapes."""
    _check_gradient(
        lambda i, y, w: tf.tanh(y) + tf.gather(w, tf.zeros([1], tf.int32) + i % 3),
        tf.constant(np.eye(3, dtype="float32")),
        fires=False,
    )


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.LSTM(5, use_cudnn=False),
        lambda: keras.layers.GRU(5, use_cudnn=False),
        lambda: keras.layers.SimpleRNN(5),
        lambda: keras.layers.LSTM(5, recurrent_dropout=0.3, activation="relu"),
    ],
    ids=["lstm", "gru", "simple", "lstm_dropout"],
)
def test_recurrent_layers_train_without_a_wait_per_step(layer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((STEPS, 3)), layer(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((8, STEPS, 3)).astype("float32")
    y = x[:, 0, :1]
    model.fit(x, y, epochs=1, verbose=0)
    reset_stats()
    model.fit(x, y, epochs=1, verbose=0)
    counts = stats()
    assert counts["sync_dtoh"] + counts["sync_op"] < STEPS / 2, counts  # reading the loss is one
