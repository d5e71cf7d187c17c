"""The remapper: patterns fire on real code, not where a rule forbids it, and compute the same.

The code is in tests/fusion_cases.py. What a match must not do is tested for every case, by
changing the graph that TensorFlow made of it: the rules live in the matcher, not in the patterns.
"""

import contextlib
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime, fusions
from tests import commit, fusion_cases, spine

PASSES = "TF_METAL_GRAPPLER"
ONLY = "none,remapper"
CASES = fusion_cases.CASES
by_name = {"argvalues": CASES, "ids": str}


@pytest.fixture(autouse=True)
def only_the_remapper(monkeypatch):
    monkeypatch.setenv(PASSES, ONLY)


@contextlib.contextmanager
def grappler_options(options):
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(options)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(dict.fromkeys(options, True) | before)


def run(case, dtype, device):
    """The results of a case, computed in a new function; stats() are of this alone."""
    tf.keras.utils.set_random_seed(11)
    body, arguments = case.build(dtype)
    metal.reset_stats()  # whether making a variable copies its value is a matter of time
    with grappler_options(case.options), tf.device(device):
        results = tf.function(body, autograph=False)(*arguments)
    return [x.numpy() for x in tf.nest.flatten(results) if x is not None]


def device():
    return f"/{spine.device_type()}:0"


def assert_close(got, wanted, tolerance):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        largest = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)


def assert_same(got, wanted):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


# ---- fires, and computes what it should ---------------------------------------------------------

EPSILON = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}


def check(case, dtype, monkeypatch):
    fused = run(case, dtype, device())
    stats = metal.stats()
    assert stats["fusions"].get(case.pattern, 0) >= case.count, stats["fusions"]
    monkeypatch.setenv(PASSES, "none")
    unfused = run(case, dtype, device())
    assert not metal.stats()["fusions"]
    if case.exact:
        assert_same(fused, unfused)
    else:
        assert_close(fused, unfused, EPSILON[dtype])
    assert stats["encodes"] <= metal.stats()["encodes"]
    return fused


@pytest.mark.parametrize("case", **by_name)
def test_fires_and_computes_the_same(case, monkeypatch):
    fused = check(case, "float32", monkeypatch)
    assert_close(fused, run(case, "float32", "/CPU:0"), 20 * EPSILON["float32"])


REDUCED = [case for case in CASES if case.name in ("Conv2D_gelu", "Dense_gelu", "by_hand", "silu")]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_fires_in_reduced_precision(case, dtype, monkeypatch):
    check(case, dtype, monkeypatch)


def test_every_pattern_has_a_case():
    names = {row["name"] for row in _runtime.call("patterns")["patterns"]}
    assert names == {case.pattern for case in CASES}


# ---- does not fire ------------------------------------------------------------------------------


class Graph:
    """The graph of a case after TensorFlow's own passes, to be changed and remapped."""

    def __init__(self, graph, keep):
        self.graph, self.keep = graph, list(keep)

    def copy(self):
        graph = tf.compat.v1.GraphDef()
        graph.CopyFrom(self.graph)
        return Graph(graph, self.keep)

    def node(self, name):
        return next(node for node in self.graph.node if node.name == name)

    def add(self, op, name, inputs, **types):
        node = self.graph.node.add(op=op, name=name, input=inputs, device=self.graph.node[0].device)
        for attr, value in types.items():
            node.attr[attr].type = value
        return node

    def remap(self):
        """What fused: rows of "pattern", "root" and "nodes"; what did not; and the graph."""
        _runtime.call("record_fusions", on=True)
        result = fusions.optimized(self.graph, self.keep, stock=False)
        record = _runtime.call("recorded_fusions")
        _runtime.call("record_fusions", on=False)
        return record["fusions"], record["refusals"], result


@functools.cache
def traced(case):
    tf.keras.utils.set_random_seed(11)
    body, arguments = case.build("float32")
    with tf.device(device()):
        specs = [tf.TensorSpec(x.shape, x.dtype) for x in arguments]
        call = body if hasattr(body, "get_concrete_function") else tf.function(body)
        concrete = call.get_concrete_function(*specs)
    name = f"/job:localhost/replica:0/task:0/device:{spine.device_type()}:0"
    graph, keep = fusions.placed(concrete, name), fusions.keep_of(concrete)
    return Graph(graph if case.options else fusions.optimized(graph, keep), keep)


@functools.cache
def original(case):
    """The case's graph without fusions, and the largest fusion of its pattern in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSES, "none")
        graph = traced(case)
    rows = [row for row in graph.copy().remap()[0] if row["pattern"] == case.pattern]
    assert rows, "the pattern does not fire on the graph as it is"
    return graph, max(rows, key=lambda row: len(row["nodes"]))


def names_of(row, *fates):
    return [node["name"] for node in row["nodes"] if node["fate"] in fates]


def output_type(node):
    for attr in ("T", "dtype", "DstT"):
        if node.attr[attr].type:
            return node.attr[attr].type
    raise AssertionError(node)


FUSING = [
    case
    for case in CASES
    if case.pattern not in ("pad", "dilation", "transpose", "cast")
    and case.name != "Dense_of_unknown_batch"
]
on_each_graph = pytest.mark.parametrize("case", FUSING, ids=str)


def swallowed(rows, name):
    """Whether a fusion has taken the node inside."""
    return any(name in names_of(row, "inside") for row in rows)


def explained(rows, refusals, row, rule, name):
    """Whether the rule and the node were named, unless something smaller fused instead."""
    named = any(r["rule"].startswith(rule) and r["node"] == name for r in refusals)
    return named or any(r["root"] == row["root"] for r in rows)


@on_each_graph
def test_not_over_a_second_consumer(case):
    graph, row = original(case)
    for name in names_of(row, "inside")[:2]:
        changed = graph.copy()
        changed.add("Identity", "reader", [name], T=output_type(changed.node(name)))
        changed.keep.append("reader")
        rows, refusals, result = changed.remap()
        assert not swallowed(rows, name)
        # Sums and products that others read are not taken apart to begin with.
        if changed.node(name).op not in ("Mul", "AddV2", "AddN"):
            assert explained(rows, refusals, row, "G1", name)
        assert any(node.name == "reader" for node in result.node)


@on_each_graph
def test_not_over_a_preserved_name(case):
    graph, row = original(case)
    for name in names_of(row, "inside")[:2]:
        changed = graph.copy()
        changed.keep.append(name)
        rows, _, result = changed.remap()
        assert not swallowed(rows, name)
        assert any(node.name == name for node in result.node)


@on_each_graph
def test_preserved_roots_and_shared_nodes_keep_their_names(case):
    graph, row = original(case)
    for name in names_of(row, "root", "shared"):
        changed = graph.copy()
        changed.keep.append(name)
        rows, _, result = changed.remap()
        assert any(node.name == name for node in result.node)
        if name == row["root"]:
            assert any(r["root"] == name and len(r["nodes"]) == len(row["nodes"]) for r in rows)


@on_each_graph
def test_not_over_control_edges(case):
    graph, row = original(case)
    for name in names_of(row, "inside", "shared")[:2]:
        for into in (True, False):
            changed = graph.copy()
            if into:
                float32 = tf.float32.as_datatype_enum
                nodes = (n for n in changed.graph.node if n.op == "EnsureShape")
                fed = next(n for n in nodes if n.attr["T"].type == float32)
                changed.add("Abs", "before", [fed.name], T=float32)
                changed.node(name).input.append("^before")
            else:
                changed.add("NoOp", "after", [f"^{name}"])
                changed.keep.append("after")
            rows, refusals, _ = changed.remap()
            assert not any(name in names_of(r, "inside", "shared") for r in rows)
            assert explained(rows, refusals, row, "G2", name)


@on_each_graph
def test_not_across_devices(case):
    graph, row = original(case)
    for name in names_of(row, "inside", "shared", "root")[:2]:
        changed = graph.copy()
        changed.node(name).device = "/job:localhost/replica:0/task:0/device:CPU:0"
        rows, _, _ = changed.remap()
        assert not any(name in names_of(r, "inside", "shared", "root") for r in rows)


@on_each_graph
def test_not_in_float64(case):
    graph, _ = original(case)
    if any(node.op.startswith("FusedBatchNorm") for node in graph.graph.node):
        return  # it has no float64 anywhere
    changed = graph.copy()
    float32, float64 = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
    for node in changed.graph.node:
        for attr in node.attr.values():
            if attr.type == float32:
                attr.type = float64
        if node.op == "Const" and node.attr["value"].tensor.dtype == float32:
            values = tf.make_ndarray(node.attr["value"].tensor).astype(np.float64)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))
    assert not changed.remap()[0]


@on_each_graph
def test_remapping_twice_changes_nothing(case):
    graph, _ = original(case)
    once = graph.copy()
    _, _, result = once.remap()
    again = Graph(result, once.keep)
    assert not again.remap()[0]


def test_not_where_the_sum_broadcasts():
    def body(x, w, z):
        return tf.nn.relu(tf.matmul(x, w) + z)

    specs = [tf.TensorSpec(s) for s in ((1, 8), (8, 4), (5, 4))]
    concrete = tf.function(body).get_concrete_function(*specs)
    _, record = fusions.examine(concrete, spine.device_type())
    assert not record["fusions"]
    assert any("larger shape" in row["rule"] for row in record["refusals"])


def test_convolution_leaves_training_batch_norm_alone():
    def body(x, w, v):
        y = tf.nn.conv2d(x, w, 1, "SAME")
        return tf.compat.v1.nn.fused_batch_norm(y, v, v)[0]

    specs = [tf.TensorSpec(s) for s in ((2, 4, 4, 3), (3, 3, 3, 4), (4,))]
    concrete = tf.function(body).get_concrete_function(*specs)
    _, record = fusions.examine(concrete, spine.device_type())
    assert not record["fusions"]


def test_not_around_a_path_through_another_node():
    """The mean leaves the normalization and comes back in the sum."""

    def body(x, v):
        y, mean, _ = tf.compat.v1.nn.fused_batch_norm(x, v, v)
        return tf.nn.relu(y + tf.broadcast_to(tf.tanh(mean), y.shape))

    specs = [tf.TensorSpec(s) for s in ((2, 4, 4, 3), (3,))]
    concrete = tf.function(body).get_concrete_function(*specs)
    _, record = fusions.examine(concrete, spine.device_type())
    assert not any(row["pattern"] == "batch_norm_training" for row in record["fusions"])
    assert any("comes back" in row["rule"] for row in record["refusals"])


def test_switches(monkeypatch):
    case = next(c for c in CASES if str(c) == "gelu-exact_gelu")
    for setting, fires in (
        ("none,remapper,-remapper/gelu", False),
        ("none,remapper/gelu", True),
        ("none,remapper/mish", False),
        ("all,-remapper", False),
    ):
        monkeypatch.setenv(PASSES, setting)
        metal.reset_stats()
        run(case, "float32", device())
        assert bool(metal.stats()["fusions"].get("gelu")) == fires, setting


# ---- control flow -------------------------------------------------------------------------------


def loop(x, w, b):
    """A product outside whose bias is added inside, and a whole pattern inside."""
    y = x @ w
    return tf.while_loop(
        lambda i, _: i < 3, lambda i, v: (i + 1, tf.nn.gelu((v + y) @ w + b)), (0, x)
    )[1]


def norm(x, b):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, b, b, 1e-3) * (mean + variance)


def branches(x, w, b):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: norm(x, b), lambda: tf.nn.gelu(x @ w + b))


def half_inside(x, w, b):
    """What the root reads is dead in one branch, what others read of the pattern is not."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    positive = tf.reduce_sum(x) > 0
    y = tf.cond(
        positive,
        lambda: tf.nn.batch_normalization(x, mean, variance, b, b, 1e-3) @ w,
        lambda: w[:4] + 1,
    )
    return y + mean


def norms_in_a_loop(x, w, b):
    return tf.while_loop(
        lambda i, _: i < 3, lambda i, v: (i + 1, norm(v @ w, b)), (0, x), maximum_iterations=5
    )[1]


def norm_around_a_loop(x, w, b):
    """What the root adds leaves a loop that the normalized value enters and does not decide."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    y = tf.nn.batch_normalization(x, mean, variance, b, b, 1e-3)
    sums = tf.while_loop(lambda i, *_: i < 3, lambda i, v, z: (i + 1, tf.sin(v + z), z), (0, x, y))[
        1
    ]
    return tf.add(y, tf.reduce_mean(sums, 0)) * tf.reduce_sum(w)


BODIES = [loop, branches, half_inside, norms_in_a_loop, norm_around_a_loop]


@pytest.mark.parametrize("body", BODIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("sign", [1, -1])
def test_control_flow(body, sign, monkeypatch):
    arguments = [sign * abs(fusion_cases.array(4, 8)), 0.3 * fusion_cases.array(8, 8, seed=1)]
    arguments.append(abs(fusion_cases.array(8, seed=2)))
    results = []
    for setting in (ONLY, "none"):
        monkeypatch.setenv(PASSES, setting)
        with tf.device(device()):
            results.append([tf.function(lambda *a: body(*a))(*arguments).numpy()])
    assert_same(*results)
    with tf.device("/CPU:0"):
        assert_close(results[0], [body(*arguments).numpy()], 1e-4)


def test_values_of_a_loop_may_be_shared():
    arguments = [fusion_cases.array(4, 8), fusion_cases.array(8, 8), fusion_cases.array(8)]
    metal.reset_stats()
    with tf.device(device()):
        tf.function(lambda *a: norms_in_a_loop(*a))(*arguments)
    assert metal.stats()["fusions"].get("layer_norm") == 1


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Keras file and a SavedModel of the same network."""
    folder = tmp_path_factory.mktemp("model")
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, 3, activation="gelu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    network.compile("sgd", "sparse_categorical_crossentropy")
    network.save(folder / "model.keras")
    network.export(folder / "saved", verbose=False)
    return folder


def test_command_on_a_keras_file(model, capsys):
    assert fusions.main([str(model / "model.keras")]) == 0
    inference, training = capsys.readouterr().out.split("training step")
    for pattern in ("convolution", "matmul", "pad"):
        assert f"1 x {pattern}" in inference
    assert "near misses" in training and "G1: " in training  # the gradient reads what was padded


def test_command_with_all_passes(model, capsys, monkeypatch):
    monkeypatch.setenv(PASSES, "all")
    assert fusions.main([str(model / "model.keras")]) == 0
    assert "x cluster, of " in capsys.readouterr().out


def test_command_in_another_precision(model, capsys):
    assert fusions.main([str(model / "model.keras"), "--dtype", "mixed_bfloat16"]) == 0
    assert "1 x convolution" in capsys.readouterr().out


def test_command_with_automatic_mixed_precision(model, capsys, monkeypatch):
    monkeypatch.setenv("TF_METAL_MIXED_PRECISION", "off")  # restored after what the command sets
    monkeypatch.setenv(PASSES, "all")
    assert fusions.main([str(model / "model.keras"), "--graph_rewrite=bfloat16"]) == 0
    out = capsys.readouterr().out
    assert "float32 nodes compute with 16 bits" in out
    assert "converted, allow: it is worth it" in out


def test_command_on_a_saved_model(model, capsys):
    assert fusions.main([str(model / "saved")]) == 0
    assert "1 x convolution" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["missing"], ["saved", "--dtype", "float16"], ["text.h5"]])
def test_command_says_what_is_wrong(model, arguments, capsys):
    (model / "text.h5").write_text("no model")
    assert fusions.main([str(model / arguments[0]), *arguments[1:]]) == 2
    said = capsys.readouterr().err
    assert any(word in said.splitlines()[0] for word in (arguments[0], "--dtype"))
    assert len(said.splitlines()) <= 3


# ---- many shapes --------------------------------------------------------------------------------

SWEEP = list(
    itertools.product(
        (1, 2, 7, 33, 200),  # M
        (1, 3, 64, 1000, 8192),  # K
        (1, 5, 128, 2048),  # N
        ("float32", "float16", "bfloat16"),
        (None, "relu", "gelu", "silu", "mish", "softmax", "leaky_relu"),
    )
)
SLICE = 12


def slice_of_the_sweep():
    """Another one with each commit."""
    chosen = np.random.default_rng(commit.number()).choice(len(SWEEP), SLICE, replace=False)
    return [SWEEP[i] for i in chosen]


def check_product(m, k, n, dtype, activation, monkeypatch):
    build = fusion_cases.call_of(
        fusion_cases.layer(tf.keras.layers.Dense, n, activation=activation), shape=(m, k)
    )
    case = fusion_cases.Case("sweep", "matmul", build)
    fused = check(case, dtype, monkeypatch)
    if dtype == "float32":
        cpu = run(case, dtype, "/CPU:0")
        assert_close(fused, cpu, 4 * np.sqrt(k) * 2**-20)


@pytest.mark.parametrize("m, k, n, dtype, activation", slice_of_the_sweep())
def test_slice_of_the_sweep(m, k, n, dtype, activation, monkeypatch):
    check_product(m, k, n, dtype, activation, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("m, k, n, dtype, activation", SWEEP)
def test_sweep(m, k, n, dtype, activation, monkeypatch):
    check_product(m, k, n, dtype, activation, monkeypatch)
