"""Whatever a program does: a right answer or TensorFlow's error, never an abort or a hang."""

import threading

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from benchmarks import memory
from tests import spine

DEVICE = f"/{spine.device_type()}:0"


def test_a_thousand_shapes_compile_once_each():
    before = metal.stats()
    with tf.device(DEVICE):
        w = tf.constant(np.eye(8, dtype=np.float32))
        for _ in range(2):
            for n in range(1, 1001):
                x = tf.fill((n, 8), float(n))
                assert float(tf.reduce_max(tf.matmul(x, w))) == n
    after = metal.stats()
    assert after["compiles"] - before["compiles"] <= 3 * 1000 + 10


def test_slices_in_a_loop_compile_once():
    with tf.device(DEVICE):
        x = tf.reshape(tf.range(4000, dtype=tf.float32), (4, 1000))
        x[:, 0:3].numpy()
        before = metal.stats()["compiles"]
        for t in range(200):
            np.testing.assert_array_equal(x[:, t : t + 3], x.numpy()[:, t : t + 3])
    assert metal.stats()["compiles"] == before


def test_elementwise_shapes_of_one_size_share_a_plan():
    with tf.device(DEVICE):
        tf.exp(tf.ones((24,))).numpy()
        before = metal.stats()["compiles"]
        for shape in [(2, 12), (4, 6), (2, 3, 4), (24, 1)]:
            assert tf.exp(tf.fill(shape, 1.0)).shape == shape
        # Fill is compiled per shape, Exp is not.
        assert metal.stats()["compiles"] - before <= 4


def test_beyond_metals_limits_is_resource_exhausted():
    with tf.device(DEVICE), pytest.raises(tf.errors.ResourceExhaustedError, match="BroadcastTo"):
        tf.raw_ops.BroadcastTo(input=tf.constant([True]), shape=tf.constant([2**31]))

    too_large = pytest.raises(tf.errors.ResourceExhaustedError, match="4294967296 bytes")
    with tf.device(DEVICE), too_large:
        tf.raw_ops.BroadcastTo(input=tf.constant([1.0]), shape=tf.constant([2**30 + 1]))


def test_more_memory_than_there_is():
    limit = metal.memory_info()["limit"]
    with tf.device(DEVICE), pytest.raises(tf.errors.ResourceExhaustedError):
        tf.zeros((limit // 4 + 1,)) + 1.0
    with tf.device(DEVICE):  # and life goes on
        assert float(tf.reduce_sum(tf.ones((10,)))) == 10


def test_rank_above_mpsgraphs():
    x = np.arange(2**5, dtype=np.float32).reshape((1,) * 13 + (2,) * 5)
    with tf.device(DEVICE):
        np.testing.assert_array_equal(tf.constant(x) + 1, x + 1)
        with pytest.raises(tf.errors.OpError):
            tf.transpose(tf.constant(x))


def test_eight_threads():
    errors = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            with tf.device(DEVICE):
                for _ in range(60):
                    a = rng.standard_normal((rng.integers(1, 40), 16)).astype(np.float32)
                    b = rng.standard_normal((16, 8)).astype(np.float32)
                    y = tf.nn.relu(tf.matmul(a, b)) + 1.0
                    np.testing.assert_allclose(y, np.maximum(a @ b, 0) + 1, rtol=1e-4, atol=1e-5)
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=120)
    assert not any(t.is_alive() for t in threads)
    assert not errors, errors[0]


def test_resident_memory_stays_flat():
    """A short form of benchmarks/memory.py."""
    assert memory.growth(steps=3000, warm=1500) <= memory.LIMIT


@pytest.mark.parametrize("macos", ["14.0", "15.0", "26.0"])
def test_pointers_into_tensors(run_python, macos):
    """Rows of a tensor list are views. MPSGraph reads from an offset since macOS 15 only."""
    code = f"""
import numpy as np, tensorflow as tf
x = np.arange(64, dtype=np.float32).reshape(4, 16) / 10
R = tf.raw_ops
with tf.device({DEVICE!r}):
    rows = R.TensorListFromTensor(tensor=tf.constant(x), element_shape=[16])
    def row(i):
        return R.TensorListGetItem(
            input_handle=rows, index=i, element_shape=[16], element_dtype=tf.float32)
    for i in range(4):
        np.testing.assert_allclose(tf.exp(row(i)), np.exp(x[i]), rtol=1e-6)
        np.testing.assert_array_equal(row(i)[2:5], x[i, 2:5])
        np.testing.assert_array_equal(R.Add(x=row(i), y=row(3)), x[i] + x[3])
    half = x[:, :5].astype(np.float16)  # rows begin where no blit can
    rows = R.TensorListFromTensor(tensor=tf.constant(half), element_shape=[5])
    for i in range(4):
        row = R.TensorListGetItem(
            input_handle=rows, index=i, element_shape=[5], element_dtype=tf.float16)
        np.testing.assert_array_equal(tf.abs(row), half[i])
        np.testing.assert_array_equal(tf.identity(row) * tf.constant(2, tf.float16), half[i] * 2)
print("right")
"""
    assert "right" in run_python(code, env={"TF_METAL_HOST_MACOS": macos}).stdout


def test_fork_after_initialisation(run_python):
    """The child of a fork may not use TensorFlow, but it must be able to exit."""
    code = f"""
import os, sys
import tensorflow as tf
with tf.device({DEVICE!r}):
    x = tf.ones((100, 100))
    y = tf.matmul(x, x)
pid = os.fork()
if pid == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
import subprocess
assert subprocess.run([sys.executable, "-c", "print(1)"]).returncode == 0
print(float(tf.reduce_sum(y)))
"""
    assert "1000000.0" in run_python(code).stdout


def test_exit_with_work_in_flight(run_python):
    code = f"""
import tensorflow as tf
with tf.device({DEVICE!r}):
    x = tf.ones((300, 300))
    for _ in range(50):
        x = tf.matmul(x, x) * 1e-3
print("left")
"""
    assert "left" in run_python(code).stdout
