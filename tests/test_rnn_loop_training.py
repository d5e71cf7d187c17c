"""The graph pass "rnn" in training: a loop over time and its gradient are one op each."""

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
    B,
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

GRADIENT = "_MetalRnnGrad"


def with_gradient(function, variables=()):
    """Also returns the gradients of a loss of all results, by arguments and variables."""

    def compute(*arguments):
        with tf.GradientTape() as tape:
            tape.watch([*arguments, *variables])
            results = tf.nest.flatten(function(*arguments))
            loss = sum(
                tf.reduce_sum(tf.cast(y, "float32") ** 2 * (i + 1)) for i, y in enumerate(results)
            )
        sources = [*arguments, *variables]
        return [*results, *tape.gradient(loss, sources, unconnected_gradients="zero")]

    return compute


def check_gradient(function, *arguments, variables=(), fires=1, gradients=None, **settings):
    """As `check`, gradients included; how many loops and gradients of loops become an op."""
    compute = with_gradient(function, variables)
    check(compute, *arguments, fires=fires, **settings)
    _, graphs = run(compute, arguments, DEVICE, "all", settings.get("spec"))
    expected = fires if gradients is None else gradients
    assert sum(calls[-1].count(GRADIENT) for calls in graphs) == expected
    if fires:
        assert sum(calls[-1].count("LoopCond") for calls in graphs) == 0


def check_layer(function, *arguments, variables=None, **settings):
    """Gradients of the variables of a layer, too: of the function, unless it is given."""
    variables = [v.value for v in (variables or function).trainable_variables]
    check_gradient(lambda *x: function(*x), *arguments, variables=variables, **settings)


# ---- layers ------------------------------------------------------------------------------------

ARGUMENTS = {
    "last": {},
    "sequences": {"return_sequences": True},
    "all": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "no_bias": {"use_bias": False, "return_state": True},
}


def test_only_states_matter():
    """An encoder: its outputs have no gradient, which is zeros like their list."""
    layer = make_layer("LSTM", use_cudnn=False, return_sequences=True, return_state=True)
    check_layer(lambda x: layer(x)[1:], make_input(), variables=layer)
    check_layer(lambda x: layer(x)[2], make_input(), variables=layer, spec=ANY)


SHAPES = {"static": None, "any": ANY}


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_keras(kind, arguments, shapes):
    layer = make_layer(kind, **LAYERS[kind], **ARGUMENTS[arguments])
    check_layer(layer, make_input(), spec=SHAPES[shapes])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_16_bits(kind, dtype):
    layer = make_layer(
        kind,
        **LAYERS[kind],
        dtype=dtype,
        return_sequences=True,
        kernel_initializer="zeros",
        recurrent_initializer="zeros",
    )
    computes = dtype.removeprefix("mixed_")
    check_layer(layer, make_input(computes), dtype=computes, spec=ANY)


def test_gradients_of_weights_are_summed_in_float32():
    """Under a mixed policy the loop adds each step's to a sum of 32 bits: it may leave float16."""
    layer = make_layer("SimpleRNN", dtype="mixed_float16", activation="relu")
    weights = [v.value for v in layer.trainable_variables]

    def function(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        scale = tf.fill(tf.shape(y), tf.constant(6e4, y.dtype))
        return tape.gradient(y, weights, scale)

    x = tf.cast(np.abs(make_input(shape=(64, STEPS, FEATURES))), "float16")
    result, graphs = run(function, [x], DEVICE, "all")
    assert sum(calls[-1].count(GRADIENT) for calls in graphs) == 1
    assert all(np.isfinite(gradient).all() for gradient in result)
    assert max(np.abs(gradient).max() for gradient in result) > np.finfo("float16").max


def test_relu():
    layer = make_layer("SimpleRNN", activation="relu", return_sequences=True)
    check_layer(layer, make_input(), spec=ANY)


def test_both_directions_and_layers():
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            L.Bidirectional(L.LSTM(UNITS, use_cudnn=False, return_sequences=True)),
            L.GRU(UNITS, use_cudnn=False),
            L.Dense(2),
        ]
    )
    check_layer(model, make_input(), fires=3, spec=ANY)


def test_initial_state():
    layer = make_layer("LSTM", use_cudnn=False, return_state=True)
    h = tf.constant(np.linspace(-1, 1, BATCH * UNITS, dtype="float32").reshape(BATCH, UNITS))
    check_layer(lambda x, h: layer(x, initial_state=[h, h * 0.5]), make_input(), h, variables=layer)


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_cells_of_tf_keras(cell):
    tf_keras = pytest.importorskip("tf_keras", reason="not installed")
    layer = tf_keras.layers.RNN(getattr(tf_keras.layers, cell)(UNITS), return_sequences=True)
    with tf.device(DEVICE):
        layer.build((None, None, FEATURES))
    variables = layer.trainable_variables
    check_gradient(lambda x: layer(x), make_input(), variables=variables, spec=ANY)


@pytest.mark.parametrize(
    ("kind", "activation"), [*((kind, "tanh") for kind in LAYERS), ("SimpleRNN", "relu")]
)
def test_special_values(kind, activation):
    """A batch row with NaN or infinity spoils the gradients that it reaches, and no others."""
    x = make_input().numpy()
    x[0, 1, 2], x[1, 3, 0] = np.nan, np.inf
    layer = make_layer(kind, **LAYERS[kind], activation=activation, return_sequences=True)
    check_gradient(lambda x: layer(x), tf.constant(x))


def test_nobody_asks_for_the_gradient_of_the_input():
    layer = make_layer("LSTM", use_cudnn=False)
    variables = [v.value for v in layer.trainable_variables]

    def function(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, variables)

    check(function, make_input())
    _, graphs = run(function, [make_input()], DEVICE, "all")
    (node,) = [n for n in graphs[0][-1].after.node if n.op == GRADIENT]
    assert not node.attr["input_gradient"].b


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", LAYERS)
def test_fit_trains_as_the_loop_does(kind, optimizer):
    x = np.random.default_rng(0).standard_normal((32, STEPS, FEATURES)).astype("float32")
    y = np.tanh(x.sum(axis=(1, 2)))[:, None]

    def losses(passes):
        keras.utils.set_random_seed(3)
        with rewriting.environment(TF_METAL_GRAPPLER=passes), tf.device(DEVICE):
            layer = getattr(L, kind)(UNITS, **LAYERS[kind])
            model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer, L.Dense(1)])
            model.compile(optimizer, "mse", jit_compile=False)
            # The last batch is a smaller one.
            fit = model.fit(x, y, batch_size=12, epochs=5, shuffle=False, verbose=0)
        return fit.history["loss"]

    reset_stats()
    fused = losses("all")
    assert sum(stats()["fusions"].get(name, 0) for name in ("lstm", "gru", "simple_rnn")) > 0
    np.testing.assert_allclose(fused, losses("none"), rtol=1e-5)


def test_several_steps_in_one_execution():
    """Training steps in a loop of their own, around those over time."""
    x = np.random.default_rng(0).standard_normal((24, STEPS, FEATURES)).astype("float32")

    def losses(passes):
        keras.utils.set_random_seed(3)
        with tf.device(DEVICE):
            layer = L.GRU(UNITS, use_cudnn=False)
            model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer, L.Dense(1)])
            model.compile("sgd", "mse", jit_compile=False, steps_per_execution=3)
            fit, graphs = rewriting.recorded(
                lambda: model.fit(x, x[:, 0, :1], batch_size=4, epochs=2, shuffle=False, verbose=0),
                passes,
            )
        return fit.history["loss"], sum(calls[-1].count(GRADIENT) for calls in graphs)

    fused, fired = losses("all")
    assert fired > 0
    np.testing.assert_allclose(fused, losses("none")[0], rtol=1e-5)


def test_launches_do_not_grow_with_the_sequence():
    def counts(steps):
        layer = make_layer("LSTM", use_cudnn=False)
        variables = [v.value for v in layer.trainable_variables]
        function = tf.function(with_gradient(lambda x: layer(x), variables), autograph=False)
        x = make_input(shape=(BATCH, steps, FEATURES))
        with tf.device(DEVICE):
            function(x)
            reset_stats()
            function(x)
        return stats()

    short, long = counts(10), counts(40)
    assert short["ops"] == long["ops"] <= 40
    assert long["sync_dtoh"] == 0


# ---- loops by hand -----------------------------------------------------------------------------


def test_loop_by_hand():
    check_gradient(make_loop(), *make_operands())


def test_steps_fewer_than_elements():
    check_gradient(make_loop(limit=4), *make_operands())


def test_more_outputs_than_steps():
    check_gradient(make_loop(limit=4, length=STEPS + 3), *make_operands())


@pytest.mark.parametrize("shapes", [(4, 1), (1, 4)], ids=["state", "input"])
def test_one_batch_row_serves_for_all(shapes):
    operands = make_operands(5, *shapes)

    def hidden(x, h):  # how many rows there are
        shapes = (x, [None, None, FEATURES]), (h, [None, UNITS])
        return make_loop()(*(tf.compat.v1.placeholder_with_default(*pair) for pair in shapes))

    check_gradient(hidden, *operands)


@pytest.mark.parametrize("sizes", [(0, BATCH), (STEPS, 0)])
def test_nothing_to_do(sizes):
    check_gradient(make_loop(), *make_operands(*sizes))


def test_weights_of_the_graph_around():
    """No variables: the gradient takes them from outside of both loops."""

    def function(x, h, w, u, b):
        w, u = w * 0.5, u * 0.5

        def cell(x, h, i):
            return tf.tanh(tf.matmul(x, w) + tf.matmul(h, u) + b)

        return make_loop(cell)(x, h)

    check_gradient(function, *make_operands(), W, U, B)


def test_bias_added_to_one_product():
    def function(x, h, b):
        def cell(x, h, i):
            return tf.tanh(tf.nn.bias_add(tf.matmul(x, W), b) + tf.matmul(h, U))

        return make_loop(cell)(x, h)

    check_gradient(function, *make_operands(), B)


def test_variables_are_read_before_they_are_updated():
    with tf.device(DEVICE):
        u = tf.Variable(U)

    def cell(x, h, i):
        return tf.tanh(tf.matmul(x, W) + tf.matmul(h, u))

    def function(x, h):
        u.assign(U * 0.5)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(make_loop(cell)(x, h)[0] ** 2)
        u.assign(U * 3)
        return tape.gradient(loss, u), u + 0.0

    check(function, *make_operands())


# ---- what must stay loops ----------------------------------------------------------------------


@tf.custom_gradient
def _halved(x):
    return tf.identity(x), lambda dy: dy * 0.5


@tf.custom_gradient
def _clipped(x):
    return tf.identity(x), lambda dy: tf.clip_by_value(dy, -0.01, 0.01)


@tf.custom_gradient
def _far_away(x):
    def gradient(dy):
        for _ in range(300):
            dy = tf.abs(dy) * 0.5 + dy * 0.5
        return dy

    return tf.identity(x), gradient


@tf.custom_gradient
def _slower_tanh(x):
    y = tf.tanh(x)
    return y, lambda dy: dy * (1 - y * y) * 0.9


def _cell_with(change):
    return lambda x, h, i: change(tf.tanh(tf.matmul(x, W) + tf.matmul(h, U) + B))


CELLS = {
    "half of the gradient": _cell_with(_halved),
    "clipped": _cell_with(_clipped),
    "many ops": _cell_with(_far_away),
    "another tanh": lambda x, h, i: _slower_tanh(tf.matmul(x, W) + tf.matmul(h, U)),
    "gradient of the input": lambda x, h, i: tf.tanh(tf.matmul(_halved(x), W) + tf.matmul(h, U)),
    "stopped": lambda x, h, i: tf.tanh(tf.matmul(x, W) + tf.matmul(tf.stop_gradient(h), U)),
}


@pytest.mark.parametrize("name", CELLS)
def test_must_not_fire_with_another_gradient(name):
    """The forward loop is the cell, its gradient is not."""
    check_gradient(make_loop(CELLS[name]), *make_operands(), fires=0)


def test_must_not_fire_for_gradients_of_gradients():
    def function(x, h):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(make_loop()(x, h)[1] ** 2)
            penalty = tf.reduce_sum(tape.gradient(loss, x) ** 2)
        return outer.gradient(penalty, x)

    plain, _ = run(function, make_operands(), DEVICE, "none")
    result, graphs = run(function, make_operands(), DEVICE, "all")
    assert count(graphs) == 0
    compare(result, plain)


def test_must_not_fire_when_a_branch_asks_for_the_gradient():
    def function(x, h):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(make_loop()(x, h)[0] ** 2)
        return tf.cond(loss > 0, lambda: tape.gradient(loss, x), lambda: x)

    plain, _ = run(function, make_operands(), DEVICE, "none")
    result, _ = run(function, make_operands(), DEVICE, "all")
    compare(result, plain)


@pytest.mark.parametrize("persistent", [True, False])
def test_must_not_fire_for_two_gradients(persistent):
    """The second is also that of what the loop keeps for the first."""

    def function(x, h):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, h])
            outputs, last = make_loop()(x, h)
            losses = tf.reduce_sum(outputs**2), tf.reduce_sum(tf.sin(last))
        gradient = tape.gradient if persistent else tf.gradients
        return [gradient(loss, [x, h]) for loss in losses]

    check(function, *make_operands(), fires=0)


def test_gradient_in_another_function():
    """An eager tape calls forward and backward function apart: what is kept leaves the graph."""
    layer = make_layer("LSTM", use_cudnn=False)
    variables = [v.value for v in layer.trainable_variables]

    def gradients(passes):
        function = tf.function(layer, autograph=False)

        def body():
            with tf.device(DEVICE), tf.GradientTape() as tape:
                loss = tf.reduce_sum(function(make_input()) ** 2)
            with tf.device(DEVICE):
                return tape.gradient(loss, variables)

        return rewriting.recorded(body, passes)[0]

    compare(gradients("all"), gradients("none"))


def test_says_why_not():
    def refusals(cell):
        _runtime.call("record_fusions", on=True)
        run(with_gradient(make_loop(cell)), make_operands(), DEVICE, "all")
        rows = _runtime.call("recorded_fusions")
        _runtime.call("record_fusions", on=False)
        return {row["rule"] for row in rows["refusals"] if row["pattern"] == PASS}

    assert "a step of its gradient is not that of the cell" in refusals(_cell_with(_halved))
    assert refusals(tanh_cell) == set()


@pytest.mark.parametrize("setting", ["-rnn", "-rnn/simple_rnn"])
def test_switches(setting):
    _, graphs = run(with_gradient(make_loop()), make_operands(), DEVICE, setting)
    assert count(graphs) == 0
