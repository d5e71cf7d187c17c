"""Resource variables on the device: every op that reads or changes one, and races.

Updates go through the variables' locks while the device still works on earlier steps. So a run in
which the simulated GPU delays and splits whatever Metal allows (TF_METAL_HOST_CHAOS) has to give
the same bits as a calm one.
"""

import base64
import hashlib
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime
from tests import spine

R = tf.raw_ops


pytestmark = pytest.mark.usefixtures("on_device")


def types_of(op: str) -> list[str]:
    return [d for r in spine.table() if r["op"] == op for d in next(iter(r["types"].values()))]


def expanded(*ops: str) -> list:
    return [pytest.param(op, dtype, id=f"{op}-{dtype}") for op in ops for dtype in types_of(op)]


def values(shape, dtype: str, seed: int = 0) -> np.ndarray:
    """Small numbers other than zero."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 5, shape)
    if dtype == "bool":
        return n > 2
    wide = n + 1j * rng.integers(1, 5, shape) if dtype.startswith("complex") else n
    return wide.astype(tf.as_dtype(dtype).as_numpy_dtype)


def bits(x) -> bytes:
    return np.ascontiguousarray(np.asarray(x)).tobytes()


def same(actual: tf.Variable, expected: np.ndarray, exact: bool = True) -> None:
    got = actual.numpy()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    if not exact:  # complex division: libraries round differently
        return np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(got.dtype).eps)
    assert bits(got) == bits(expected), f"\n{got}\nexpected\n{expected}"


# --- every op and type ---------------------------------------------------------------------------


@pytest.mark.parametrize("op, dtype", expanded("AssignAddVariableOp", "AssignSubVariableOp"))
def test_update(op, dtype):
    start, delta = values((5, 7), dtype), values((5, 7), dtype, 1)
    v = tf.Variable(start)
    before = v.read_value()
    getattr(R, op)(resource=v.handle, value=delta)
    same(v, start + delta if "Add" in op else start - delta)
    assert bits(before) == bits(start)


@pytest.mark.parametrize("op, dtype", expanded("AssignVariableOp"))
def test_assign(op, dtype):
    first, second = values((5, 7), dtype), values((5, 7), dtype, 1)
    v = tf.Variable(first)
    R.AssignVariableOp(resource=v.handle, value=second)
    same(v, second)
    # After a gather the variable must not share memory with a value.
    R.ResourceGather(resource=v.handle, indices=[0], dtype=dtype)
    value = tf.constant(first)
    R.AssignVariableOp(resource=v.handle, value=value)
    R.ResourceScatterNdUpdate(ref=v.handle, indices=[[0, 0]], updates=second[1, 1:2])
    assert bits(value) == bits(first)
    first[0, 0] = second[1, 1]
    same(v, first)


def test_every_variable_op_is_tested_here():
    kinds = {row["op"]: row["kind"] for row in spine.table()}
    registered = {op for op, kind in kinds.items() if kind == "resource"}
    names = [n for n in COMBINE if n not in ("Mul", "Div")]
    tested = {f"ResourceScatter{n}" for n in COMBINE} | {f"ResourceScatterNd{n}" for n in names}
    tested |= {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
    tested |= {"ResourceGather", "ResourceGatherNd", "ResourceStridedSliceAssign"}
    # tests/test_random.py
    tested |= {"StatefulUniform", "StatefulStandardNormalV2", "StatefulTruncatedNormal"}
    tested |= {"StatefulUniformFullInt", "StatefulUniformInt", "RngSkip", "RngReadAndSkip"}
    if _runtime.call("variable_mode")["mode"] == "sync":
        tested = set()
    assert registered == tested


COMBINE = {
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Div": lambda x, y: x // y if x.dtype.kind in "iu" else x / y,
    "Min": np.minimum,
    "Max": np.maximum,
    "Update": lambda x, y: y,
}


def scattered(start: np.ndarray, indices, updates: np.ndarray, combine) -> np.ndarray:
    """Row by row, in order, rounding after each update as the type does."""
    result = start.copy()
    for t, index in enumerate(indices):
        update = updates if updates.ndim == 0 else updates[t]
        result[tuple(index)] = combine(result[tuple(index)], update).astype(start.dtype)
    return result


@pytest.mark.parametrize("index_type", ["int32", "int64"])
@pytest.mark.parametrize("op, dtype", expanded(*(f"ResourceScatter{name}" for name in COMBINE)))
def test_scatter(op, dtype, index_type):
    start, updates = values((6, 37), dtype), values((2, 2, 37), dtype, 1)
    indices = np.array([[4, 1], [4, 0]], index_type)  # 4 twice
    combine = COMBINE[op.removeprefix("ResourceScatter")]
    v = tf.Variable(start)
    before = v.read_value()
    getattr(R, op)(resource=v.handle, indices=indices, updates=updates)
    flat = indices.reshape(-1, 1)
    after = scattered(start, flat, updates.reshape(-1, 37), combine)
    exact = not (dtype.startswith("complex") and op.endswith("Div"))
    same(v, after, exact)
    assert bits(before) == bits(start)
    getattr(R, op)(resource=v.handle, indices=indices, updates=updates[0, 0, 0])  # a scalar
    same(v, scattered(after, flat, updates[0, 0, 0], combine), exact)


@pytest.mark.parametrize("op, dtype", expanded(*(f"ResourceScatterNd{n}" for n in COMBINE)))
def test_scatter_nd(op, dtype):
    if not types_of(op):
        pytest.skip("TensorFlow has no such op")
    start, updates = values((3, 4, 5), dtype), values((3, 5), dtype, 1)
    indices = np.array([[2, 1], [0, 3], [2, 1]], "int64")
    combine = COMBINE[op.removeprefix("ResourceScatterNd")]
    v = tf.Variable(start)
    getattr(R, op)(ref=v.handle, indices=indices, updates=updates)
    same(v, scattered(start, indices, updates, combine))


@pytest.mark.parametrize("dtype", types_of("ResourceGather"))
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_gather(dtype, batch_dims):
    start = values((3, 4, 5), dtype)
    indices = np.array([[1, 0], [2, 2], [0, 1]], "int64")
    v = tf.Variable(start)
    got = R.ResourceGather(
        resource=v.handle, indices=indices, dtype=dtype, batch_dims=batch_dims
    ).numpy()
    expected = np.stack([start[b][indices[b]] for b in range(3)]) if batch_dims else start[indices]
    assert got.shape == expected.shape and bits(got) == bits(expected)


@pytest.mark.parametrize("dtype", types_of("ResourceGatherNd"))
def test_gather_nd(dtype):
    start = values((3, 4, 5), dtype)
    v = tf.Variable(start)
    for indices in ([[2, 1], [0, 3]], [[1], [1]], [[[0, 0, 4]]], np.zeros((2, 0), "int32")):
        indices = np.array(indices, "int32")
        got = R.ResourceGatherNd(resource=v.handle, indices=indices, dtype=dtype).numpy()
        *outer, depth = indices.shape
        expected = np.stack([start[tuple(indices[at])] for at in np.ndindex(*outer)])
        expected = expected.reshape((*outer, *start.shape[depth:]))
        assert got.shape == expected.shape and bits(got) == bits(expected)


SLICES = {
    "row": lambda v, x: v[1].assign(x[0, 0, :, :]),
    "stride": lambda v, x: v[::2, 1:3, ::-2].assign(x[:2, :2, 0, :3]),
    "ellipsis": lambda v, x: v[..., 2].assign(x[:3, 0, :, 0]),
    "broadcast": lambda v, x: v[:, 1].assign(x[0, 0, 0, :]),
    "scalar": lambda v, x: v[0:2, :, 3].assign(x[0, 0, 0, 0]),
    "new_axis": lambda v, x: v[:, tf.newaxis, 0].assign(x[:3, :1, 0, :]),
    "empty": lambda v, x: v[2:2].assign(x[:0, 0, :, :]),
    "all": lambda v, x: v[...].assign(x[0, :3, :, :]),
}


@pytest.mark.parametrize("dtype", types_of("ResourceStridedSliceAssign"))
@pytest.mark.parametrize("name", SLICES)
def test_slice_assign(name, dtype):
    tf.config.set_soft_device_placement(True)  # v[...] makes a read first, which nobody needs
    start, source = values((3, 4, 5), dtype), values((3, 4, 4, 5), dtype, 1)
    v = tf.Variable(start)
    before = v.read_value()
    SLICES[name](v, source)
    with tf.device("CPU:0"):
        expected = tf.Variable(start)
        SLICES[name](expected, source)
    same(v, expected.numpy())
    assert bits(before) == bits(start)


# --- edges and errors ----------------------------------------------------------------------------


def test_nothing_to_do():
    v = tf.Variable(tf.ones((4, 3)))
    none = tf.zeros((0,), tf.int32)
    R.ResourceScatterAdd(resource=v.handle, indices=none, updates=tf.ones((0, 3)))
    R.ResourceScatterNdAdd(
        ref=v.handle, indices=tf.zeros((0, 1), tf.int32), updates=tf.ones((0, 3))
    )
    assert R.ResourceGather(resource=v.handle, indices=none, dtype=tf.float32).shape == (0, 3)
    empty = tf.Variable(tf.zeros((0, 3)))
    empty.assign_add(tf.zeros((0, 3)))
    empty.assign(tf.zeros((0, 3)))
    same(v, np.ones((4, 3), "float32"))


def test_scatter_to_a_scalar():
    v = tf.Variable(3.0)
    R.ResourceScatterAdd(resource=v.handle, indices=[0, 0], updates=2.0)
    assert v.numpy() == 7.0


def test_long_and_wide_scatters():
    rng = np.random.default_rng(0)
    for rows, width, count in [(5000, 1, 20000), (3, 4096, 64), (300, 100, 2000)]:
        start = rng.integers(-8, 8, (rows, width)).astype("float32")
        updates = rng.integers(-8, 8, (count, width)).astype("float32")
        indices = rng.integers(0, rows, (count,))
        v = tf.Variable(start)
        R.ResourceScatterAdd(resource=v.handle, indices=indices, updates=updates)
        np.add.at(start, indices, updates)
        same(v, start)


def test_update_by_itself():
    v = tf.Variable(tf.fill((3, 3), 2.0))
    v.assign_add(v)
    v.assign_sub(v.read_value() * 0.25)
    assert np.all(v.numpy() == 3.0)


def test_variables_that_share_a_value():
    zeros = tf.zeros((4,))
    a, b = tf.Variable(zeros), tf.Variable(zeros)
    a.assign_add(tf.ones((4,)))
    assert np.all(b.numpy() == 0.0) and np.all(zeros.numpy() == 0.0) and np.all(a.numpy() == 1.0)


def test_keras_like_lookup_and_sparse_gradient():
    tf.config.set_soft_device_placement(True)  # for the index arithmetic of the gradient
    table = tf.Variable(tf.reshape(tf.range(12, dtype=tf.float32), (4, 3)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table, [1, 1, 3]) * 2.0)
    slices = tape.gradient(loss, table)
    assert isinstance(slices, tf.IndexedSlices)
    table.scatter_sub(slices)
    expected = np.arange(12, dtype="float32").reshape(4, 3)
    np.subtract.at(expected, [1, 1, 3], 2.0)
    same(table, expected)


ERRORS = {
    "update_shape": lambda v: R.AssignAddVariableOp(resource=v, value=tf.ones((3,))),
    "assign_shape": lambda v: R.AssignVariableOp(
        resource=v, value=tf.ones((2, 2)), validate_shape=True
    ),
    "gather_batch": lambda v: R.ResourceGather(
        resource=v, indices=[[0], [0]], dtype=tf.float32, batch_dims=1
    ),
    "gather_nd_depth": lambda v: R.ResourceGatherNd(
        resource=v, indices=[[1, 2, 3]], dtype=tf.float32
    ),
    "scatter_shape": lambda v: R.ResourceScatterAdd(
        resource=v, indices=[1], updates=tf.ones((2, 3))
    ),
    "scatter_nd_shape": lambda v: R.ResourceScatterNdAdd(
        ref=v, indices=[[1, 2]], updates=tf.ones((2,))
    ),
    "slice_stride": lambda v: R.ResourceStridedSliceAssign(
        ref=v, begin=[0], end=[1], strides=[0], value=tf.ones((1, 3))
    ),
    "slice_range": lambda v: R.ResourceStridedSliceAssign(
        ref=v, begin=[9], end=[10], strides=[1], value=tf.ones((3,)), shrink_axis_mask=1
    ),
    "slice_shape": lambda v: R.ResourceStridedSliceAssign(
        ref=v, begin=[0], end=[2], strides=[1], value=tf.ones((2, 2))
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    v = tf.Variable(tf.ones((4, 3)))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        ERRORS[name](v.handle)
    same(v, np.ones((4, 3), "float32"))  # untouched, and no lock is held
    v.assign_add(tf.ones((4, 3)))
    same(v, np.full((4, 3), 2.0, "float32"))


def test_variable_that_does_not_exist():
    handle = R.VarHandleOp(dtype=tf.float32, shape=(4, 3), shared_name="nowhere")
    one = tf.ones((4, 3))
    for call in (
        lambda: R.AssignAddVariableOp(resource=handle, value=one),
        lambda: R.ResourceScatterAdd(resource=handle, indices=[0], updates=one[:1]),
        lambda: R.ResourceGather(resource=handle, indices=[0], dtype=tf.float32),
    ):
        with pytest.raises(tf.errors.OpError, match=r"does not exist|[Ii]nvalid variable"):
            call()


def test_indices_out_of_range():
    """As TensorFlow's GPU kernels: zeros, and nothing written."""
    v = tf.Variable(tf.ones((4, 3)))
    got = R.ResourceGather(resource=v.handle, indices=[-1, 2, 4], dtype=tf.float32).numpy()
    assert got[:, 0].tolist() == [0.0, 1.0, 0.0]
    R.ResourceScatterAdd(resource=v.handle, indices=[-1, 4, 1 << 30], updates=tf.ones((3, 3)))
    same(v, np.ones((4, 3), "float32"))


def test_variants_stay_on_the_device():
    tf.config.set_soft_device_placement(True)  # for what makes the lists

    def filled(value, dtype="float32"):
        tensor = tf.cast(tf.fill((3, 2), value), dtype)
        return R.TensorListFromTensor(tensor=tensor, element_shape=[2])

    for dtype in ("float32", "float16", "float64", "int64"):
        total = R.AddN(inputs=[filled(1, dtype), filled(2, dtype), filled(4, dtype)])
        stacked = R.TensorListStack(input_handle=total, element_shape=[2], element_dtype=dtype)
        assert np.all(stacked.numpy() == 7) and spine.device_type() in total.device
        zeros = R.ZerosLike(x=total)
        stacked = R.TensorListStack(input_handle=zeros, element_shape=[2], element_dtype=dtype)
        assert np.all(stacked.numpy() == 0)


# --- races ---------------------------------------------------------------------------------------

# Trains and prints the bytes of every result. Without a device it is the reference on the CPU.
TRAINING = (pathlib.Path(__file__).parent / "variables_training.py").read_text()
STEPS = (300, 30, 25)  # in a tf.function, eagerly, epochs of 8 steps


def train(run_python, scatter=True, **environment) -> dict[str, np.ndarray]:
    env = {"TF_METAL_HOST_CHAOS": None, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    out = run_python(TRAINING, env=env, arguments=[json.dumps([*STEPS, scatter])]).stdout
    line = next(line for line in out.splitlines() if line.startswith("RESULT "))
    answer = json.loads(line.removeprefix("RESULT "))
    assert ("CPU" in answer.pop("device")) == ("TF_METAL_DISABLE" in environment)
    return {k: np.frombuffer(base64.b64decode(v), "float32") for k, v in answer.items()}


@pytest.fixture(scope="module")
def calm(run_python):
    return train(run_python)


def digest(results) -> dict[str, str]:
    return {k: hashlib.sha256(v.tobytes()).hexdigest()[:12] for k, v in results.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="only the simulated GPU has chaos")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chaos_changes_no_bit(calm, run_python, seed):
    chaotic = train(run_python, TF_METAL_HOST_CHAOS=str(seed), TF_METAL_POISON="1")
    assert digest(chaotic) == digest(calm)


@pytest.mark.skipif(sys.platform != "linux", reason="only the simulated GPU has chaos")
def test_without_shim_stock_kernels_wait(calm, run_python):
    """TensorFlow's own kernels update on the host, so streams have to be synchronous."""
    if _runtime.call("variable_mode")["mode"] != "shim":
        pytest.skip("this TensorFlow exports the variable functions")
    stock = train(run_python, scatter=False, TF_METAL_SHIM="off", TF_METAL_HOST_CHAOS="1")
    del stock["raw"]  # without the scatter another computation
    assert digest(stock) == digest({k: v for k, v in calm.items() if k != "raw"})


def test_training_follows_the_cpu(calm, run_python):
    cpu = train(run_python, TF_METAL_DISABLE="1")
    for name, expected in cpu.items():
        difference = np.abs(calm[name] - expected).max()
        scale = np.abs(expected).max()
        limit = 1e-4 * scale if name in ("fit", "raw") else 1e-6 * max(1.0, scale)
        assert difference <= limit, f"{name}: off by {difference}, allowed {limit}"
