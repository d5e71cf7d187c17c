"""Recurrent layers of tf_keras (Keras 2): on the device, where grappler's implementation selector
puts a CudnnRNN op, as on the CPU, where the layers are loops."""

import numpy as np
import pytest
import tensorflow as tf

from tests import spine

tf_keras = pytest.importorskip("tf_keras", reason="not installed")

STEPS, BATCH, BATCHES, EPOCHS = 7, 8, 10, 10  # 100 training steps
L = tf_keras.layers
MODELS = {
    "LSTM": lambda: [L.LSTM(8, return_sequences=True), L.LSTM(6)],
    "GRU": lambda: [L.GRU(8, return_sequences=True), L.GRU(6)],
    "bidirectional": lambda: [L.Bidirectional(L.LSTM(5)), L.Dropout(0.0)],
    "masked": lambda: [L.Masking(), L.LSTM(6)],
    "backwards": lambda: [L.GRU(6, go_backwards=True)],
    "SimpleRNN": lambda: [L.SimpleRNN(6)],
}


def _data():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((BATCH * BATCHES, STEPS, 5)).astype(np.float32)
    lengths = rng.integers(1, STEPS + 1, len(x))
    x *= (np.arange(STEPS) < lengths[:, None])[..., None]  # right-padded, for Masking
    return x, np.tanh(x[:, ::2].sum((1, 2)))[:, None]


def _train(build, device):
    """Losses of the epochs and of the evaluation, and the predictions."""
    tf_keras.utils.set_random_seed(11)
    x, y = _data()
    with tf.device(device):
        model = tf_keras.Sequential([*build(), L.Dense(1)])
        model.compile(tf_keras.optimizers.Adam(0.003), "mse")
        history = model.fit(x, y, BATCH, EPOCHS, verbose=0, shuffle=False).history["loss"]
        return np.array([*history, model.evaluate(x, y, BATCH, verbose=0)]), model.predict(
            x, BATCH, verbose=0
        )


@pytest.mark.parametrize("name", MODELS)
def test_training_equals_the_loop(name):
    expected = _train(MODELS[name], "/CPU:0")
    actual = _train(MODELS[name], f"/{spine.device_type()}:0")
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(actual[1], expected[1], atol=1e-3)


@pytest.mark.parametrize("layer", [L.LSTM, L.GRU])
def test_fused_op_runs(layer):
    import tensorflow_metal_py as metal

    if spine.device_type() != "GPU":
        pytest.skip("TensorFlow's implementation selector knows no device but GPU")
    steps = 64
    with tf.device(f"/{spine.device_type()}:0"):
        built = layer(4)
        function = tf.function(built)
        x = tf.ones([2, steps, 3])
        function(x)
        metal.reset_stats()
        function(x).numpy()
    assert metal.stats()["encodes"] < steps, "a loop launches several ops for each step"
