"""The graph pass "rnn": loops over time of standard recurrent cells are one op."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime, reset_stats, stats
from tests import rewriting, spine

OP, PASS = "_MetalRnn", "rnn"
DEVICE = f"/{spine.device_type()}:0"
BATCH, STEPS, FEATURES, UNITS = 3, 7, 5, 6
L = keras.layers
ANY = (None, None, FEATURES)
EPSILON = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def _input(dtype="float32", shape=(BATCH, STEPS, FEATURES)):
    return tf.cast(np.random.default_rng(0).standard_normal(shape), dtype)


def _tolerance(dtype):
    """Sums of K products in another order differ by some sqrt(K) roundings of terms about 1, and
    with 16 bits the loop rounds about as many results in a step; gates have slopes of at most 1, so
    that no step enlarges what the steps before left."""
    return 4 * np.sqrt(FEATURES + UNITS) * EPSILON[dtype] * STEPS


def _run(function, arguments, device, passes, spec=None):
    signature = None if spec is None else [tf.TensorSpec(spec, arguments[0].dtype)]
    with tf.device(device):
        compiled = tf.function(function, autograph=False, input_signature=signature)
        return rewriting.recorded(lambda: compiled(*arguments), passes)


def _count(graphs):
    return sum(calls[-1].count(OP) for calls in graphs)


def _compare(actual, expected, dtype="float32"):
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        a, e = (tf.cast(t, "float64") for t in (a, e))
        size = np.maximum(1, np.abs(np.nan_to_num(e, posinf=1, neginf=1)))
        np.testing.assert_allclose(a / size, e / size, rtol=0, atol=_tolerance(dtype))


def _check(function, *arguments, fires=1, spec=None, dtype="float32"):
    """Compares fused, as a loop, and on the CPU. Where nothing fires, graphs are the same bytes."""
    plain, _ = _run(function, arguments, DEVICE, "none", spec)
    result, graphs = _run(function, arguments, DEVICE, "all" if fires else PASS, spec)
    expected, _ = _run(function, arguments, "CPU:0", "none", spec)
    assert _count(graphs) == fires
    assert fires or all(graph.unchanged for calls in graphs for graph in calls)
    _compare(result, plain, dtype)
    _compare(result, expected, dtype)


# ---- layers ------------------------------------------------------------------------------------


def _layer(kind, **arguments):
    keras.utils.set_random_seed(7)
    layer = getattr(L, kind)(UNITS, **arguments)
    with tf.device(DEVICE):
        layer.build((BATCH, None, FEATURES))
        for weight in layer.trainable_variables:  # the biases, too
            weight.assign(np.random.default_rng(1).standard_normal(weight.shape) * 0.4)
    return layer


LAYERS = {
    "LSTM": {"use_cudnn": False},
    "GRU": {"use_cudnn": False},
    "SimpleRNN": {},
}
ARGUMENTS = {
    "last": {},
    "sequences": {"return_sequences": True},
    "state": {"return_state": True},
    "all": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "no_bias": {"use_bias": False},
}


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [*(("LSTM", name) for name in ARGUMENTS), ("GRU", "no_bias"), ("SimpleRNN", "no_bias")],
)
def test_layers_of_keras(kind, arguments):
    layer = _layer(kind, **LAYERS[kind], **ARGUMENTS[arguments])
    _check(lambda x: layer(x), _input())


@pytest.mark.parametrize("kind", LAYERS)
def test_batches_and_times_of_any_size(kind):
    layer = _layer(kind, **LAYERS[kind], return_sequences=True, return_state=True)
    _check(lambda x: layer(x), _input(shape=(2, 40, FEATURES)), spec=ANY)


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_16_bits(kind, dtype):
    layer = _layer(
        kind, **LAYERS[kind], dtype=dtype, kernel_initializer="zeros", recurrent_initializer="zeros"
    )
    computes = dtype.removeprefix("mixed_")
    _check(lambda x: layer(x), _input(computes), dtype=computes)


def test_relu():
    layer = _layer("SimpleRNN", activation="relu", return_sequences=True)
    _check(lambda x: layer(x), _input(), spec=ANY)


def test_both_directions_and_layers():
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            L.Bidirectional(L.LSTM(UNITS, use_cudnn=False, return_sequences=True)),
            L.GRU(UNITS, use_cudnn=False),
            L.Dense(2),
        ]
    )
    _check(lambda x: model(x), _input(), fires=3, spec=ANY)


def test_initial_state():
    layer = _layer("LSTM", use_cudnn=False, return_state=True)
    h = tf.constant(np.linspace(-1, 1, BATCH * UNITS, dtype="float32").reshape(BATCH, UNITS))
    _check(lambda x, h: layer(x, initial_state=[h, -h]), _input(), h)


def test_stateful():
    stateful = {"use_cudnn": False, "stateful": True}

    def states(device, passes):
        model = keras.Sequential(
            [keras.Input(batch_shape=(BATCH, STEPS, FEATURES)), _layer("LSTM", **stateful)]
        )
        function, x = tf.function(model, autograph=False), _input()
        with tf.device(device):
            return rewriting.recorded(lambda: [function(x) for _ in range(3)], passes)

    result, graphs = states(DEVICE, "all")
    assert _count(graphs) == 1
    _compare(result, states(DEVICE, "none")[0])


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_cells_of_tf_keras(cell):
    tf_keras = pytest.importorskip("tf_keras", reason="not installed")
    layer = tf_keras.layers.RNN(getattr(tf_keras.layers, cell)(UNITS), return_sequences=True)
    with tf.device(DEVICE):
        layer.build((None, None, FEATURES))
    _check(lambda x: layer(x), _input(), spec=ANY)


def test_special_values():
    x = _input().numpy()
    x[0, 1, 2], x[1, 3, 0], x[2, 6, 4] = np.nan, np.inf, -np.inf
    for kind, arguments in LAYERS.items():
        layer = _layer(kind, **arguments, return_sequences=True)
        _check(lambda x, layer=layer: layer(x), tf.constant(x))


def test_predict_and_saved_model(tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), _layer("GRU", use_cudnn=False)])
    expected = model(_input())
    model.compile(jit_compile=False)
    with tf.device(DEVICE):
        _, graphs = rewriting.recorded(lambda: model.predict(_input(), verbose=0), "all")
        assert _count(graphs) == 1
        model.export(tmp_path / "model", verbose=False)
        served = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
        result, graphs = rewriting.recorded(lambda: served(_input()), "all")
    assert _count(graphs) == 1
    _compare(result, [expected])


# ---- loops by hand -----------------------------------------------------------------------------

W, U, B = (
    tf.constant(np.random.default_rng(n).standard_normal(shape) * 0.5, tf.float32)
    for n, shape in enumerate([(FEATURES, UNITS), (UNITS, UNITS), (UNITS,)])
)


def _tanh_cell(x, h, i):
    return tf.tanh(tf.matmul(x, W) + tf.matmul(h, U) + B)


def _loop(
    cell=_tanh_cell, start=0, step=1, limit=None, length=None, read=None, write=None, more=None
):
    """A loop over x, [time, batch, features], from the state h; results: stacked outputs, h."""

    def function(x, h):
        time = tf.shape(x)[0]
        items = tf.TensorArray(x.dtype, time).unstack(x)
        results = tf.TensorArray(
            x.dtype, time if length is None else length, element_shape=(None, UNITS)
        )
        end = time if limit is None else limit

        def body(i, h, results):
            h = cell(items.read(read(i, time) if read else i), h, i)
            return i + step, h, results.write(write(i, time) if write else i, h)

        _, h, results = tf.while_loop(
            lambda i, h, _: more(i, h, end) if more else i < end,
            body,
            (start, h, results),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, UNITS]),
                tf.TensorShape(None),
            ),
        )
        return results.stack(), h

    return function


def _operands(time=STEPS, batch=BATCH, states=None):
    rng = np.random.default_rng(5)
    x = tf.constant(rng.standard_normal((time, batch, FEATURES)), tf.float32)
    return x, tf.constant(rng.standard_normal((states or batch, UNITS)), tf.float32)


def test_loop_by_hand():
    _check(_loop(), *_operands())


def test_steps_fewer_than_elements():
    _check(_loop(limit=4), *_operands())


@pytest.mark.parametrize("shapes", [(4, 1), (1, 4)], ids=["state", "input"])
def test_one_batch_row_serves_for_all(shapes):
    _check(_loop(), *_operands(5, *shapes))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sizes", [(0, BATCH), (STEPS, 0), (0, 0)])
def test_nothing_to_do(sizes, known):
    """Where the list stays empty and nothing says which shape its elements have, it is an error."""

    def hidden(x, h):
        shapes = (x, [None, None, FEATURES]), (h, [None, UNITS])
        return _loop()(*(tf.compat.v1.placeholder_with_default(*pair) for pair in shapes))

    outcomes = []
    for passes in ("none", PASS):
        try:
            operands = _operands(*sizes)
            result, graphs = _run(_loop() if known else hidden, operands, DEVICE, passes)
            outcomes.append([t.numpy().tolist() for t in result])
        except tf.errors.InvalidArgumentError as error:
            assert "element_shape" in error.message
            outcomes.append("error")
    assert outcomes[0] == outcomes[1]
    if sizes != (0, 0):  # there TensorFlow knows no shape either
        assert (outcomes[0] == "error") == (sizes[0] == 0 and not known)


@pytest.mark.parametrize(
    "arguments", [{"limit": STEPS + 1}, {"length": STEPS - 1}], ids=["read", "write"]
)
def test_behind_the_end_of_a_list(arguments):
    for passes in ("none", "all"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="in a list with"):
            _run(_loop(**arguments), _operands(), DEVICE, passes)


def test_batches_that_do_not_fit():
    for passes in ("none", "all"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            _run(_loop(), _operands(STEPS, 2, 3), DEVICE, passes)


def test_inside_of_a_loop_and_of_a_branch():
    def again(x, h):
        return tf.ensure_shape(_loop()(x, h)[1], [BATCH, UNITS])

    def function(x, h):
        def body(i, h):
            return i + 1, tf.cond(i % 2 == 0, lambda: again(x, h), lambda: h * 0.5)

        return tf.while_loop(lambda i, h: i < 3, body, (0, h))[1]

    _check(function, *_operands())


def test_variables_are_read_when_the_loop_would():
    with tf.device(DEVICE):
        u = tf.Variable(U)

    def cell(x, h, i):
        return tf.tanh(tf.matmul(x, W) + tf.matmul(h, u))

    def function(x, h):
        u.assign(U * 0.5)
        first = _loop(cell)(x, h)
        u.assign(U * -0.5)
        return first, _loop(cell)(x, h)

    _check(function, *_operands(), fires=2)


# ---- what must stay a loop ---------------------------------------------------------------------


def _two(x, h, i):
    h = _tanh_cell(x, h, i)
    return tf.tanh(tf.matmul(h, U) + tf.matmul(h, U))


HAND_MADE = {
    "counter": {"cell": lambda x, h, i: _tanh_cell(x, h, i) * tf.cast(i, "float32") * 0.1},
    "start": {"start": 1},
    "step": {"step": 2},
    "backwards": {"read": lambda i, time: time - 1 - i},
    "write backwards": {"write": lambda i, time: time - 1 - i},
    "condition": {"more": lambda i, h, end: (i < end) & (tf.reduce_sum(h) < 1e6)},
    "activation": {"cell": lambda x, h, i: tf.sigmoid(tf.matmul(x, W) + tf.matmul(h, U))},
    "two cells": {"cell": _two},
    "weights of the step": {
        "cell": lambda x, h, i: tf.tanh(tf.matmul(x, W * tf.cast(i, "float32")) + tf.matmul(h, U))
    },
    "transposed": {
        "cell": lambda x, h, i: tf.tanh(tf.matmul(x, W) + tf.matmul(h, U, transpose_b=True))
    },
    "bias of a batch": {
        "cell": lambda x, h, i: tf.tanh(tf.matmul(x, W) + tf.matmul(h, U) + tf.ones([BATCH, 1]))
    },
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_must_not_fire_by_hand(name):
    _check(_loop(**HAND_MADE[name]), *_operands(), fires=0)


KEPT = {
    "activation": lambda: _layer("LSTM", use_cudnn=False, activation="relu"),
    "recurrent activation": lambda: _layer(
        "LSTM", use_cudnn=False, recurrent_activation="hard_sigmoid"
    ),
    "reset before": lambda: _layer("GRU", use_cudnn=False, reset_after=False),
    "product for each gate": lambda: _layer("LSTM", use_cudnn=False, implementation=1),
    "stacked": lambda: L.RNN([L.LSTMCell(UNITS), L.LSTMCell(UNITS)]),
    "linear": lambda: _layer("SimpleRNN", activation=None),
}


@pytest.mark.parametrize("name", KEPT)
def test_must_not_fire(name):
    with tf.device(DEVICE):
        layer = KEPT[name]()
        layer(_input())
    _check(lambda x: layer(x), _input(), fires=0)


def test_must_not_fire_with_a_mask():
    layer = _layer("LSTM", use_cudnn=False)
    mask = tf.constant(np.arange(STEPS) < np.array([[7], [4], [1]]))
    _check(lambda x, mask: layer(x, mask=mask), _input(), mask, fires=0)


def test_must_not_fire_with_recurrent_dropout():
    layer = _layer("LSTM", use_cudnn=False, recurrent_dropout=0.5, seed=1)
    _, graphs = _run(lambda x: layer(x, training=True), [_input()], DEVICE, "all")
    assert _count(graphs) == 0


def test_must_not_fire_in_training():
    layer = _layer("LSTM", use_cudnn=False)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, x)

    _check(gradient, _input(), fires=0)


def test_on_the_cpu():
    layer = _layer("LSTM", use_cudnn=False)
    _, graphs = _run(lambda x: layer(x), [_input()], "CPU:0", "all")
    assert _count(graphs) == 0


# ---- switches, counts, records -----------------------------------------------------------------


@pytest.mark.parametrize("setting", ["-rnn", "-rnn/lstm", "all,-rnn"])
def test_switches(setting):
    layer = _layer("LSTM", use_cudnn=False)
    _, graphs = _run(lambda x: layer(x), [_input()], DEVICE, setting)
    assert _count(graphs) == 0


def test_one_launch_per_sequence():
    steps = 40
    layer = _layer("LSTM", use_cudnn=False, return_sequences=True)
    with tf.device(DEVICE):
        function = tf.function(layer, autograph=False)
        x = _input(shape=(BATCH, steps, FEATURES))
        function(x)
        reset_stats()
        function(x)
        counts = stats()
    assert counts["ops"] <= 10, counts  # reads, transposes, the loop
    assert counts["sync_dtoh"] == 0, counts


def test_says_what_it_did():
    def record(arguments):
        layer = _layer("LSTM", use_cudnn=False, **arguments)
        _runtime.call("record_fusions", on=True)
        _run(lambda x: layer(x), [_input()], DEVICE, "all")
        rows = _runtime.call("recorded_fusions")
        _runtime.call("record_fusions", on=False)
        return rows

    reset_stats()
    fusions = record({})["fusions"]
    assert "lstm" in {row["pattern"] for row in fusions}
    assert stats()["fusions"]["lstm"] == 1
    refusals = record({"activation": "relu"})["refusals"]
    assert {"a step is none of the known cells"} == {
        row["rule"] for row in refusals if row["pattern"] == PASS
    }
