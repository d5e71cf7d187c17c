"""Recurrent layers: the CudnnRNN ops against a loop of TensorFlow's CPU ops, and Keras layers on
the device against the same layers on the CPU."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import rnn_reference, spine
from tests.rnn_reference import GATES, Model

TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
RAW = tf.raw_ops


def _gpu():
    return tf.device(f"/{spine.device_type()}:0")


# ---- the ops -----------------------------------------------------------------------------------


def _call(model, x, h, c, parameters, version=3, **attributes):
    op = {1: RAW.CudnnRNN, 2: RAW.CudnnRNNV2, 3: RAW.CudnnRNNV3}[version]
    arguments = {**model.attributes(), "is_training": True, **attributes}
    if version == 3:
        lengths = tf.constant(model.lengths or [model.steps] * model.batch, tf.int32)
        arguments.update(
            sequence_lengths=lengths, time_major=model.time_major, num_proj=model.projection
        )
    c = tf.zeros([], x.dtype) if c is None else c
    return op(input=x, input_h=h, input_c=c, params=parameters, **arguments)


def _inputs(model, dtype):
    rng = np.random.default_rng(7)

    def make(shape, scale=1.0):
        with tf.device("/CPU:0"):
            return tf.constant(rng.standard_normal(shape) * scale, dtype)

    return [
        make(model.input_shape()),
        make(model.state_shape(model.output), 0.5),
        make(model.state_shape(model.units), 0.5) if model.mode == "lstm" else None,
        make([model.parameters()], 0.6 / max(1, model.units) ** 0.5),
    ]


def _results(run, inputs):
    """Outputs, and the gradients of a weighted sum of them."""
    given = [t for t in inputs if t is not None]
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs = list(run(*inputs))[: 3 if inputs[2] is not None else 2]
    seeds = [np.cos(np.arange(y.shape.num_elements())).reshape(y.shape) for y in outputs]
    seeds = [tf.constant(s, y.dtype) for s, y in zip(seeds, outputs, strict=True)]
    gradients = tape.gradient(outputs, given, seeds, unconnected_gradients="zero")
    return [t.numpy().astype(np.float64) for t in outputs + gradients]


def _check(model, dtype, version=3, wrap=lambda f: f):
    inputs = _inputs(model, dtype)
    with tf.device("/CPU:0"):
        wide = [t if t is None else tf.cast(t, tf.float64) for t in inputs]
        expected = _results(lambda *a: rnn_reference.run(model, *a), wide)
    with _gpu():
        on_device = [t if t is None else tf.identity(t) for t in inputs]
        actual = _results(wrap(lambda *a: _call(model, *a, version=version)), on_device)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


_SETTINGS = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "layers": {"layers": 3},
    "batch major": {"layers": 2, "bidirectional": True, "time_major": False},
    "lengths": {"lengths": (3, 5)},
    "empty sequence": {"lengths": (0, 5), "bidirectional": True, "layers": 2},
    "skip_input": {"inputs": 4, "input_mode": "skip_input", "bidirectional": True, "layers": 2},
    "auto_select": {"inputs": 4, "input_mode": "auto_select", "time_major": False},
    "auto_select linear": {"input_mode": "auto_select"},
    "one step": {"steps": 1},
    "no steps": {"steps": 0},
    "no batch": {"batch": 0},
    "no inputs": {"inputs": 0},
    "odd": {
        **{"units": 37, "inputs": 19, "batch": 9, "layers": 2, "bidirectional": True},
        **{"time_major": False, "lengths": (1, 2, 3, 4, 5, 5, 0, 2, 5)},
    },
}
_PROJECTIONS = [
    {"projection": 2},
    {"projection": 3, "layers": 2, "bidirectional": True, "lengths": (2, 4)},
    {"projection": 4, "time_major": False},
]


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("setting", _SETTINGS)
def test_against_loop(mode, setting):
    _check(Model(mode=mode, **_SETTINGS[setting]), "float32")


@pytest.mark.parametrize("setting", _PROJECTIONS, ids=str)
def test_projection(setting):
    _check(Model(**setting), "float32")


@pytest.mark.parametrize("dtype", spine.REDUCED)
@pytest.mark.parametrize("mode", GATES)
def test_reduced_precision(mode, dtype):
    _check(Model(mode=mode, layers=2, bidirectional=True, lengths=(3, 5)), dtype)


@pytest.mark.parametrize("dtype", spine.FLOATS)
@pytest.mark.parametrize("version", [1, 2])
def test_earlier_versions(version, dtype):
    _check(Model(layers=2), dtype, version)
    _check(Model(mode="gru", bidirectional=True), dtype, version)


def test_in_function():
    _check(Model(layers=2, lengths=(2, 5)), "float32", wrap=tf.function)


def test_twice_is_equal_bit_for_bit():
    model = Model(units=64, inputs=32, batch=16, steps=8, layers=2, bidirectional=True)
    with _gpu():
        inputs = [tf.identity(t) for t in _inputs(model, "float32")]
        first, second = (_results(lambda *a: _call(model, *a), inputs) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inference_equals_training():
    model = Model(layers=2, lengths=(2, 5))
    with _gpu():
        inputs = _inputs(model, "float32")
        training = _call(model, *inputs, dropout=0.0)
        inference = _call(model, *inputs, is_training=False, dropout=0.5)
        for a, b in zip(training[:3], inference[:3], strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert inference.reserve_space.shape == []


def _identity_layers(units, batch, steps):
    """Two layers whose outputs are their inputs if these are positive."""
    model = Model("rnn_relu", 2, units=units, inputs=units, batch=batch, steps=steps)
    model = dataclasses.replace(model, input_mode="skip_input")
    weights = [np.zeros(shape) for shape in model.weight_shapes()]
    weights[2] = np.eye(units)  # input weights of the second layer
    parameters = [*(w.ravel() for w in weights), np.zeros(model.bias_count() * units)]
    return model, np.concatenate(parameters)


@pytest.mark.parametrize("dtype", spine.FLOATS)
def test_dropout(dtype):
    model, parameters = _identity_layers(units=16, batch=8, steps=10)
    with _gpu():
        x = tf.ones(model.input_shape(), dtype)
        h = tf.zeros(model.state_shape(model.units), dtype)
        parameters = tf.constant(parameters, dtype)

        def run(seed):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = _call(model, x, h, None, parameters, dropout=0.25, seed=seed)[0]
            return y.numpy(), tape.gradient(y, x).numpy()

        results = [run(1), run(1), run(2)]
    for y, gradient in results:
        np.testing.assert_array_equal(y, gradient)  # backward pass: the same mask
        kept = y != 0
        assert abs(kept.mean() - 0.75) < 0.05
        np.testing.assert_allclose(y[kept].astype(np.float32), 1 / 0.75, rtol=1e-2)
    masks = [y for y, _ in results]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


# ---- parameters --------------------------------------------------------------------------------


def _sizes(model):
    return {
        **{"num_layers": model.layers, "num_units": model.units, "input_size": model.inputs},
        **model.attributes(),
    }


_MODELS = [
    *(Model(mode=mode, layers=2, units=3, inputs=5) for mode in GATES),
    Model(layers=2, bidirectional=True, units=3, inputs=5),
    Model(layers=2, bidirectional=True, units=5, projection=3),
    Model(mode="gru", units=3, inputs=3, input_mode="skip_input", layers=2),
]


@pytest.mark.parametrize("dtype", spine.FLOATS)
@pytest.mark.parametrize("model", _MODELS, ids=lambda m: f"{m.mode}-{m.bidirectional}")
def test_canonical_form(model, dtype):
    with _gpu():
        if not model.projection:  # this op has no attribute for it
            for index in (tf.int32, tf.int64):
                size = RAW.CudnnRNNParamsSize(**_sizes(model), T=dtype, S=index)
                assert (size.dtype, size.numpy().tolist()) == (index, [model.parameters()])
        parameters = tf.cast(tf.range(model.parameters()) % 127, dtype)
        weights, biases = RAW.CudnnRNNParamsToCanonicalV2(
            **_sizes(model),
            params=parameters,
            num_params_weights=len(model.weight_shapes()),
            num_params_biases=model.bias_count(),
            num_proj=model.projection,
        )
        back = RAW.CudnnRNNCanonicalToParamsV2(
            **_sizes(model), weights=weights, biases=biases, num_proj=model.projection
        )
    np.testing.assert_array_equal(back.numpy(), parameters.numpy())
    assert [tuple(w.shape) for w in weights] == model.weight_shapes()
    assert [tuple(b.shape) for b in biases] == [(model.units,)] * model.bias_count()
    pieces = np.concatenate([t.numpy().ravel() for t in [*weights, *biases]])
    np.testing.assert_array_equal(pieces, parameters.numpy())


@pytest.mark.parametrize("dtype", spine.FLOATS)
def test_canonical_form_of_version_1(dtype):
    model = Model(layers=2)
    with _gpu():
        parameters = tf.cast(tf.range(model.parameters()) % 127, dtype)
        count = len(model.weight_shapes())
        weights, biases = RAW.CudnnRNNParamsToCanonical(
            **_sizes(model), params=parameters, num_params=count
        )
        back = RAW.CudnnRNNCanonicalToParams(**_sizes(model), weights=weights, biases=biases)
    np.testing.assert_array_equal(back.numpy(), parameters.numpy())


# ---- errors ------------------------------------------------------------------------------------

_WRONG = {
    "input of rank 2": lambda x, h, c, p: (x[0], h, c, p),
    "state of another batch": lambda x, h, c, p: (x, h[:, :1], c, p),
    "cell state of other units": lambda x, h, c, p: (x, h, tf.concat([c, c], 2), p),
    "too few parameters": lambda x, h, c, p: (x, h, c, p[1:]),
}


@pytest.mark.parametrize("what", _WRONG)
def test_wrong_shapes(what):
    model = Model()
    with _gpu(), pytest.raises(tf.errors.InvalidArgumentError, match="CudnnRNNV3"):
        _call(model, *_WRONG[what](*_inputs(model, "float32")))


@pytest.mark.parametrize(
    "change",
    [{"lengths": (2, 6)}, {"lengths": (-1, 2)}, {"lengths": (2,)}, {"input_mode": "skip_input"}],
    ids=str,
)
def test_wrong_attributes(change):
    inputs = _inputs(Model(), "float32")
    with _gpu(), pytest.raises(tf.errors.InvalidArgumentError, match="CudnnRNNV3"):
        _call(Model(**change), *inputs)


def test_reserve_space_of_another_model():
    model = Model()
    x, h, c, p = _inputs(model, "float32")
    with _gpu(), pytest.raises(tf.errors.InvalidArgumentError, match="reserve_space"):
        y = _call(model, x, h, c, p, version=1)
        RAW.CudnnRNNBackprop(
            **{"input": x, "input_h": h, "input_c": c, "params": p, "reserve_space": p},
            **{"output": y.output, "output_h": y.output_h, "output_c": y.output_c},
            **{"output_backprop": y.output, "output_h_backprop": h, "output_c_backprop": c},
        )
