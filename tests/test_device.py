"""The device layer with TensorFlow on top: copies, ordering, errors, memory, threads, processes."""

import concurrent.futures
import contextlib
import os
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tests import spine

linux_only = pytest.mark.skipif(sys.platform == "darwin", reason="needs the simulated device")

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"]

# Some steps of training with all that crosses streams: batches go in, losses come out, variables
# change in place.
TRAINING = """
import hashlib
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
with tf.device("/GPU:0"):
    w = tf.Variable(rng.normal(size=(64, 64)).astype("f") / 8)
    b = tf.Variable(np.zeros(64, "f"))

    @tf.function
    def step(x):
        y = x
        for _ in range(4):
            y = tf.tanh(tf.matmul(y, w) + b)
        w.assign_sub(0.01 * tf.matmul(x, y, transpose_a=True))
        b.assign_add(0.1 * tf.reduce_mean(y, 0))
        return tf.reduce_sum(y * y)

    digest = hashlib.sha256()
    for i in range(12):
        x = tf.constant(rng.normal(size=(16, 64)).astype("f"))
        digest.update(step(x).numpy().tobytes())
        digest.update((x + float(i)).numpy().tobytes())
    digest.update(w.numpy().tobytes() + b.numpy().tobytes())
print("digest", digest.hexdigest())
"""


def gpu(index: int = 0) -> str:
    return f"/{spine.device_type()}:{index}"


@contextlib.contextmanager
def planted_failure(label: str):
    """The next command buffer with an encoder whose label contains this fails."""
    os.environ["TF_METAL_HOST_FAIL"] = label
    try:
        yield
    finally:
        del os.environ["TF_METAL_HOST_FAIL"]
        # The simulation forgets the label that it has served when the next buffer is committed.
        with tf.device(gpu()):
            (tf.ones([1]) + 1.0).numpy()


# ---- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7, 3), (1031, 257)])
def test_copies_there_and_back(dtype, shape):
    bits = np.random.default_rng(1).integers(0, 2, size=shape)
    value = tf.cast(bits, dtype)
    with tf.device(gpu()):
        there = tf.identity(value)
    assert there.device.endswith("GPU:0")
    with tf.device("/CPU:0"):
        back = tf.identity(there)
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back.numpy(), value.numpy())


def test_tensor_lists_are_ordered():
    """TensorList kernels of TensorFlow use memcpy_dtod and mem_zero on our stream."""

    @tf.function
    def stacked(x):
        values = tf.TensorArray(tf.float32, size=0, dynamic_size=True, clear_after_read=False)
        for i in tf.range(20):
            x = x * 1.5 + 1.0
            values = values.write(i, x)
        return values.stack(), tf.add_n([values.read(3), values.read(19)])

    x = tf.reshape(tf.range(4096, dtype=tf.float32), [64, 64])
    with tf.device("/CPU:0"):
        expected = stacked(x)
    with tf.device(gpu()):
        actual = stacked(x)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-6)


def test_results_survive_the_reuse_of_their_inputs():
    """TensorFlow frees blocks while queued work uses them; the next copy in gets the same block."""
    rng = np.random.default_rng(2)
    with tf.device(gpu()):
        for size in (256, 300, 4096):
            batches = [rng.normal(size=(size, 64)).astype("f") for _ in range(30)]
            results = []
            for batch in batches:
                x = tf.constant(batch)
                for _ in range(5):
                    x = x * 2.0 - 1.0
                results.append(x)
            for batch, result in zip(batches, results, strict=True):
                expected = batch
                for _ in range(5):
                    expected = expected * np.float32(2) - np.float32(1)
                np.testing.assert_array_equal(result.numpy(), expected)


def test_work_is_asynchronous():
    """Ops return before the device is done: many share a command buffer."""
    with tf.device(gpu()):
        x = tf.random.normal([512, 512])
        x.numpy()
        metal.reset_stats()
        for _ in range(300):
            x = tf.tanh(x)
        x.numpy()
    stats = metal.stats()
    assert stats["ops"] >= 300
    assert stats["sync_dtoh"] == 1
    if metal.variable_mode()["mode"] != "sync":
        assert stats["commits"] < 150


# ---- errors -------------------------------------------------------------------------------------


@linux_only
def test_failure_surfaces_once_naming_the_op():
    with tf.device(gpu()):
        x = tf.random.normal([8, 8])
        x.numpy()
        with planted_failure("MatMul"):
            with pytest.raises(tf.errors.InternalError, match="MatMul"):
                tf.matmul(x, x).numpy()
            np.testing.assert_allclose(
                tf.matmul(x, x).numpy(), x.numpy() @ x.numpy(), rtol=1e-4, atol=1e-5
            )


@linux_only
def test_failure_in_a_function_surfaces():
    @tf.function
    def f(x):
        y = x
        for _ in range(5):
            y = tf.matmul(y, x, name="planted")
        with tf.device("/CPU:0"):
            return tf.reduce_sum(y)

    with tf.device(gpu()):
        x = tf.random.normal([8, 8])
        expected = f(x).numpy()
        with planted_failure("MatMul:planted"):
            with pytest.raises(tf.errors.InternalError, match="MatMul:planted"):
                f(x).numpy()
            np.testing.assert_array_equal(f(x).numpy(), expected)


@linux_only
def test_failure_surfaces_at_the_next_kernel_after_a_wait():
    """sync_devices() drops the status that the device gives it, so the error must be kept."""
    with tf.device(gpu()):
        x = tf.random.normal([8, 8])
        x.numpy()
        with planted_failure("Tanh"), pytest.raises(tf.errors.InternalError, match="Tanh"):
            tf.tanh(x)
            tf.test.experimental.sync_devices()
            tf.matmul(x, x).numpy()


@linux_only
def test_failed_work_completes_its_events(run_python):
    """A failure must neither hang nor end the process, whatever waits for it."""
    result = run_python(
        """
import os
import tensorflow as tf
with tf.device("/GPU:0"):
    x = tf.random.normal([64, 64])
    x.numpy()
    for i in range(20):
        os.environ["TF_METAL_HOST_FAIL"] = f"MatMul@{i}"
        try:
            for _ in range(10):
                tf.matmul(x, x)
            tf.test.experimental.sync_devices()
            tf.identity(x).numpy()
            print("missed")
        except tf.errors.InternalError as e:
            assert "MatMul" in str(e), e
            print("raised")
""",
        env={"TF_METAL_HOST_CHAOS": "3"},
    )
    assert result.stdout.split() == ["raised"] * 20


# ---- memory -------------------------------------------------------------------------------------


def test_exhaustion_is_an_error_and_passes(run_python):
    result = run_python(
        """
import tensorflow as tf
with tf.device("/GPU:0"):
    small = tf.ones([1024])
    for _ in range(3):
        try:
            tf.zeros([64 << 20])
            print("missed")
        except tf.errors.ResourceExhaustedError:
            print("raised")
        kept = []
        try:
            for _ in range(100):
                kept.append(tf.zeros([1 << 20]))
            print("missed")
        except tf.errors.ResourceExhaustedError:
            print("raised after", len(kept))
    del kept
    print((small + tf.zeros([1 << 20])[:1024]).numpy().sum())
""",
        env={"TF_METAL_MEMORY_LIMIT": str(64 << 20)},
    )
    lines = result.stdout.split("\n")
    assert lines[0:6:2] == ["raised"] * 3
    for line in lines[1:6:2]:
        assert 12 <= int(line.removeprefix("raised after ")) <= 15
    assert lines[6] == "1024.0"
    assert re.search(
        r"out of device memory: 268435456 bytes .*TF_METAL_MEMORY_LIMIT", result.stderr
    )


def test_memory_is_given_back():
    with tf.device(gpu()):
        x = tf.random.normal([256, 256])

        def step():
            y = x
            for _ in range(10):
                y = tf.tanh(y * 1.5)
            return y.numpy()

        for _ in range(5):
            step()
        before = metal.memory_info()
        for _ in range(200):
            step()
        after = metal.memory_info()
    assert after["current"] == before["current"]
    assert after["peak"] <= before["peak"] * 1.5


def test_varying_shapes_stay_within_the_limit(run_python):
    """Blocks of sizes that never come back are returned to Metal."""
    out = run_python(
        """
import tensorflow as tf
import tensorflow_metal_py as metal
with tf.device("/GPU:0"):
    for n in range(200):
        x = tf.zeros([100_000 + 7_000 * n]) + 1.0
        assert float(tf.reduce_sum(x)) == 100_000 + 7_000 * n
print(metal.memory_info()["peak"])
""",
        env={"TF_METAL_MEMORY_LIMIT": str(32 << 20)},
    ).stdout
    assert 0 < int(out) <= 32 << 20


# ---- order --------------------------------------------------------------------------------------


def digest(result) -> str:
    return re.search(r"digest (\w+)", result.stdout)[1]


@linux_only
def test_chaos_changes_nothing(run_python):
    calm = digest(run_python(TRAINING))
    for settings in (
        {"TF_METAL_HOST_CHAOS": "1"},
        {"TF_METAL_HOST_CHAOS": "2", "TF_METAL_POISON": "1"},
        {"TF_METAL_HOST_CHAOS": "3", "TF_METAL_OPS_PER_COMMIT": "1"},
        {"TF_METAL_SYNC": "1"},
    ):
        assert digest(run_python(TRAINING, env=settings)) == calm, settings


def test_threads():
    """Eight threads, each with its own chain of ops and copies."""

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        with tf.device(gpu()):
            for _ in range(15):
                value = rng.normal(size=(int(rng.integers(1, 200)), 64)).astype("f")
                x = tf.constant(value)
                for _ in range(6):
                    x = x + float(seed)
                    value = value + np.float32(seed)
                if not np.array_equal(x.numpy(), value):
                    return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@linux_only
def test_two_devices(run_python):
    out = run_python(
        """
import numpy as np
import tensorflow as tf
value = np.arange(10000, dtype="f")
with tf.device("/GPU:0"):
    a = tf.constant(value) * 2.0
for _ in range(20):
    with tf.device("/GPU:1"):
        b = tf.identity(a) + 1.0
    with tf.device("/GPU:0"):
        a = tf.identity(b) - 1.0
assert a.device.endswith("GPU:0") and b.device.endswith("GPU:1")
np.testing.assert_array_equal(b.numpy(), value * 2 + 1)
print("equal")
""",
        env={"TF_METAL_DEVICES": "2", "TF_METAL_HOST_CHAOS": "1"},
    ).stdout
    assert out.strip() == "equal"


# ---- processes ----------------------------------------------------------------------------------


def test_exit_with_queued_work(run_python):
    run_python(
        """
import tensorflow as tf
with tf.device("/GPU:0"):
    x = tf.random.normal([256, 256])
    for _ in range(200):
        x = tf.matmul(x, x) * 1e-3
"""
    )


def test_children_of_fork_get_an_error(run_python):
    result = run_python(
        """
import os, signal
import tensorflow as tf
with tf.device("/GPU:0"):
    x = tf.random.normal([8, 8])
    y = tf.matmul(x, x).numpy()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            tf.matmul(x, x).numpy()
            text = "missed"
        except (tf.errors.FailedPreconditionError, tf.errors.ResourceExhaustedError):
            text = "refused"  # whether there or at the allocation of the result
        os.write(1, text.encode())
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert (tf.matmul(x, x).numpy() == y).all()
"""
    )
    assert result.stdout.strip() == "refused"
    assert "'spawn' method" in result.stderr
