"""Trains a small model with every optimizer and prints the weights, for test_optimizer_step.py.

Argument: a JSON list of names, each a package, "/" and an optimizer.
Prints "RESULT " and a JSON object: whether it ran on the CPU, and by name the float64 bytes of all
variables in base64 and what the graph passes did.
"""

import base64
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tf_keras

import tensorflow_metal_py as metal

STEPS = 10


def both(name: str, **options):
    """An optimizer that Keras 3 and tf_keras have under one name, with the same options."""
    return lambda k: getattr(k.optimizers, name)(**options)


OPTIMIZERS = {
    "sgd": both("SGD", learning_rate=0.05),
    "momentum": both("SGD", learning_rate=0.02, momentum=0.9),
    "nesterov": both("SGD", learning_rate=0.02, momentum=0.9, nesterov=True),
    "adam": both("Adam", learning_rate=0.01),
    "amsgrad": both("Adam", learning_rate=0.01, amsgrad=True),
    "adamw": both("AdamW", learning_rate=0.01, weight_decay=0.02),
    "nadam": both("Nadam", learning_rate=0.01),
    "adamax": both("Adamax", learning_rate=0.01),
    "rmsprop": both("RMSprop", learning_rate=0.01),
    "rmsprop_centered": both("RMSprop", learning_rate=0.01, momentum=0.9, centered=True),
    "adagrad": both("Adagrad", learning_rate=0.05),
    "adadelta": both("Adadelta", learning_rate=0.5),
    "ftrl": both("Ftrl", learning_rate=0.05),
    "lion": both("Lion", learning_rate=0.005),
    "adafactor": both("Adafactor", learning_rate=0.01),
    "clipnorm": both("Adam", learning_rate=0.01, clipnorm=0.1),
    "clipvalue": both("Adam", learning_rate=0.01, clipvalue=0.01),
    "global_clipnorm": both("Adam", learning_rate=0.01, global_clipnorm=0.1),
    "ema": both("SGD", learning_rate=0.05, use_ema=True, ema_overwrite_frequency=3),
    "decay": both("SGD", learning_rate=0.05, weight_decay=0.01),
}
# What only Keras 3 has.
KERAS_3 = {
    "loss_scaling": lambda k: k.optimizers.LossScaleOptimizer(
        k.optimizers.Adam(0.01), initial_scale=1024.0, dynamic_growth_steps=4
    ),
    "accumulation": lambda k: k.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "loop_adam": both("Adam", learning_rate=0.01),
    "loop_nesterov": both("SGD", learning_rate=0.02, momentum=0.9, nesterov=True),
    "loop_rmsprop": both("RMSprop", learning_rate=0.01, global_clipnorm=0.5),
    "schedule": lambda k: k.optimizers.Adam(k.optimizers.schedules.CosineDecay(0.02, 20)),
}
PACKAGES = {"keras": keras, "tf_keras": tf_keras}


def make_optimizer(package: str, name: str):
    return {**OPTIMIZERS, **KERAS_3}[name](PACKAGES[package])


def train(package: str, name: str) -> tuple[bytes, dict]:
    k = PACKAGES[package]
    k.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    model = k.Sequential(
        [k.layers.InputLayer((20,)), k.layers.Dense(32, "tanh"), k.layers.Dense(10)]
    )
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = STEPS // 2 if name.startswith("loop_") else 1  # in one graph, with a loop
    optimizer = make_optimizer(package, name)
    model.compile(optimizer, loss, jit_compile=False, steps_per_execution=steps)
    weights = [rng.standard_normal(w.shape).astype("float32") * 0.2 for w in model.weights]
    model.set_weights(weights)
    x = rng.standard_normal((16 * STEPS, 20)).astype("float32")
    y = (x[:, :10] * x[:, 10:]).argmax(1)
    metal.reset_stats()
    model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    found = metal.stats()["fusions"]
    values = [*model.weights, *model.optimizer.variables]
    return b"".join(np.asarray(v, "float64").tobytes() for v in values), found


def main() -> None:
    results = {}
    for name in json.loads(sys.argv[1]):
        package, _, optimizer = name.partition("/")
        data, found = train(package, optimizer)
        results[name] = {"values": base64.b64encode(data).decode(), "fusions": found}
    print("RESULT " + json.dumps({"cpu": not metal.devices(), "results": results}))
