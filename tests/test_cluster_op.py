"""The kernel of ``_MetalCluster``: many ops, few dispatches, the same numbers.

Every op of the table also runs in a cluster of its own: tests/test_ops.py, test_value.
"""

import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import memory_info, reset_memory_stats, reset_stats, stats
from tests import clusters, spine


def _random(*shape, dtype="float32", seed=0):
    rng = np.random.default_rng([seed, *shape])
    return tf.constant(rng.standard_normal(shape).astype("float32"), dtype)


def _on_device(function, args, host=(), open_shapes=False):
    with tf.device(f"/{spine.device_type()}:0"):
        before = [tf.identity(x) for x in args]
        reset_stats()
        results = clusters.run(function, before, host, open_shapes)
    for y in results:
        assert spine.device_type() in y.device
    return [y.numpy() for y in results]


def _ops_one_by_one(function, args):
    with tf.device(f"/{spine.device_type()}:0"):
        return [y.numpy() for y in tf.nest.flatten(function(*args))]


def _assert_same(function, args, host=()):
    """The cluster gives bit for bit what its ops give."""
    actual = _on_device(function, args, host)
    expected = _ops_one_by_one(function, [*host, *args])
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        np.testing.assert_array_equal(a.view(f"V{a.itemsize}"), e.view(f"V{e.itemsize}"))
    return actual


def _dense(x, w, b):
    y = tf.nn.relu(tf.nn.bias_add(x @ w, b))
    return y * tf.sigmoid(y) / tf.reduce_sum(tf.exp(y), -1, keepdims=True)


@pytest.mark.parametrize("dtype", spine.FLOATS)
def test_graph_ops_are_one_dispatch(dtype):
    args = [_random(8, 16, dtype=dtype), _random(16, 32, dtype=dtype), _random(32, dtype=dtype)]
    _on_device(_dense, args)
    assert stats()["encodes"] == 1
    _assert_same(_dense, args)


def test_native_ops_split_the_executables():
    def function(x, indices):
        y = tf.exp(x) * 0.5
        z = tf.gather(y, indices) + 1.0
        return tf.gather(tf.tanh(z), indices), z, tf.sqrt(y)

    args = [_random(6, 5), tf.constant([3, 0, 0, 5, 1], tf.int64)]
    _assert_same(function, args)
    _on_device(function, args)
    assert stats()["encodes"] == 4  # exp and sqrt, gather, the rest, gather


def test_executables_wait_for_what_they_can_join():
    def function(x, steps):
        return tf.exp(x) * 0.5 + tf.cast(steps + 1, tf.float32)

    args = [_random(6, 5), tf.constant(3, tf.int64)]
    _assert_same(function, args)
    _on_device(function, args)
    assert stats()["encodes"] == 3  # the sum and the cast, native; one executable


def test_constants_of_native_ops():
    def function(x):
        return tf.gather(tf.abs(x), tf.constant([2, 1], tf.int64))

    _assert_same(function, [_random(4, 3)])


def test_result_may_be_read_inside_too():
    def function(x):
        y = tf.exp(x)
        return y, tf.reduce_sum(y), y + y

    _assert_same(function, [_random(7)])


def test_aliases():
    def function(x):
        y = tf.reshape(tf.identity(x), [3, -1])
        return tf.squeeze(tf.expand_dims(tf.stop_gradient(y), 0), [0]) + 1.0, y

    _assert_same(function, [_random(2, 6)])


def test_host_inputs_are_part_of_the_plan():
    def function(shape, x):
        return tf.reshape(x * 2.0, shape)

    for shape in ([6, 2], [3, 4], [12], [2, 2, 3]):
        _assert_same(function, [_random(12)], [tf.constant(shape)])


def test_shape_arithmetic_runs_on_the_host():
    """A mean over a batch of unknown size and its gradient ask for shapes."""

    def function(x, b):
        with tf.GradientTape() as tape:
            tape.watch([x, b])
            shape = tf.shape(x)
            rows = tf.reshape(x, [shape[0] * shape[1], tf.size(b)]) + b
            y = tf.reduce_mean(tf.square(rows)) + tf.reduce_sum(x * b)
        return tape.gradient(y, [x, b])

    for shape in ((2, 3, 4), (5, 1, 4), (1, 1, 4)):
        args = [_random(*shape), _random(4)]
        actual = _on_device(function, args, open_shapes=True)
        assert stats()["sync_op"] == 0
        with tf.device("/CPU:0"):
            expected = function(*args)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


_SHAPES = [((2, 3), (3,)), ((2, 3), (2, 3)), ((1, 3), (1, 1)), ((4, 1, 3), (2, 1)), ((), (2,))]


@pytest.mark.parametrize(("a", "b"), _SHAPES)
def test_shape_arithmetic_equals_tensorflows(a, b):
    """Each op that the cluster evaluates itself; the answers leave as float32."""

    def function(x, y):
        raw = tf.raw_ops
        s, t = tf.shape(x), tf.shape(y)
        both = tf.concat([s, t, [7, 3]], 0)
        axes = raw.BroadcastGradientArgs(s0=s, s1=t)
        results = [
            *axes, both, both[1:], both[::-1], both[-1], tf.stack([both, both], 1),
            tf.concat([tf.stack([both, both]), tf.stack([both, both])], 1),
            tf.gather(both, [1, 0]), tf.reduce_prod(both), tf.reduce_max(both),
            tf.reduce_sum(tf.stack([both, both], 1), 1), tf.size(x) // 2, (1 - tf.size(x)) // 4,
            (both - 5) % 3, tf.maximum(both, 2), tf.minimum(both, 2), both[:, None] * both,
            tf.range(tf.rank(x), 9, 2), raw.InvertPermutation(x=tf.range(tf.size(x))),
            tf.squeeze(tf.expand_dims(both, 0), [0]), *tf.shape_n([x, y]),
        ]  # fmt: skip
        return [tf.cast(r, tf.float32) for r in results]

    args = [_random(*a), _random(*b)]
    actual = _on_device(function, args, open_shapes=True)
    with tf.device("/CPU:0"):
        expected = function(*args)
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty(shape):
    def function(x):
        y = tf.exp(x) + 1.0
        return (
            tf.reduce_sum(y, 0),
            tf.reduce_max(y * 2.0),
            tf.transpose(y),
            y @ tf.ones([shape[1], 2]),
        )

    _assert_same(function, [_random(*shape)])


def test_shapes_that_change_all_the_time():
    """After a while a cluster compiles nothing more for each shape as a whole, and is right."""

    def function(x):
        return tf.exp(x) * 2.0 + 1.0

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        y = function(x)
    attr = clusters.serialized(graph, [x], [y])
    encodes = []
    for n in range(1, 40):
        with tf.device(f"/{spine.device_type()}:0"):
            value = tf.identity(_random(n))
            reset_stats()
            (result,) = clusters.execute_graph(attr, [], [value], [1])
            encodes.append(stats()["encodes"])
            np.testing.assert_array_equal(result, function(value))
    assert encodes[0] == 1
    assert encodes[-1] == 3  # op by op


def test_complex_members():
    def function(x):
        z = tf.complex(x, x * 2.0)
        return tf.math.real(z * z), tf.reshape(z, [-1])

    _assert_same(function, [_random(3, 4)])


def test_errors_name_the_member_and_have_tensorflows_class():
    def function(shape, x):
        return tf.reshape(x + 1.0, shape, name="to_rows")

    with pytest.raises(tf.errors.InvalidArgumentError, match="to_rows"):
        _on_device(function, [_random(12)], [tf.constant([5, 5])])


@pytest.mark.parametrize(
    ("graph", "message"),
    [(b"", "a result is missing"), (b"\xff\xff", "Protocol buffer")],
)
def test_broken_graphs(graph, message):
    with (
        tf.device(f"/{spine.device_type()}:0"),
        pytest.raises(tf.errors.InvalidArgumentError, match=message),
    ):
        clusters.execute_graph(graph, [], [_random(2)], [1])


def test_temporary_memory_is_given_back():
    def function(x):
        for _ in range(6):
            x = tf.gather(tf.exp(-tf.abs(x)), tf.range(64, dtype=tf.int64))
        return x

    args = [_random(64, 4096)]
    _assert_same(function, args)
    size = 64 * 4096 * 4
    in_use = memory_info()["current"]
    reset_memory_stats()
    _on_device(function, args)
    assert memory_info()["peak"] - in_use < 6 * size  # of 12 intermediate results


def test_same_layer_twice_is_one_executable():
    def function(x, w):
        return tf.nn.relu(x @ w)

    args = [_random(5, 7), _random(7, 3)]
    _on_device(function, args)

    def renamed(x, w):
        with tf.name_scope("another"):
            return tf.nn.relu(x @ w)

    _on_device(renamed, args)
    assert stats()["compiles"] == 0
