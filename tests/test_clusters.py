"""The graph pass "cluster": what goes together, what must not, and that results stay the same."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

import tensorflow_metal_py as metal
from tests import rewriting, spine

X = tf.constant(np.linspace(-1, 2, 12, dtype="float32").reshape(3, 4))
Y = tf.constant(np.linspace(3, 1, 12, dtype="float32").reshape(3, 4))
CLUSTER = "_MetalCluster"


def body(node) -> graph_pb2.GraphDef:
    return graph_pb2.GraphDef.FromString(node.attr["graph"].s)


def clusters(graph: rewriting.Graph) -> list[list[str]]:
    """The ops of each cluster."""
    plumbing = ("_Arg", "_Retval", "Const")
    nodes = [node for node in graph.after.node if node.op == CLUSTER]
    return [[n.op for n in body(node).node if n.op not in plumbing] for node in nodes]


def check(function, *arguments, passes="cluster") -> list[list[str]]:
    """Runs with and without clusters, and eagerly on the CPU; gives the clusters' ops."""
    got, graph = rewriting.run(function, *arguments, passes=passes)
    plain, _ = rewriting.run(function, *arguments, passes="none")
    with tf.device("CPU:0"):
        cpu = function(*arguments)
    for a, b, c in zip(*map(tf.nest.flatten, (got, plain, cpu)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)
    return clusters(graph)


def test_one_cluster():
    found = check(
        lambda x, y: (tf.exp(x) * y, tf.sqrt(y) - x, tf.matmul(x, y, transpose_b=True)), X, Y
    )
    assert [sorted(ops) for ops in found] == [["Exp", "MatMul", "Mul", "Sqrt", "Sub"]]


def test_too_little_work_stays_as_it_is():
    def function(x):
        return tf.reshape(tf.identity(tf.exp(x) * x), (4, 3))

    _, graph = rewriting.run(function, X, passes="cluster")
    assert graph.unchanged and not clusters(graph)


def test_the_cpu_in_between():
    """What the CPU computes from one cluster goes into the next."""

    def function(x, y):
        a = tf.exp(x) * y + x
        with tf.device("CPU:0"):
            b = tf.sin(a) * 2.0
        return a * b + tf.sqrt(y) * y - b

    found = check(function, X, Y)
    assert len(found) == 2 and sorted(found[0]) == ["AddV2", "Exp", "Mul"]


def test_control_edges_are_paths():
    def function(x, y):
        a = tf.exp(x) * y + x
        with tf.control_dependencies([tf.debugging.assert_less(a, 1e6)]):
            b = tf.identity(y) * 2.0
        return tf.tanh(b) * a + b

    assert len(check(function, X, Y)) == 2


def test_a_value_that_is_needed_on_the_host():
    """The number of rows comes from the device: TensorFlow has to wait for it."""

    def function(x, y):
        count = tf.cast(tf.reduce_sum(tf.exp(x) * 0.0) + 2.0, tf.int32)
        rows = tf.tile(y * x + y, [count, 1])
        return tf.exp(rows) * rows - 1.0

    found = check(function, X, Y)
    assert len(found) == 2 and "Tile" in found[1]


def test_shapes_of_members_stay_inside():
    def function(x):
        y = tf.exp(x) * x + 1.0
        flat = tf.reshape(y, [tf.shape(y)[0] * 2, -1])
        mean = tf.reduce_sum(flat) / tf.cast(tf.size(flat), tf.float32)
        return tf.tanh(flat) * mean, tf.shape(y)

    signature = tf.TensorSpec((None, 4), tf.float32)
    compiled = tf.function(function, input_signature=[signature])

    def run():
        with tf.device(f"{spine.device_type()}:0"):
            return [compiled(X), compiled(tf.concat([X, X], 0))]

    results, graphs = rewriting.recorded(run, "cluster")
    found = clusters(graphs[0][-1])
    assert len(found) == 1 and {"Reshape", "Shape", "Mul"} <= set(found[0])
    for (y, shape), x in zip(results, (X, tf.concat([X, X], 0)), strict=True):
        with tf.device("CPU:0"):
            expected, expected_shape = function(x)
        np.testing.assert_allclose(y, expected, rtol=1e-5)
        assert np.array_equal(shape, expected_shape)


def test_int32_between_members():
    """TensorFlow would compare on the host, and wait for the device to do so."""

    def function(x):
        signs = tf.bitwise.bitwise_and(tf.bitcast(tf.exp(x) * x, tf.int32), tf.int32.min)
        return tf.where(tf.logical_and(signs < 0, x > -0.5), x * x, tf.exp(x))

    (found,) = check(function, X)
    assert "Less" in found

    def counted(x):  # what the host asks for stays there
        large = tf.argmax(tf.exp(x) * x + 1.0, 1, output_type=tf.int32) > 1
        return large, tf.cast(large, tf.float32) * tf.exp(x[:, 0]) + 1.0

    check(counted, X)


def test_branches_and_loops():
    """Each branch and each body has clusters of its own; nothing dead is joined to what lives."""

    def branches(x, flag):
        before = tf.exp(x) * x + 1.0
        y = tf.cond(
            flag,
            lambda: tf.sin(before) * before - 1.0,
            lambda: tf.cos(before) + before * 2.0 - x,
        )
        return tf.tanh(y) * before + y

    for flag in (True, False):
        assert len(check(branches, X, tf.constant(flag))) == 4

    def loop(x):
        def step(i, a, b):
            return i + 1, tf.tanh(a) * b + a, tf.sin(b) * 0.5 + a

        _, a, b = tf.while_loop(lambda i, a, b: i < 5, step, (0, tf.exp(x) * x + 1.0, x))
        return tf.exp(-a) * b + a

    assert sorted(map(len, check(loop, X))) == [3, 4, 7]  # 6 of the body, and an Identity


def test_what_has_an_effect_stays_out():
    v = tf.Variable(X)

    def function(x):
        noise = tf.random.uniform(x.shape) * 0.0
        v.assign(tf.exp(x) * x + noise)
        return tf.tanh(v.read_value()) * x - 1.0

    _, graph = rewriting.run(function, X, passes="cluster")
    inside = {op for ops in clusters(graph) for op in ops}
    assert inside and not inside & {"RandomUniform", "AssignVariableOp", "ReadVariableOp"}


def test_types_that_the_device_has_not():
    def function(x):
        wide = tf.cast(tf.exp(x) * x + 1.0, tf.float64) * 2.0 + 1.0
        return tf.cast(tf.sqrt(wide) * wide, tf.float32) + x * x * x

    found = check(function, tf.abs(X))
    assert not any("Sqrt" in ops for ops in found)


# --- the graph as a whole ------------------------------------------------------------------------


def test_the_second_call_finds_nothing():
    def function(x, y):
        for _ in range(4):
            x = tf.tanh(tf.matmul(x, y)) * x + tf.exp(-x)
        return x

    with tf.device(f"{spine.device_type()}:0"):
        a, b = tf.random.normal((5, 5)), tf.random.normal((5, 5))
        _, graphs = rewriting.recorded(lambda: tf.function(function)(a, b), "all")
    first, second = graphs[0]
    assert not first.unchanged and second.unchanged


def test_fetched_nodes_keep_their_names():
    device = spine.device_type()
    with tf.Graph().as_default(), tf.device(f"{device}:0"):
        x = tf.compat.v1.placeholder(tf.float32, (3, 4), name="x")
        a = tf.multiply(tf.exp(x), x, name="a")
        b, c = tf.split(tf.tanh(a) + 1.0, 2, axis=1, name="pair")
        tf.sqrt(b * c + 4.0, name="d")
        with tf.compat.v1.Session() as session:
            fetch = lambda: session.run(["a:0", "pair:1", "d:0", "a:0"], {"x:0": X.numpy()})  # noqa: E731
            got, graphs = rewriting.recorded(fetch, "all")
            assert clusters(graphs[-1][-1])
    with tf.device("CPU:0"):
        a = tf.exp(X) * X
        b, c = tf.split(tf.tanh(a) + 1.0, 2, axis=1)
        for value, expected in zip(got, (a, c, tf.sqrt(b * c + 4.0), a), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_gradient_tape():
    v = tf.Variable(X)

    def function(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(tf.nn.softmax(tf.tanh(x * v)) ** 2)
            (dv,) = inner.gradient(loss, [v])
            norm = tf.reduce_sum(dv * dv)
        return loss, dv, tape.gradient(norm, x), tape.gradient(norm, v)

    found = check(function, Y, passes="all")
    assert len(found) == 1


def test_tf_data_runs_on_the_cpu():
    """A function of tf.data has no node on the device: it is left as it is."""

    def run():
        data = tf.data.Dataset.from_tensor_slices(Y).map(lambda r: tf.exp(r) * r + 1.0)
        return list(data.as_numpy_iterator())

    rows, graphs = rewriting.recorded(run, "all")
    np.testing.assert_allclose(rows, np.exp(Y) * Y.numpy() + 1, rtol=1e-5)
    assert all(call.unchanged for calls in graphs for call in calls)


def test_saved_model(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "gelu"), keras.layers.Dense(2)]
    )
    model.export(tmp_path / "model", verbose=False)
    with tf.device(f"{spine.device_type()}:0"):
        loaded = tf.saved_model.load(tmp_path / "model")
        got, graphs = rewriting.recorded(lambda: loaded.serve(X), "all")
    assert any(clusters(calls[-1]) for calls in graphs)
    np.testing.assert_allclose(got, model(X), rtol=1e-4, atol=1e-6)


def test_checkpoints(tmp_path):
    """Training with passes saves what training without them restores."""

    def make():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("adam", "mse", jit_compile=False)
        return model

    x, y = np.tile(X, (4, 1)), np.tile(Y[:, :3], (4, 1))
    trained = make()
    with rewriting.environment(TF_METAL_GRAPPLER="all"):
        trained.fit(x, y, epochs=2, verbose=0)
        trained.save_weights(tmp_path / "w.weights.h5")
        tf.train.Checkpoint(model=trained).write(tmp_path / "checkpoint")
    with rewriting.environment(TF_METAL_GRAPPLER="none"):
        for restore in (
            lambda m: m.load_weights(tmp_path / "w.weights.h5"),
            lambda m: tf.train.Checkpoint(model=m).read(tmp_path / "checkpoint"),
        ):
            other = make()
            restore(other)
            for a, b in zip(trained.weights, other.weights, strict=True):
                assert np.array_equal(a, b)


def test_a_last_partial_batch_compiles_each_executable_once_more():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((70, 20)).astype("float32"), rng.integers(0, 10, 70)
    with tf.device(f"/{spine.device_type()}:0"):
        model = keras.Sequential(
            [keras.Input((20,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
        )
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
        )
        compiles = []
        for part in (slice(64), slice(70), slice(70), slice(70)):  # in batches of 32: 32, 32, 6
            metal.reset_stats()
            model.fit(x[part], y[part], batch_size=32, verbose=0)
            compiles.append(metal.stats()["compiles"])
    assert compiles[0] > 0
    assert 0 < compiles[1] <= compiles[0]
    assert compiles[2:] == [0, 0]


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_ten_thousand_nodes(shape):
    """All passes together, on a graph of 10,000 nodes, in under 2 seconds."""

    def deep(x):
        for i in range(3300):
            x = tf.tanh(x) * 0.9 + (x if i % 2 else -x)
        return x

    def wide(x):
        parts = [tf.tanh(x * float(i)) * x for i in range(3300)]
        return tf.add_n(parts)

    with tf.device(f"{spine.device_type()}:0"):
        graph = tf.function({"deep": deep, "wide": wide}[shape], autograph=False)
        concrete = graph.get_concrete_function(X)
    seconds = {}
    for passes in ("none", "all"):
        with rewriting.environment(TF_METAL_GRAPPLER=passes):
            start = time.process_time()
            after = rewriting.optimize(concrete)
            seconds[passes] = time.process_time() - start
    assert rewriting.ops(after)[CLUSTER]
    assert seconds["all"] - seconds["none"] < 4.0  # two calls


# ---- casts ---------------------------------------------------------------------------------------

# Ties, overflow, numbers below the least normal one of float16, NaN.
ROUNDED = [1.0009765, 1.00048828125, 1.0014648, 65519.0, 65520.0, 3.39e38, 6e-8, 2.9e-8]
ROUNDED += [-0.0, np.inf, -np.inf, np.nan, 1.00390625, 1.01171875]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("truncate", [False, True])
def test_casts_between_floats_are_part_of_the_executable(dtype, truncate):
    """A shader in the middle would cut it; Truncate is left to that."""

    def function(x):
        y = tf.raw_ops.Cast(x=x, DstT=dtype, Truncate=truncate)
        z = tf.cast(-y, "float32")
        return y, z, z * 0.5 + tf.cast(y, "float32")

    x = tf.constant(ROUNDED * 20, tf.float32)
    results, graph = rewriting.run(function, x, passes="cluster")
    assert [sorted(set(ops)) for ops in clusters(graph)] == [["AddV2", "Cast", "Mul", "Neg"]]
    compiled = tf.function(function, autograph=False)
    with rewriting.environment(TF_METAL_GRAPPLER="cluster"), tf.device(spine.device_type()):
        compiled(x)
        metal.reset_stats()
        compiled(x)
    assert metal.stats()["encodes"] == (2 if truncate else 1)
    with tf.device("CPU:0"):
        for got, expected in zip(results, function(x), strict=True):
            np.testing.assert_array_equal(tf.cast(got, "float32"), tf.cast(expected, "float32"))
