"""Trainings of whole models, loss by loss."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tensorflow_metal_py import models

# What the names stand for at a size that a test can afford.
SMALL = {
    "transformer": {"inputs": (16,)},
    "lstm": {"inputs": (12, 16)},
    "gru": {"inputs": (12, 16)},
}


def losses(
    name: str, device: str, policy: str, steps: int, seed: int = 0, learning_rate: float = 1e-3
) -> list[float]:
    """The loss of each step of Adam, on one random batch."""
    spec = models.find(name, **SMALL.get(name, {}))
    keras.config.set_dtype_policy(policy)
    try:
        with tf.device(device):
            model = models.build(name, learning_rate, seed, **SMALL.get(name, {}))
            x, y = spec.random_batch(8, seed)
            return [
                float(model.train_on_batch(x, y, return_dict=True)["loss"]) for _ in range(steps)
            ]
    finally:
        keras.config.set_dtype_policy("float32")


def _gan():
    generator = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(4 * 4 * 16),
            keras.layers.LeakyReLU(),
            keras.layers.Reshape((4, 4, 16)),
            keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh"),
        ]
    )
    critic = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, strides=2, padding="same"),
            keras.layers.LeakyReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    return generator, critic, keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3)


def gan_losses(device: str, steps: int) -> list[float]:
    """The sum of the two losses, of each step of a small generative adversarial network."""
    keras.utils.set_random_seed(0)
    with tf.device(device):
        generator, critic, optimizer_g, optimizer_c = _gan()
        entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        optimizer_g.build(generator.trainable_variables)
        optimizer_c.build(critic.trainable_variables)

        @tf.function
        def step(real, noise):
            with tf.GradientTape() as tape_g, tf.GradientTape() as tape_c:
                fake = generator(noise)
                on_real, on_fake = critic(real), critic(fake)
                loss_g = entropy(tf.ones_like(on_fake), on_fake)
                loss_c = entropy(tf.ones_like(on_real), on_real) + entropy(
                    tf.zeros_like(on_fake), on_fake
                )
            optimizer_g.apply(tape_g.gradient(loss_g, generator.trainable_variables))
            optimizer_c.apply(tape_c.gradient(loss_c, critic.trainable_variables))
            return loss_g + loss_c

        rng = np.random.default_rng(0)
        real = rng.uniform(-1, 1, (16, 8, 8, 1)).astype(np.float32)
        noise = rng.standard_normal((16, 8)).astype(np.float32)
        return [float(step(real, noise)) for _ in range(steps)]
