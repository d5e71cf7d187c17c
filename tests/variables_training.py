"""Trains with every optimizer and prints the results, for test_variables.py.

Argument: a JSON list of the steps in a tf.function, the steps in eager mode, the epochs of fit, and
whether to scatter (which needs the variable functions).
Prints "RESULT " and a JSON object: the device, and the float32 bytes of each result in base64.
"""

import base64
import json
import sys

import keras
import numpy as np
import tensorflow as tf

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
}
RNG = np.random.default_rng(0)
CURVATURE = RNG.uniform(0.5, 2.0, (37,)).astype("float32")
TARGET = RNG.standard_normal((37,)).astype("float32")


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype("float32")


def quadratic(make, steps: int, wrap) -> np.ndarray:
    """Minimises sum(CURVATURE * (w - TARGET)^2) / 2; everything is elementwise."""
    w = tf.Variable(np.ones((37,), "float32"))
    a, b = tf.constant(CURVATURE), tf.constant(TARGET)
    optimizer = make()
    optimizer.build([w])
    step = wrap(lambda: optimizer.apply([(w - b) * a], [w]))
    for _ in range(steps):
        step()
    return w.numpy()


def raw_updates(steps: int, scatter: bool) -> np.ndarray:
    """Nothing waits between the steps: each reads what the one before wrote."""
    mix = np.eye(64) * 0.5 + np.roll(np.eye(64), 1, 0) * 0.25
    a = tf.constant(mix.astype("float32"))
    v, total = tf.Variable(tf.ones((64, 64))), tf.Variable(tf.zeros((64, 64)))
    for _ in range(steps):
        v.assign(tf.matmul(a, v))
        total.assign_add(tf.matmul(a, v))
        v.assign_sub(total * 0.001)
        if scatter:
            tf.raw_ops.ResourceScatterAdd(
                resource=v.handle, indices=[3, 3, 60], updates=total[:3] * 0.1
            )
    return np.stack([v.numpy(), total.numpy()])


def network(epochs: int) -> np.ndarray:
    x = normal(256, 20)
    y = (x[:, :10] * x[:, 10:]).argmax(1)
    model = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
    )
    model.set_weights([normal(*shape) * 0.2 for shape in ((20, 32), (32,), (32, 10), (10,))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss, jit_compile=False)
    model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


def main(steps: int, eager_steps: int, epochs: int, scatter: bool) -> None:
    devices = [d.name for d in tf.config.list_logical_devices() if d.device_type != "CPU"]
    device = (devices or ["CPU:0"])[0]
    results = {}
    with tf.device(device):
        for name, make in OPTIMIZERS.items():
            results[f"graph {name}"] = quadratic(make, steps, tf.function)
            results[f"eager {name}"] = quadratic(make, eager_steps, lambda f: f)
        results["raw"] = raw_updates(eager_steps, scatter)
        results["fit"] = network(epochs)
    encoded = {k: base64.b64encode(v.tobytes()).decode() for k, v in results.items()}
    print("RESULT " + json.dumps({"device": device, **encoded}))


main(*json.loads(sys.argv[1]))
