"""TensorLists and TensorArrays on the device: TensorFlow's own kernels on our memory, against the
CPU, in loops and with gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tests import spine

R = tf.raw_ops
FLOATS = ["float32", "float16", "bfloat16"]
DTYPES = [*FLOATS, "int32", "bool", "int64"]


def _values(dtype: str, *shape: int) -> tf.Tensor:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2 if dtype == "bool" else 9, shape)
    with tf.device("/CPU:0"):
        return tf.cast(tf.constant(values), dtype)


def _same(run, *args) -> None:
    """Runs on the CPU and on the device, eagerly and as a function."""
    with tf.device("/CPU:0"):
        expected = [y.numpy() for y in tf.nest.flatten(run(*args))]
    with tf.device(f"/{spine.device_type()}:0"):
        for f in (run, tf.function(run, autograph=False)):
            actual = [y.numpy() for y in tf.nest.flatten(f(*args))]
            for a, e in zip(actual, expected, strict=True):
                assert a.dtype == e.dtype
                np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_list_op(dtype):
    def run(x):
        shape = tf.constant(x.shape[1:].as_list())
        made = R.TensorListReserve(element_shape=shape, num_elements=3, element_dtype=x.dtype)
        made = R.TensorListSetItem(input_handle=made, index=1, item=x[1])
        read = R.TensorListGetItem(
            input_handle=made, index=0, element_shape=shape, element_dtype=x.dtype
        )  # never written: zeros
        stacked = R.TensorListStack(input_handle=made, element_shape=shape, element_dtype=x.dtype)
        of = R.TensorListFromTensor(tensor=x, element_shape=shape)
        pushed = R.TensorListPushBack(input_handle=of, tensor=x[0])
        popped, top = R.TensorListPopBack(
            input_handle=pushed, element_shape=shape, element_dtype=x.dtype
        )
        chosen = R.TensorListGather(
            input_handle=popped, indices=[2, 0, 2], element_shape=shape, element_dtype=x.dtype
        )
        scattered = R.TensorListScatterV2(
            tensor=x, indices=[3, 1, 0, 2], element_shape=shape, num_elements=-1
        )
        joined = R.TensorListConcatLists(input_a=of, input_b=scattered, element_dtype=x.dtype)
        longer = R.TensorListResize(input_handle=joined, size=9)
        return [
            read,
            stacked,
            top,
            chosen,
            R.TensorListStack(input_handle=longer, element_shape=shape, element_dtype=x.dtype),
            R.TensorListLength(input_handle=longer),
            R.TensorListElementShape(input_handle=of, shape_type=tf.int32),
        ]

    _same(run, _values(dtype, 4, 3, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_split_and_concat(dtype):
    def run(x):
        pieces = R.TensorListSplit(tensor=x, element_shape=[-1, 2], lengths=[2, 0, 3])
        return R.TensorListConcatV2(
            input_handle=pieces, element_shape=[-1, 2], leading_dims=[], element_dtype=x.dtype
        )

    _same(run, _values(dtype, 5, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_array_in_a_loop(dtype):
    def run(x):
        n = x.shape[0]
        array = tf.TensorArray(x.dtype, n, element_shape=x.shape[1:]).unstack(x)
        out = tf.TensorArray(x.dtype, n, element_shape=x.shape[1:])
        _, out = tf.while_loop(
            lambda i, _: i < n,
            lambda i, out: (i + 1, out.write(i, array.read(n - 1 - i))),
            (0, out),
        )
        return out.stack(), out.gather([1, 0]), out.concat()

    _same(run, _values(dtype, 6, 3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_a_loop(dtype):
    """A recurrence that reads and writes arrays: lists are summed up and start from zeros."""

    def run(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            n = x.shape[0]
            array = tf.TensorArray(x.dtype, n, element_shape=x.shape[1:]).unstack(x)
            out = tf.TensorArray(x.dtype, n, element_shape=x.shape[1:], clear_after_read=False)

            def body(i, h, out):
                h = h * w + array.read(i) * array.read(n - 1 - i)
                return i + 1, h, out.write(i, h)

            _, h, out = tf.while_loop(lambda i, *_: i < n, body, (0, tf.zeros_like(x[0]), out))
            loss = tf.reduce_sum(out.stack() * x) + tf.reduce_sum(h)
        return tape.gradient(loss, [x, w])

    x = _values(dtype, 4, 3) / 4
    w = _values(dtype, 3) / 8
    with tf.device("/CPU:0"):
        expected = [
            g.numpy()
            for g in tf.function(run, autograph=False)(*(tf.cast(t, tf.float32) for t in (x, w)))
        ]
    with tf.device(f"/{spine.device_type()}:0"):
        actual = [g.numpy() for g in tf.function(run, autograph=False)(x, w)]
    rtol = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2}[dtype]
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a.astype("f4"), e, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", FLOATS)
def test_dynamic_array_and_map(dtype):
    def run(x):
        array = tf.TensorArray(x.dtype, 0, dynamic_size=True, infer_shape=False)
        _, array = tf.while_loop(
            lambda i, _: i < 5, lambda i, a: (i + 1, a.write(i, x[: i + 1])), (0, array)
        )
        return array.concat(), tf.map_fn(lambda row: row + row, x), tf.scan(lambda a, b: a + b, x)

    _same(run, _values(dtype, 6))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint64"])
def test_inplace_sums(dtype):
    """Rows of a copy; the CPU kernel would change its input."""
    x, v = _values(dtype, 4, 2), _values(dtype, 3, 2)
    sign = {R.InplaceAdd: 1, R.InplaceSub: -1}
    for op, factor in sign.items():
        expected = x.numpy()
        for row, values in zip([1, 3, 1], v.numpy(), strict=True):
            expected[row] = expected[row] + values if factor > 0 else expected[row] - values
        with tf.device(f"/{spine.device_type()}:0"):
            given = tf.identity(x)
            np.testing.assert_array_equal(op(x=given, i=[1, 3, 1], v=v), expected)
            np.testing.assert_array_equal(given, x)
