"""Automatic mixed precision and recurrent kernels: they are converted with their gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tensorflow_metal_py import _runtime
from tests import rewriting
from tests.reduced_graphs import DTYPES, GPU, PASS, SETTING, TOLERANCE, Rewritten, rng

L, R = keras.layers, tf.raw_ops
X = rng(4, 7, 5)
UNITS = 6
REMOVED = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE"
both = pytest.mark.parametrize("dtype", DTYPES)
KINDS = {"LSTM": L.LSTM, "GRU": L.GRU}
kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind, **options):
    keras.utils.set_random_seed(1)
    with tf.device(GPU):
        layer = KINDS[kind](UNITS, return_sequences=True, **options)
        layer.build(X.shape)
    return layer


def with_gradient(layer):
    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * y)
        return [y, loss, *tape.gradient(loss, [x, *layer.trainable_variables])]

    return function


def inputs_of(done, op):
    (node,) = [n for n in done.graph.node if n.op == op]
    return [name.split(":")[0] for name in node.input]


# ---- CudnnRNN -----------------------------------------------------------------------------------


@both
@kinds
def test_layer_and_gradient_are_converted_whole(kind, dtype):
    done = Rewritten(with_gradient(make(kind)), X, to=dtype).check(2 * TOLERANCE[dtype])
    for op in ("CudnnRNNV3", "CudnnRNNBackpropV3"):
        assert done.all(op, dtype)
    # What the layer has kept goes to the gradient as it is: outputs and reserve spaces.
    (forward,) = [n.name for n in done.graph.node if n.op == "CudnnRNNV3"]
    assert inputs_of(done, "CudnnRNNBackpropV3").count(forward) == 5


@both
@kinds
def test_inference(kind, dtype):
    layer = make(kind)
    done = Rewritten(lambda x: layer(x), X, to=dtype).check(TOLERANCE[dtype])
    assert done.all("CudnnRNNV3", dtype)


@both
@kinds
@pytest.mark.parametrize("kept", ["CudnnRNNV3", "CudnnRNNBackpropV3"])
def test_reserve_spaces_are_never_cast(kind, dtype, kept):
    """They hold float32 in elements of any type: if one side stays, so does the other."""
    function = with_gradient(make(kind))
    done = Rewritten(function, X, to=dtype, **{REMOVED: kept}).check(TOLERANCE[dtype])
    for op in ("CudnnRNNV3", "CudnnRNNBackpropV3"):
        assert done.all(op, "float32")


@both
@kinds
def test_gradient_in_another_function(kind, dtype):
    """The reserve space is a result of one and an argument of the other, both of float32."""
    layer = make(kind)
    results = []
    for setting in ("off", dtype):
        with rewriting.environment(**{SETTING: setting}), tf.device(GPU):
            function = tf.function(lambda x: layer(x))
            with tf.GradientTape() as tape:
                tape.watch(X)
                y = function(X)
                loss = tf.reduce_sum(y * y)
            results.append([y, *tape.gradient(loss, [X, *layer.trainable_variables])])
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)


@both
@kinds
def test_loops_that_became_one_op(kind, dtype):
    """What is kept for the gradient is float32 and stays so, and so do the gradients of weights."""
    function = with_gradient(make(kind, use_cudnn=False))
    done = Rewritten(function, X, to=dtype, passes=f"rnn,{PASS}").check(2 * TOLERANCE[dtype])
    assert done.all("_MetalRnn", dtype)
    assert done.all("_MetalRnnGrad", dtype)
    assert done.all("_MetalRnnGrad", "float32", attr="D")
    (forward,) = [n.name for n in done.graph.node if n.op == "_MetalRnn"]
    assert forward in inputs_of(done, "_MetalRnnGrad")


# ---- cells --------------------------------------------------------------------------------------

STEPS, BATCH = 4, 3
Z = tf.zeros(UNITS)
WEIGHTS, BIAS, STATE = 0.4 * rng(5 + UNITS, 4 * UNITS), 0.1 * rng(4 * UNITS), rng(BATCH, UNITS)
ROWS = rng(STEPS, BATCH, 5, seed=4)


def block_lstm(x, w, b, c):
    length = tf.constant(STEPS, tf.int64)
    rest = {"seq_len_max": length, "x": x, "cs_prev": c, "h_prev": 0.5 * c, "w": w, "b": b}
    rest |= {"wci": Z, "wcf": Z, "wco": Z}
    y = R.BlockLSTM(**rest)
    kept = {name: getattr(y, name) for name in ("i", "cs", "f", "o", "ci", "co", "h")}
    g = R.BlockLSTMGrad(
        **rest, **kept, cs_grad=tf.zeros_like(y.cs), h_grad=2 * y.h, use_peephole=False
    )
    return y.h, g.x_grad, g.w_grad, g.b_grad


def lstm_cells(x, w, b, c):
    h = 0.5 * c
    for step in range(STEPS):
        y = R.LSTMBlockCell(x=x[step], cs_prev=c, h_prev=h, w=w, wci=Z, wcf=Z, wco=Z, b=b)
        c, h = y.cs, y.h
    return c, h


def gru_cells(x, w, b, c):
    h = c
    for step in range(STEPS):
        h = R.GRUBlockCell(
            x=x[step], h_prev=h, w_ru=w[:, : 2 * UNITS], w_c=w[:, 2 * UNITS : 3 * UNITS],
            b_ru=b[: 2 * UNITS], b_c=b[:UNITS],
        ).h  # fmt: skip
    return h


CELLS = {
    "BlockLSTM": block_lstm, "BlockLSTMGrad": block_lstm, "LSTMBlockCell": lstm_cells,
    "GRUBlockCell": gru_cells,
}  # fmt: skip


@both
@pytest.mark.parametrize("op", CELLS)
def test_block_cells(op, dtype):
    """In the types that TensorFlow has defined them for: no bfloat16, and GRUs in float32 only."""
    done = Rewritten(CELLS[op], ROWS, WEIGHTS, BIAS, STATE, to=dtype).check(TOLERANCE[dtype])
    defined = dtype == "float16" and op != "GRUBlockCell"
    assert done.all(op, dtype if defined else "float32")
    if not defined:
        np.testing.assert_array_equal(*(tf.nest.flatten(x)[0] for x in (done.result, done.plain)))


# ---- loops --------------------------------------------------------------------------------------


@both
@kinds
def test_loops(kind, dtype):
    """Without cuDNN a layer is a loop of products, which are converted, gradients included."""
    function = with_gradient(make(kind, use_cudnn=False))
    done = Rewritten(function, X, to=dtype).check(3 * TOLERANCE[dtype])
    assert dtype in done.types("MatMul")


# ---- training -----------------------------------------------------------------------------------


def losses(kind, use_cudnn, setting):
    keras.utils.set_random_seed(5)
    x = rng(16, 7, 5)
    y = tf.tanh(tf.reduce_sum(x[:, ::2], (1, 2)))[:, None]
    with rewriting.environment(**{SETTING: setting}), tf.device(GPU):
        model = keras.Sequential(
            [keras.Input((7, 5)), KINDS[kind](8, use_cudnn=use_cudnn), L.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model.fit(x, y, 8, 10, verbose=0, shuffle=False).history["loss"]


@both
@kinds
@pytest.mark.parametrize("use_cudnn", ["auto", False])
def test_twenty_steps(kind, use_cudnn, dtype):
    exact, reduced = (losses(kind, use_cudnn, setting) for setting in ("off", dtype))
    assert exact[-1] < 0.9 * exact[0]
    assert exact != reduced
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(reduced, exact, rtol=0, atol=tolerance * exact[0])


def test_classes():
    classes = _runtime.call("precision_classes")
    for op in ("CudnnRNNV3", "CudnnRNNBackpropV3", *CELLS):
        assert classes[op] == "allow"
    assert "CudnnRNNParamsToCanonical" not in classes
