"""Keras' recurrent layers in `fit`, `evaluate` and `predict`: the same model on the device, where
LSTM and GRU are one CudnnRNNV3 op each, and on the CPU, where they are loops."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import spine

STEPS, BATCH, BATCHES, EPOCHS, WORDS = 7, 8, 10, 10, 12
L = keras.layers


def _sequences(features=5):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((BATCH * BATCHES, STEPS, features)).astype(np.float32)
    return x, np.tanh(x[:, ::2].sum((1, 2)))[:, None]


def _words():
    """Right-padded with zeros."""
    rng = np.random.default_rng(4)
    x = rng.integers(1, WORDS, (BATCH * BATCHES, STEPS))
    lengths = rng.integers(1, STEPS + 1, len(x))
    x *= np.arange(STEPS) < lengths[:, None]
    return x, (x.sum(1, keepdims=True) / (WORDS * STEPS)).astype(np.float32)


def _sequential(*layers):
    return lambda loop: keras.Sequential([layer(loop) for layer in layers])


def _rnn(kind, units, **arguments):
    return lambda loop: kind(units, use_cudnn=False if loop else "auto", **arguments)


def _layer(kind, *arguments, **named):
    return lambda loop: kind(*arguments, **named)


def _encoder_decoder(loop):
    x = keras.Input((STEPS, 5))
    _, *state = _rnn(L.LSTM, 6, return_state=True)(loop)(x)
    y = _rnn(L.LSTM, 6, return_sequences=True)(loop)(x, initial_state=state)
    z, last = _rnn(L.GRU, 4, return_state=True)(loop)(y)
    return keras.Model(x, L.Dense(1)(L.Concatenate()([z, last])))


def _bidirectional(loop):
    both = L.Bidirectional(_rnn(L.LSTM, 5, return_sequences=True)(loop), merge_mode="sum")
    return keras.Sequential(
        [both, L.Bidirectional(_rnn(L.GRU, 4)(loop)), L.Dropout(0.2, seed=5), L.Dense(1)]
    )


_DENSE = _layer(L.Dense, 1)
_EMBEDDING = _layer(L.Embedding, WORDS, 6, mask_zero=True)
_FUSED = {
    "LSTM": (_sequential(_rnn(L.LSTM, 8), _DENSE), _sequences),
    "GRU": (_sequential(_rnn(L.GRU, 8), _DENSE), _sequences),
    "backwards": (
        _sequential(
            _rnn(L.LSTM, 8, go_backwards=True, return_sequences=True),
            _rnn(L.GRU, 6, go_backwards=True),
            _DENSE,
        ),
        _sequences,
    ),
    "bidirectional": (_bidirectional, _sequences),
    "encoder and decoder": (_encoder_decoder, _sequences),
    "masked": (
        _sequential(_EMBEDDING, _rnn(L.LSTM, 6, return_sequences=True), _rnn(L.GRU, 6), _DENSE),
        _words,
    ),
    "dropout": (_sequential(_rnn(L.LSTM, 8, dropout=0.3, seed=9), _DENSE), _sequences),
}
_LOOPS = {
    "SimpleRNN": (_sequential(_layer(L.SimpleRNN, 8), _DENSE), _sequences),
    "recurrent dropout": (
        _sequential(_rnn(L.GRU, 6, recurrent_dropout=0.2, seed=8), _DENSE),
        _sequences,
    ),
    "without cuDNN": (_sequential(_layer(L.LSTM, 6, use_cudnn=False), _DENSE), _sequences),
    "left-padded": (
        _sequential(_EMBEDDING, _layer(L.LSTM, 6, use_cudnn=False), _DENSE),
        lambda: (_words()[0][:, ::-1].copy(), _words()[1]),
    ),
}


def _train(build, data, device, loop, epochs):
    """Losses of the epochs, evaluation, prediction, weights."""
    keras.utils.set_random_seed(11)
    x, y = data()
    with tf.device(device):
        model = build(loop)
        model.compile(keras.optimizers.Adam(0.003), "mse")
        history = model.fit(x, y, BATCH, epochs, verbose=0, shuffle=False).history["loss"]
        evaluation = model.evaluate(x, y, BATCH, verbose=0)
        prediction = model.predict(x, BATCH, verbose=0)
    return np.array([*history, evaluation]), prediction


def _compare(build, data, epochs=EPOCHS):
    expected = _train(build, data, "/CPU:0", True, epochs)
    actual = _train(build, data, f"/{spine.device_type()}:0", False, epochs)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-3)


@pytest.mark.parametrize("name", _FUSED)
def test_training_equals_loop(name):
    _compare(*_FUSED[name])


@pytest.mark.parametrize("name", _LOOPS)
def test_training_of_loops(name):
    _compare(*_LOOPS[name], epochs=1)


def test_fused_op_is_in_use():
    x, _ = _sequences()
    with tf.device(f"/{spine.device_type()}:0"):
        layer = L.LSTM(4)
        layer.build(x.shape)
        graph = tf.function(layer).get_concrete_function(tf.TensorSpec([2, STEPS, 5])).graph
    assert "CudnnRNNV3" in {op.type for op in graph.get_operations()}


def test_stateful():
    def run(device, loop):
        keras.utils.set_random_seed(2)
        with tf.device(device):
            x = tf.constant(_sequences()[0][:BATCH])
            layer = _rnn(L.LSTM, 6, stateful=True)(loop)
            layer.build(x.shape)
            results = [layer(x).numpy() for _ in range(3)]
            layer.reset_state()
            return [*results, layer(x).numpy()]

    actual = run(f"/{spine.device_type()}:0", False)
    for a, e in zip(actual, run("/CPU:0", True), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-6)
    np.testing.assert_array_equal(actual[0], actual[3])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", [L.LSTM, L.GRU], ids=["LSTM", "GRU"])
def test_mixed_precision(kind, policy):
    before = keras.config.dtype_policy()
    train = functools.partial(_train, data=_sequences, epochs=4)
    build = _sequential(_rnn(kind, 8), _layer(L.Dense, 1, dtype="float32"))
    expected, _ = train(build, device="/CPU:0", loop=True)
    keras.config.set_dtype_policy(policy)
    try:
        actual, _ = train(build, device=f"/{spine.device_type()}:0", loop=False)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(actual, expected, rtol=2e-2)
