"""The graph pass "rnn": loops over time of standard recurrent cells are one op."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime, reset_stats, stats
from tests import rewriting
from tests.recurrent_loops import (
    ANY,
    BATCH,
    DEVICE,
    FEATURES,
    LAYERS,
    PASS,
    STEPS,
    UNITS,
    L,
    U,
    W,
    check,
    compare,
    count,
    make_input,
    make_layer,
    make_loop,
    make_operands,
    run,
    tanh_cell,
)

# ---- layers ------------------------------------------------------------------------------------


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
    layer = make_layer(kind, **LAYERS[kind], **ARGUMENTS[arguments])
    check(lambda x: layer(x), make_input())


@pytest.mark.parametrize("kind", LAYERS)
def test_batches_and_times_of_any_size(kind):
    layer = make_layer(kind, **LAYERS[kind], return_sequences=True, return_state=True)
    check(lambda x: layer(x), make_input(shape=(2, 40, FEATURES)), spec=ANY)


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_16_bits(kind, dtype):
    layer = make_layer(
        kind, **LAYERS[kind], dtype=dtype, kernel_initializer="zeros", recurrent_initializer="zeros"
    )
    computes = dtype.removeprefix("mixed_")
    check(lambda x: layer(x), make_input(computes), dtype=computes)


def test_relu():
    layer = make_layer("SimpleRNN", activation="relu", return_sequences=True)
    check(lambda x: layer(x), make_input(), spec=ANY)


def test_both_directions_and_layers():
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            L.Bidirectional(L.LSTM(UNITS, use_cudnn=False, return_sequences=True)),
            L.GRU(UNITS, use_cudnn=False),
            L.Dense(2),
        ]
    )
    check(lambda x: model(x), make_input(), fires=3, spec=ANY)


def test_initial_state():
    layer = make_layer("LSTM", use_cudnn=False, return_state=True)
    h = tf.constant(np.linspace(-1, 1, BATCH * UNITS, dtype="float32").reshape(BATCH, UNITS))
    check(lambda x, h: layer(x, initial_state=[h, -h]), make_input(), h)


def test_stateful():
    stateful = {"use_cudnn": False, "stateful": True}

    def states(device, passes):
        model = keras.Sequential(
            [keras.Input(batch_shape=(BATCH, STEPS, FEATURES)), make_layer("LSTM", **stateful)]
        )
        function, x = tf.function(model, autograph=False), make_input()
        with tf.device(device):
            return rewriting.recorded(lambda: [function(x) for _ in range(3)], passes)

    result, graphs = states(DEVICE, "all")
    assert count(graphs) == 1
    compare(result, states(DEVICE, "none")[0])


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_cells_of_tf_keras(cell):
    tf_keras = pytest.importorskip("tf_keras", reason="not installed")
    layer = tf_keras.layers.RNN(getattr(tf_keras.layers, cell)(UNITS), return_sequences=True)
    with tf.device(DEVICE):
        layer.build((None, None, FEATURES))
    check(lambda x: layer(x), make_input(), spec=ANY)


def test_special_values():
    x = make_input().numpy()
    x[0, 1, 2], x[1, 3, 0], x[2, 6, 4] = np.nan, np.inf, -np.inf
    for kind, arguments in LAYERS.items():
        layer = make_layer(kind, **arguments, return_sequences=True)
        check(lambda x, layer=layer: layer(x), tf.constant(x))


def test_predict_and_saved_model(tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), make_layer("GRU", use_cudnn=False)])
    expected = model(make_input())
    model.compile(jit_compile=False)
    with tf.device(DEVICE):
        _, graphs = rewriting.recorded(lambda: model.predict(make_input(), verbose=0), "all")
        assert count(graphs) == 1
        model.export(tmp_path / "model", verbose=False)
        served = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
        result, graphs = rewriting.recorded(lambda: served(make_input()), "all")
    assert count(graphs) == 1
    compare(result, [expected])


# ---- loops by hand -----------------------------------------------------------------------------


def test_loop_by_hand():
    check(make_loop(), *make_operands())


def test_steps_fewer_than_elements():
    check(make_loop(limit=4), *make_operands())


@pytest.mark.parametrize("shapes", [(4, 1), (1, 4)], ids=["state", "input"])
def test_one_batch_row_serves_for_all(shapes):
    check(make_loop(), *make_operands(5, *shapes))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sizes", [(0, BATCH), (STEPS, 0), (0, 0)])
def test_nothing_to_do(sizes, known):
    """Where the list stays empty and nothing says which shape its elements have, it is an error."""

    def hidden(x, h):
        shapes = (x, [None, None, FEATURES]), (h, [None, UNITS])
        return make_loop()(*(tf.compat.v1.placeholder_with_default(*pair) for pair in shapes))

    outcomes = []
    for passes in ("none", PASS):
        try:
            operands = make_operands(*sizes)
            result, graphs = run(make_loop() if known else hidden, operands, DEVICE, passes)
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
            run(make_loop(**arguments), make_operands(), DEVICE, passes)


def test_batches_that_do_not_fit():
    for passes in ("none", "all"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(make_loop(), make_operands(STEPS, 2, 3), DEVICE, passes)


def test_inside_of_a_loop_and_of_a_branch():
    def again(x, h):
        return tf.ensure_shape(make_loop()(x, h)[1], [BATCH, UNITS])

    def function(x, h):
        def body(i, h):
            return i + 1, tf.cond(i % 2 == 0, lambda: again(x, h), lambda: h * 0.5)

        return tf.while_loop(lambda i, h: i < 3, body, (0, h))[1]

    check(function, *make_operands())


def test_variables_are_read_when_the_loop_would():
    with tf.device(DEVICE):
        u = tf.Variable(U)

    def cell(x, h, i):
        return tf.tanh(tf.matmul(x, W) + tf.matmul(h, u))

    def function(x, h):
        u.assign(U * 0.5)
        first = make_loop(cell)(x, h)
        u.assign(U * -0.5)
        return first, make_loop(cell)(x, h)

    check(function, *make_operands(), fires=2)


# ---- what must stay a loop ---------------------------------------------------------------------


def _two(x, h, i):
    h = tanh_cell(x, h, i)
    return tf.tanh(tf.matmul(h, U) + tf.matmul(h, U))


HAND_MADE = {
    "counter": {"cell": lambda x, h, i: tanh_cell(x, h, i) * tf.cast(i, "float32") * 0.1},
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
    check(make_loop(**HAND_MADE[name]), *make_operands(), fires=0)


KEPT = {
    "activation": lambda: make_layer("LSTM", use_cudnn=False, activation="relu"),
    "recurrent activation": lambda: make_layer(
        "LSTM", use_cudnn=False, recurrent_activation="hard_sigmoid"
    ),
    "reset before": lambda: make_layer("GRU", use_cudnn=False, reset_after=False),
    "product for each gate": lambda: make_layer("LSTM", use_cudnn=False, implementation=1),
    "stacked": lambda: L.RNN([L.LSTMCell(UNITS), L.LSTMCell(UNITS)]),
    "linear": lambda: make_layer("SimpleRNN", activation=None),
}


@pytest.mark.parametrize("name", KEPT)
def test_must_not_fire(name):
    with tf.device(DEVICE):
        layer = KEPT[name]()
        layer(make_input())
    check(lambda x: layer(x), make_input(), fires=0)


def test_must_not_fire_with_a_mask():
    layer = make_layer("LSTM", use_cudnn=False)
    mask = tf.constant(np.arange(STEPS) < np.array([[7], [4], [1]]))
    check(lambda x, mask: layer(x, mask=mask), make_input(), mask, fires=0)


def test_must_not_fire_with_recurrent_dropout():
    layer = make_layer("LSTM", use_cudnn=False, recurrent_dropout=0.5, seed=1)
    _, graphs = run(lambda x: layer(x, training=True), [make_input()], DEVICE, "all")
    assert count(graphs) == 0


def test_on_the_cpu():
    layer = make_layer("LSTM", use_cudnn=False)
    _, graphs = run(lambda x: layer(x), [make_input()], "CPU:0", "all")
    assert count(graphs) == 0


# ---- switches, counts, records -----------------------------------------------------------------


@pytest.mark.parametrize("setting", ["-rnn", "-rnn/lstm", "all,-rnn"])
def test_switches(setting):
    layer = make_layer("LSTM", use_cudnn=False)
    _, graphs = run(lambda x: layer(x), [make_input()], DEVICE, setting)
    assert count(graphs) == 0


def test_one_launch_per_sequence():
    steps = 40
    layer = make_layer("LSTM", use_cudnn=False, return_sequences=True)
    with tf.device(DEVICE):
        function = tf.function(layer, autograph=False)
        x = make_input(shape=(BATCH, steps, FEATURES))
        function(x)
        reset_stats()
        function(x)
        counts = stats()
    assert counts["ops"] <= 10, counts  # reads, transposes, the loop
    assert counts["sync_dtoh"] == 0, counts


def test_says_what_it_did():
    def record(arguments):
        layer = make_layer("LSTM", use_cudnn=False, **arguments)
        _runtime.call("record_fusions", on=True)
        run(lambda x: layer(x), [make_input()], DEVICE, "all")
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
