"""Automatic mixed precision: which nodes compute with 16 bits, and that nothing is lost by it."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime, fusions
from tests import rewriting, spine
from tests.reduced_graphs import (
    DTYPES,
    GPU,
    PASS,
    SETTING,
    TOLERANCE,
    W2,
    Rewritten,
    W,
    X,
    layers,
    rng,
)

both = pytest.mark.parametrize("dtype", DTYPES)


# --- fires ---------------------------------------------------------------------------------------


@both
def test_products_and_what_lies_between(dtype):
    done = Rewritten(layers, X, W, W2, to=dtype).check(TOLERANCE[dtype])
    for op in ("MatMul", "BiasAdd", "Relu"):
        assert done.all(op, dtype)
    assert done.all("Softmax", "float32")  # after the last product
    # x, w (of which the bias is a slice) and w2 are cast once each; the logits are cast back.
    assert collections.Counter(done.casts()) == {("float32", dtype): 3, (dtype, "float32"): 1}


@both
def test_equals_the_converted_graph_on_the_cpu(dtype):
    done = Rewritten(layers, X, W, W2, to=dtype)
    for got, cpu in zip(tf.nest.flatten(done.result), done.on_cpu(X, W, W2), strict=True):
        np.testing.assert_allclose(got, cpu, rtol=0, atol=TOLERANCE[dtype] / 4)


@both
def test_convolutions_and_pooling(dtype):
    x, k = rng(2, 8, 8, 3), rng(3, 3, 3, 4, seed=1)

    def function(x, k):
        with tf.GradientTape() as tape:
            tape.watch(k)
            y = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, k, 1, "SAME")), 2, 2, "VALID")
            z = (
                tf.matmul(
                    tf.reshape(y, (2, -1)),
                    tf.reshape(x[:, :4, :4], (2, -1))[:1, :64],
                    transpose_a=True,
                    transpose_b=False,
                )
                if False
                else y
            )
            loss = tf.reduce_sum(tf.nn.conv2d(z, k[..., :1, :] * tf.ones((1, 1, 4, 1)), 1, "SAME"))
        return loss, tape.gradient(loss, k)

    done = Rewritten(function, x, k, to=dtype).check(TOLERANCE[dtype])
    for op in ("Conv2D", "Relu", "MaxPool", "Conv2DBackpropFilter", "ReluGrad", "MaxPoolGrad"):
        assert done.all(op, dtype), op
    assert done.all("Sum", "float32")


@both
def test_batch_norm_keeps_its_statistics(dtype):
    x, k, v = rng(2, 6, 6, 3), rng(3, 3, 3, 3, seed=1), tf.ones(3)

    def function(x, k, v):
        y = tf.nn.conv2d(x, k, 1, "SAME")
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(y, v, v)
        return tf.nn.conv2d(y, k, 1, "SAME"), mean, variance

    done = Rewritten(function, x, k, v, to=dtype).check(TOLERANCE[dtype])
    assert done.all("FusedBatchNormV3", dtype) and done.all("FusedBatchNormV3", "float32", "U")


@both
def test_small_constants_are_rounded_now(dtype):
    def function(x, w):
        return tf.matmul(tf.matmul(x, w) * tf.constant([3.0] * 7 + [0.1]), w)

    done = Rewritten(function, X, W, to=dtype).check(TOLERANCE[dtype])
    constants = [n for n in done.graph.node if n.op == "Const" and n.attr["value"].tensor.dtype]
    (values,) = [
        tf.make_ndarray(n.attr["value"].tensor)
        for n in constants
        if tf.as_dtype(n.attr["dtype"].type) == dtype
    ]
    expected = tf.cast([3.0] * 7 + [0.1], dtype).numpy()
    assert values.tobytes() == expected.tobytes()
    assert ("float32", dtype) in done.casts() and len(done.casts()) == 3  # x, w, result


@both
def test_rounds_constants_as_tensorflow_does(dtype):
    values = np.float32(
        [
            1 + 2.0**-11,
            1 + 3 * 2.0**-11,
            1 + 2.0**-8,
            1 + 3 * 2.0**-8,
            1e-8,
            6e-8,
            3e-5,
            65519,
            np.nan,
            -np.inf,
            -0.0,
            1.1,
            1e-40,
            2049,
            2051,
            -65504,
        ]
    )

    def function(x, w):
        return tf.matmul(tf.matmul(x, w), tf.reshape(tf.constant(values), (8, 2)))

    done = Rewritten(function, X, W, to=dtype)
    (constant,) = [
        n for n in done.graph.node if n.op == "Const" and tf.as_dtype(n.attr["dtype"].type) == dtype
    ]
    got = tf.make_ndarray(constant.attr["value"].tensor).ravel()
    with tf.device("CPU:0"):
        wanted = tf.cast(values, dtype).numpy()
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    keep = ~np.isnan(wanted)
    assert got[keep].tobytes() == wanted[keep].tobytes()


@both
def test_casts_that_are_there_are_used(dtype):
    def function(x, w, i):
        y = tf.matmul(x, tf.cast(tf.cast(w, dtype), tf.float32)) + tf.cast(i, tf.float32)
        return tf.cast(tf.matmul(y, w), dtype)

    i = tf.constant(np.arange(8, dtype=np.int64))
    done = Rewritten(function, X, W, i, to=dtype).check(TOLERANCE[dtype])
    assert "float32" not in {target for _, target in done.casts()}
    assert ("int64", dtype) in done.casts()
    assert (dtype, dtype) not in done.casts()


def loop(x, w):
    def body(i, h, kept):
        h = tf.tanh(tf.matmul(h, w) + x)
        return i + 1, h, kept.write(i, h)

    kept = tf.TensorArray(tf.float32, 6, element_shape=x.shape)
    _, h, kept = tf.while_loop(lambda i, *_: i < 6, body, [0, x, kept])
    return h, kept.stack()


@both
def test_loops_and_their_lists(dtype):
    done = Rewritten(loop, X, 0.2 * W, to=dtype).check(2 * TOLERANCE[dtype])
    for op in ("MatMul", "Tanh"):
        assert done.all(op, dtype)
    assert done.all("TensorListReserve", dtype, "element_dtype")
    assert done.all("TensorListSetItem", dtype, "element_dtype")
    assert done.all("TensorListStack", dtype, "element_dtype")
    # What the loop does not change is cast before it.
    enters = {n.input[0].split(":")[0] for n in done.graph.node if n.op == "Enter"}
    assert any("to_" + dtype in name for name in enters)


@both
def test_gradient_of_a_loop(dtype):
    def function(x, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            y, states = loop(x, w)
            loss = tf.reduce_mean(y) + tf.reduce_mean(states**2)
        return loss, tape.gradient(loss, w)

    done = Rewritten(function, X, 0.2 * W, to=dtype).check(2 * TOLERANCE[dtype])
    assert done.all("MatMul", dtype) and done.all("TanhGrad", dtype)


def test_branches():
    def function(x, w):
        y = tf.matmul(x, w)
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(y), lambda: tf.matmul(y, w))
        return tf.matmul(y, w)

    for x in (X, -X):
        done = Rewritten(function, x, W).check(TOLERANCE["float16"])
        assert done.all("MatMul", "float16") and done.all("Relu", "float16")


@both
@pytest.mark.parametrize("passes", [f"remapper,{PASS}", "all"])
def test_fused_ops_convert_whole(passes, dtype):
    def function(x, w, w2):
        h = tf.nn.gelu(tf.nn.bias_add(tf.matmul(x, w), w[0]))
        return tf.nn.softmax(tf.matmul(h, w2), axis=-1)

    done = Rewritten(function, X, W, W2, to=dtype, passes=passes).check(TOLERANCE[dtype])
    with rewriting.environment(**{SETTING: "off"}):
        _, plain = rewriting.run(function, X, W, W2, passes=passes)
    count = rewriting.ops(done.graph)["_MetalCluster"]
    assert count == plain.count("_MetalCluster") > 0
    inside = [
        node
        for cluster in done.graph.node
        if cluster.op == "_MetalCluster"
        for node in tf.compat.v1.GraphDef.FromString(cluster.attr["graph"].s).node
    ]
    products = [node for node in inside if node.op == "MatMul"]
    assert {tf.as_dtype(node.attr["T"].type).name for node in products} == {dtype}
    assert [n for n in done.graph.node if n.op == "MatMul"] == []


# --- does not fire -------------------------------------------------------------------------------


def test_denied_ops_and_what_follows():
    def function(x, w):
        y = tf.matmul(x, w)
        z = tf.nn.relu(tf.exp(y) + y)  # a sum after an exponential
        return tf.matmul(z, w), tf.reduce_mean(tf.nn.relu(y))

    done = Rewritten(function, X, 0.1 * W).check(TOLERANCE["float16"])
    assert done.all("Exp", "float32") and done.all("AddV2", "float32")
    assert done.all("Mean", "float32") and done.all("MatMul", "float16")


def test_nothing_to_gain():
    def function(x, w):
        return tf.tanh(x) * w[:4] + tf.reduce_sum(x)

    done = Rewritten(function, X, W)
    assert done.calls[0].unchanged and not done.casts()


def test_other_devices():
    def function(x, w):
        with tf.device("CPU:0"):
            y = tf.matmul(x, w)
        return tf.matmul(tf.nn.relu(y), w)

    done = Rewritten(function, X, W).check(TOLERANCE["float16"])
    types = {n.device[-5:]: tf.as_dtype(n.attr["T"].type).name for n in done._of("MatMul")}
    assert types == {"CPU:0": "float32", f"{GPU[1:]}"[-5:]: "float16"}
    assert all(GPU[1:] in n.device for n in done._of("Cast"))


def test_integers_and_doubles():
    def function(x, i, d):
        return tf.matmul(x, x, transpose_b=True), i * 3 + 1, tf.matmul(d, d)

    i = tf.constant(np.arange(5, dtype=np.int64))
    done = Rewritten(function, X, i, tf.cast(W, tf.float64)).check(TOLERANCE["float16"])
    assert sorted(done.types("MatMul")) == ["float16", "float64"]
    assert done.all("Mul", "int64")


def test_random_numbers_are_the_same():
    def function(x, w):
        noise = tf.random.stateless_uniform((4, 8), seed=[1, 2])
        return noise, tf.matmul(tf.matmul(x, w) * noise, w)

    done = Rewritten(function, X, W).check(TOLERANCE["float16"])
    assert np.array_equal(done.result[0], done.plain[0])


def graph_of(function, *arguments):
    """The graph of a function without passes of ours, and what it returns."""
    with tf.device(GPU):
        specs = [tf.TensorSpec(a.shape, a.dtype) for a in arguments]
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    device = f"/job:localhost/replica:0/task:0/device:{spine.device_type()}:0"
    with rewriting.environment(TF_METAL_GRAPPLER="none"):
        return fusions.optimized(fusions.placed(concrete, device), fusions.keep_of(concrete)), (
            fusions.keep_of(concrete)
        )


def rewrite(graph, keep, passes=PASS, to="float16"):
    """The graph after the pass, and what it says of each node."""
    _runtime.call("record_fusions", on=True)
    with rewriting.environment(**{SETTING: to, "TF_METAL_GRAPPLER": passes}):
        result = fusions.optimized(graph, keep, stock=False)
    rows = _runtime.call("recorded_fusions")["precision"]
    _runtime.call("record_fusions", on=False)
    return result, {row["node"]: row for row in rows}


@pytest.mark.parametrize("passes", [PASS, f"remapper,{PASS}"])
def test_preserved_names(passes):
    graph, keep = graph_of(layers, X, W, W2)
    for name in [n.name for n in graph.node if n.op in ("MatMul", "BiasAdd", "Relu")]:
        result, _ = rewrite(graph, [*keep, name], passes)
        (node,) = [n for n in result.node if n.name == name]
        if node.op == "_MetalCluster":
            assert node.attr["Tresults"].list.type[0] == tf.float32.as_datatype_enum
        else:
            assert node.attr["T"].type == tf.float32.as_datatype_enum


def test_it_says_why():
    graph, keep = graph_of(lambda x, w: tf.exp(tf.matmul(x, w)) + x, X, W)
    _, rows = rewrite(graph, keep)
    assert {(row["op"], row["class"], row["converted"]) for row in rows.values()} >= {
        ("MatMul", "allow", True),
        ("Exp", "deny", False),
        ("AddV2", "infer", False),
    }
    assert all(row["why"] for row in rows.values())


@both
def test_numbers_that_the_type_cannot_hold(dtype):
    """Of a mask 0 and -1e9 float16 would make NaN, of an epsilon 0."""

    def function(x, w, mask):
        scores = tf.matmul(x, w) + (1.0 - mask) * -1e9
        y = tf.matmul(tf.nn.softmax(scores), w)
        return tf.matmul(y / (tf.abs(y) + 1e-12), w)

    mask = tf.constant(np.arange(8) < 6, tf.float32)
    done = Rewritten(function, X, W, mask, to=dtype).check(2 * TOLERANCE[dtype])
    assert done.all("Softmax", "float32" if dtype == "float16" else "bfloat16")
    assert done.all("MatMul", dtype)


@both
def test_variables_do_not_lose_small_updates(dtype):
    """Two steps in one graph: the second reads what the first has computed, without a variable in
    between. A weight of 1 plus 1e-4 is 1 in 16 bits."""

    def make():
        with tf.device(GPU):
            v = tf.Variable(tf.eye(8))

        def function(x):
            for _ in range(2):
                y = tf.matmul(tf.matmul(x, v), v)
                v.assign_sub(1e-4 * tf.sign(tf.matmul(x, y, transpose_a=True)))
            return tf.matmul(x, v)

        return v, function

    results = []
    for setting in ("off", dtype):
        v, function = make()
        with rewriting.environment(**{SETTING: setting}):
            rewriting.run(function, tf.abs(X), passes="all")
        results.append(v.numpy())
    assert np.array_equal(*results)
    assert results[0][0, 0] == np.float32(1) - np.float32(1e-4) - np.float32(1e-4)


def test_a_table_is_not_converted_for_its_rows():
    def function(table, i, w):
        return tf.matmul(tf.gather(table, i), w)

    done = Rewritten(function, rng(50, 8), tf.constant([3, 1]), W).check(TOLERANCE["float16"])
    assert done.all("GatherV2", "float32", "Tparams") and done.all("MatMul", "float16")


def test_values_for_other_readers_keep_their_digits():
    def function(x, w):
        y = tf.transpose(x)
        return tf.matmul(y, y, transpose_a=True), y + 1.0

    done = Rewritten(function, X, W)
    assert np.array_equal(done.result[1], done.plain[1])
    assert done.all("Transpose", "float32")


def test_off_is_byte_identical():
    for setting in ("off", "tensorflow", "float8"):
        done = Rewritten(layers, X, W, W2, to=setting)
        assert all(call.unchanged for call in done.calls)
        assert np.array_equal(done.result, done.plain)
    done = Rewritten(
        layers, X, W, W2, to="float16", passes="all,-mixed_precision,-remapper,-cluster"
    )
    assert not done.casts()


@both
@pytest.mark.parametrize("passes", [PASS, f"remapper,{PASS}", "all"])
@pytest.mark.parametrize("function", [layers, lambda x, w, w2: loop(x, w)], ids=["layers", "loop"])
def test_a_second_run_finds_nothing(function, passes, dtype):
    graph, keep = graph_of(function, X, W, W2)
    once, rows = rewrite(graph, keep, passes, dtype)
    assert any(row["converted"] for row in rows.values())
    twice, rows = rewrite(once, keep, passes, dtype)
    assert not any(row["converted"] for row in rows.values())
    assert sorted(map(str, once.node)) == sorted(map(str, twice.node))
