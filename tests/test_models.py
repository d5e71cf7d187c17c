"""Whole models train on the device, without a float op that leaves it, like on the CPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tensorflow_metal_py as metal
from tensorflow_metal_py import models
from tests import spine, training

GPU, CPU = f"/{spine.device_type()}:0", "/CPU:0"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16")
# Relative difference of the loss to the CPU's float32, over all steps.
TOLERANCE = {
    "float32": 1e-3,
    "mixed_float16": 0.05,
    "mixed_bfloat16": 0.1,
    "float16": 0.1,
    "bfloat16": 0.2,
}
# The steps in which a model is compared: big ones drift apart by rounding alone, on any two
# machines.
STEPS = {"mobilenet": 1, "efficientnet": 1, "resnet": 1, "resnet50": 1}
# Hundreds of layers: over half a minute each.
LARGE = ("mobilenet", "efficientnet", "resnet", "resnet50")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in models.MODELS
    ],
)
def test_trains_on_the_device_like_the_cpu(name):
    steps = STEPS.get(name, 5)
    metal.reset_stats()
    ours = training.losses(name, GPU, "float32", steps)
    assert metal.fallbacks() == {}
    np.testing.assert_allclose(
        ours, training.losses(name, CPU, "float32", steps), rtol=TOLERANCE["float32"]
    )


# Keras cannot make the orthogonal weights of an LSTM in bfloat16: TensorFlow's Qr has no such type.
PRECISIONS = [
    (name, policy)
    for name in ("cnn", "small_transformer", "small_lstm", "vae", "embedding")
    for policy in POLICIES[1:]
    if (name, policy) != ("small_lstm", "bfloat16")
]


@pytest.mark.parametrize("name, policy", PRECISIONS)
def test_trains_in_every_precision(name, policy):
    # Weights of a pure type are drawn in it: another series than float32's.
    reference = "float32" if policy.startswith("mixed") else policy
    metal.reset_stats()
    ours = training.losses(name, GPU, policy, 3)
    assert metal.fallbacks() == {}
    expected = training.losses(name, CPU, reference, 1)
    np.testing.assert_allclose(ours[0], expected[0], rtol=TOLERANCE[policy])
    assert np.isfinite(ours).all()


def test_loss_scaling_halves_after_an_overflow_and_skips_the_step():
    """`mixed_float16` in fit: gradients beyond float16 must not reach the weights."""
    with tf.device(GPU):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        finally:
            keras.config.set_dtype_policy("float32")
        optimizer = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(1e-3), initial_scale=2.0**15
        )
        model.compile(optimizer, "mse")
        before = model.get_weights()[0]
        model.train_on_batch(np.full((8, 4), 6e4, np.float32), np.zeros((8, 1), np.float32))
        assert float(optimizer.dynamic_scale.numpy()) == 2.0**14
        np.testing.assert_array_equal(model.get_weights()[0], before)
        x = np.ones((8, 4), np.float32)
        model.train_on_batch(x, np.full((8, 1), 0.5, np.float32))
        assert (model.get_weights()[0] != before).any()


def test_generative_adversarial_network():
    """Two models and two optimizers in one step, with transposed convolutions."""
    metal.reset_stats()
    ours = training.gan_losses(GPU, 5)
    assert metal.fallbacks() == {}
    np.testing.assert_allclose(ours, training.gan_losses(CPU, 5), rtol=1e-3)
