"""What trainings reach in the end, in each precision: one seed here, five in `make soak`."""

import statistics

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import quality
from tests import spine

GPU = f"/{spine.device_type()}:0"
POLICIES = ("mixed_float16", "mixed_bfloat16", quality.TUNED)
EPOCHS = 6
# Of the test accuracy after so few epochs, where one more batch makes this difference.
TOLERANCE = 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "resnet", "transformer", "lstm"])
def test_mixed_precision_reaches_what_float32_does(name):
    training = quality.TRAININGS[name]
    expected = quality.score(training, quality.SETTINGS["float32"], 0, EPOCHS)
    assert expected > 0.7  # there is something to lose
    for policy in POLICIES:
        reached = quality.score(training, quality.SETTINGS[policy], 0, EPOCHS)
        assert abs(reached - expected) <= TOLERANCE, policy


@pytest.mark.soak
@pytest.mark.parametrize("name", quality.TRAININGS)
def test_every_setting_is_within_the_noise_of_seeds(name):
    training = quality.TRAININGS[name]
    scores = {
        setting: [quality.score(training, how, seed) for seed in range(quality.SEEDS)]
        for setting, how in quality.SETTINGS.items()
    }
    reference = scores.pop("CPU")
    for setting, reached in scores.items():
        difference = abs(statistics.mean(reached) - statistics.mean(reference))
        assert difference <= quality.noise(reached, reference), setting


# ---- loss scaling --------------------------------------------------------------------------------

TINY = 2.0**-26  # of the loss: gradients of about this size are below float16's least, 2^-24


def _train_below_float16(policy: str, scaled: bool) -> tuple[float, float]:
    """The loss before and after some steps of a model whose gradients float16 cannot hold."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 16)).astype(np.float32)
    y = np.tanh(x @ rng.standard_normal((16, 1))).astype(np.float32)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        with tf.device(GPU):
            model = keras.Sequential(
                [
                    keras.Input((16,)),
                    keras.layers.Dense(32, activation="tanh"),
                    keras.layers.Dense(1),
                ]
            )
            model.compile(
                keras.optimizers.SGD(0.1 / TINY),
                lambda y, p: (
                    TINY * keras.ops.mean(keras.ops.square(y - keras.ops.cast(p, "float32")))
                ),
                auto_scale_loss=scaled,
            )
            history = model.fit(x, y, batch_size=64, epochs=40, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    return history[0] / TINY, history[-1] / TINY


@pytest.mark.parametrize(
    "policy, scaled, learns",
    [
        ("float32", False, True),
        ("mixed_bfloat16", False, True),  # has float32's exponents
        ("mixed_float16", False, False),
        ("mixed_float16", True, True),
    ],
)
def test_gradients_below_float16_need_loss_scaling(policy, scaled, learns):
    first, last = _train_below_float16(policy, scaled)
    assert np.isfinite(last)
    assert (last < first / 2) == learns, (first, last)
