"""Arithmetic with 16 bits: sums in float32, rounding to nearest even, TensorFlow's conversions and
overflow."""

import numpy as np
import pytest
import tensorflow as tf

from tests import spine

GPU, CPU = f"/{spine.device_type()}:0", "/CPU:0"
both = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])

# Counted up in float16, ones stop at 2048; in bfloat16 at 256. The number itself is in both.
MANY = 8192


def ones(*shape, dtype):
    return tf.ones(shape, dtype)


# Each adds up MANY ones: (what to compute, the result).
SUMS = {
    "MatMul": (lambda d: tf.matmul(ones(1, MANY, dtype=d), ones(MANY, 1, dtype=d)), MANY),
    "BatchMatMulV2": (
        lambda d: tf.matmul(ones(2, 1, MANY, dtype=d), ones(2, MANY, 1, dtype=d)),
        MANY,
    ),
    "Einsum": (lambda d: tf.einsum("ab,ab->", *[ones(64, 128, dtype=d)] * 2), MANY),
    "Conv2D": (
        lambda d: tf.nn.conv2d(
            ones(1, 16, 16, 32, dtype=d), ones(16, 16, 32, 1, dtype=d), 1, "VALID"
        ),
        MANY,
    ),
    "Conv2DBackpropInput": (
        lambda d: tf.nn.conv2d_transpose(
            ones(1, 1, 1, MANY, dtype=d), ones(1, 1, 1, MANY, dtype=d), (1, 1, 1, 1), 1
        ),
        MANY,
    ),
    "Conv2DBackpropFilter": (
        lambda d: tf.raw_ops.Conv2DBackpropFilter(
            input=ones(2, 64, 64, 1, dtype=d),
            filter_sizes=[1, 1, 1, 1],
            out_backprop=ones(2, 64, 64, 1, dtype=d),
            strides=[1, 1, 1, 1],
            padding="VALID",
        ),
        MANY,
    ),
    "Conv3D": (
        lambda d: tf.nn.conv3d(
            ones(1, 8, 8, 8, 16, dtype=d), ones(8, 8, 8, 16, 1, dtype=d), [1] * 5, "VALID"
        ),
        MANY,
    ),
    "DepthwiseConv2dNative": (
        lambda d: tf.nn.depthwise_conv2d(
            ones(1, 64, 128, 1, dtype=d), ones(64, 128, 1, 1, dtype=d), [1] * 4, "VALID"
        ),
        MANY,
    ),
    "Sum": (lambda d: tf.reduce_sum(ones(2, MANY, dtype=d), 1), MANY),
    "Mean": (lambda d: tf.reduce_mean(ones(2, MANY, dtype=d), 1), 1),
    "L2Loss": (lambda d: tf.nn.l2_loss(ones(2, MANY, dtype=d)), MANY),
    "BiasAddGrad": (lambda d: tf.raw_ops.BiasAddGrad(out_backprop=ones(MANY, 3, dtype=d)), MANY),
    "AvgPool": (lambda d: tf.nn.avg_pool2d(ones(1, 64, 128, 1, dtype=d), (64, 128), 1, "VALID"), 1),
    "UnsortedSegmentSum": (
        lambda d: tf.math.unsorted_segment_sum(
            ones(MANY, dtype=d), tf.zeros(MANY, tf.int64), num_segments=1
        ),
        MANY,
    ),
    "Softmax": (lambda d: tf.nn.softmax(ones(2, MANY, dtype=d)), 1 / MANY),
    "LogSoftmax": (lambda d: tf.nn.log_softmax(ones(2, MANY, dtype=d)), -np.log(MANY)),
    "FusedBatchNormV3": (
        lambda d: tf.compat.v1.nn.fused_batch_norm(
            ones(2, 64, 64, 1, dtype=d), tf.ones(1), tf.ones(1)
        )[1],
        1,
    ),
    "LayerNormalization": (
        lambda d: tf.keras.layers.LayerNormalization(dtype=d)(ones(2, MANY, dtype=d)),
        0,
    ),
}


@both
@pytest.mark.parametrize("name", SUMS)
def test_sums_are_in_float32(name, dtype):
    function, expected = SUMS[name]
    with tf.device(GPU):  # not in a tf.function: TensorFlow would fold it, on the CPU
        result = function(dtype)
    assert result.device.endswith(GPU[1:])
    got, expected = tf.cast(result, tf.float32).numpy(), tf.cast(expected, result.dtype)
    np.testing.assert_array_equal(got, np.full(got.shape, tf.cast(expected, tf.float32)))


def cast(values, dtype, device):
    with tf.device(device):
        return tf.cast(tf.identity(values), dtype).numpy()


def assert_same_bits(got, wanted):
    assert got.dtype == wanted.dtype
    numbers = ~np.isnan(wanted.astype(np.float32))
    assert np.array_equal(np.isnan(got.astype(np.float32)), ~numbers)
    assert got[numbers].tobytes() == wanted[numbers].tobytes()


def every(dtype):
    """All 65536 numbers of a 16-bit type."""
    return tf.bitcast(tf.constant(np.arange(2**16, dtype=np.uint16)), dtype)


@both
@pytest.mark.parametrize("to", ["float32", "float16", "bfloat16"])
def test_every_number_converts_as_on_the_cpu(dtype, to):
    assert_same_bits(cast(every(dtype), to, GPU), cast(every(dtype), to, CPU))


@both
def test_float32_rounds_as_on_the_cpu(dtype):
    """Every number of the type, what lies halfway to the next, and next to that; and anything."""
    numbers = every(dtype)
    exact = tf.cast(numbers, tf.float32).numpy()
    bits = exact.view(np.uint32)
    half = np.uint32(1 << (12 if dtype == "float16" else 15))
    near = [bits, bits + half, bits + half - 1, bits + half + 1]
    anything = np.random.default_rng(0).integers(0, 2**32, 2**18, dtype=np.uint32)
    values = tf.constant(np.concatenate([*near, anything]).view(np.float32))
    assert_same_bits(cast(values, dtype, GPU), cast(values, dtype, CPU))


@both
@pytest.mark.parametrize(
    "op", [tf.add, tf.subtract, tf.multiply, tf.divide], ids=lambda f: f.__name__
)
def test_arithmetic_rounds_to_nearest_even(op, dtype):
    rng = np.random.default_rng(0)
    bits = [tf.constant(rng.integers(0, 2**16, 2**16, dtype=np.uint16)) for _ in "ab"]
    results = []
    for device in (GPU, CPU):
        with tf.device(device):
            results.append(op(*[tf.bitcast(x, dtype) for x in bits]).numpy())
    assert_same_bits(*results)
    with tf.device(GPU):  # halfway between two numbers: the even one
        one = {"float16": 2048, "bfloat16": 256}[dtype]
        sums = tf.constant(one, dtype) + tf.constant([1, 3], dtype)
    assert tf.cast(sums, tf.float32).numpy().tolist() == [one, one + 4]


OVERFLOWS = {
    "AddV2": lambda x: x + x,
    "Mul": lambda x: x * x,
    "Exp": lambda x: tf.exp(x / 1000),
    "MatMul": lambda x: tf.matmul(x[None], x[:, None]),
    "Sum": lambda x: tf.reduce_sum(x),
    "Conv2D": lambda x: tf.nn.conv2d(x[None, None, :, None], x[None, :, None, None], 1, "VALID"),
    "Cast": lambda x: tf.cast(tf.cast(x, tf.float32) * 2, tf.float16),
    "Square": tf.square,
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_overflow_is_infinite(name):
    x = tf.constant([40000, 65504, 60000], tf.float16)
    for values in (x, -x):
        results = []
        for device in (GPU, CPU):
            with tf.device(device):
                results.append(OVERFLOWS[name](tf.identity(values)).numpy())
        assert np.array_equal(*results)
        if name != "Exp" or values is x:
            assert np.isinf(results[0]).all()


def test_the_largest_number_is_not_infinite():
    values = tf.constant([65504, 65519, 65520, -65519, -65520], tf.float32)
    assert cast(values, "float16", GPU).tolist() == [65504, 65504, np.inf, -65504, -np.inf]


@both
def test_uniform_numbers_stay_below_one(dtype):
    """As they would not if they were rounded from float32."""
    shape = (2**20,)
    with tf.device(GPU):
        drawn = [
            tf.random.stateless_uniform(shape, seed=[1, 2], dtype=dtype),
            tf.random.uniform(shape, dtype=dtype),
        ]
    largest = {"float16": 1 - 2.0**-10, "bfloat16": 1 - 2.0**-7}[dtype]
    for numbers in drawn:
        values = tf.cast(numbers, tf.float32).numpy()
        assert values.min() == 0 and values.max() == largest
