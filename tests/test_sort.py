"""Sorting where TensorFlow's CPU kernel has no order of its own, and what is built on it."""

import numpy as np
import pytest
import tensorflow as tf

from tests import spine


@pytest.fixture(autouse=True)
def on_device():
    with tf.device(f"/{spine.device_type()}:0"):
        yield


@pytest.mark.parametrize("dtype", spine.FLOATS)
@pytest.mark.parametrize("n, k", [(50, 50), (50, 3), (1000, 1000), (1000, 40), (20_000, 20)])
def test_nan_is_larger_than_numbers(n, k, dtype):
    rng = np.random.default_rng(0)
    x = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -1.5], n)
    rank = np.where(np.isnan(x), 0, np.where(np.isposinf(x), 1, 9 - np.nan_to_num(x, neginf=-9)))
    expected = np.argsort(rank, kind="stable")[:k]
    values, indices = tf.math.top_k(tf.cast(x, dtype), k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(tf.cast(values, tf.float64), x[expected])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int8", "uint16"])
@pytest.mark.parametrize("direction", ["ASCENDING", "DESCENDING"])
@pytest.mark.parametrize("axis", [0, -1])
def test_sort_and_argsort(dtype, direction, axis):
    x = np.random.default_rng(0).integers(0, 50, (300, 7)).astype(dtype)
    expected = np.sort(x, axis)
    if direction == "DESCENDING":
        expected = np.flip(expected, axis)
    np.testing.assert_array_equal(tf.sort(x, axis, direction), expected)
    order = tf.argsort(x, axis, direction, stable=True)
    np.testing.assert_array_equal(np.take_along_axis(x, order.numpy(), axis), expected)
