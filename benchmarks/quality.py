"""What trainings reach in the end: each precision, with and without graph passes, and the CPU.

20 epochs on the digits from the same weights and batches, with five seeds. A setting is as good as
the CPU when the means over the seeds differ by less than their noise: twice the standard error of
the difference, and one example of the test set.
"""

from __future__ import annotations

import dataclasses
import statistics

from tensorflow_metal_py._environment import environment

CPU = "CPU:0"
EPOCHS, SEEDS, BATCH = 20, 5, 64
TEST_EXAMPLES = 360


@dataclasses.dataclass(frozen=True)
class Training:
    """A model of tensorflow_metal_py.models on the digits, and its optimizer's name and rate."""

    model: str
    inputs: tuple[int, ...]
    optimizer: str = "Adam"
    rate: float = 3e-3


TRAININGS = {
    "mlp": Training("mlp", (8, 8, 1)),
    "mlp, SGD": Training("mlp", (8, 8, 1), "SGD", 0.1),
    "cnn": Training("cnn", (8, 8, 1)),
    "cnn, SGD": Training("cnn", (8, 8, 1), "SGD", 0.1),
    "resnet": Training("small_resnet", (8, 8, 1)),
    "transformer": Training("small_transformer", (8, 8)),
    "lstm": Training("small_lstm", (8, 8)),
    "autoencoder": Training("vae", (8, 8, 1)),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how a training runs."""

    device: str | None = None  # None: the plugin's
    policy: str = "float32"
    passes: str = "all"


SETTINGS = {
    "CPU": Setting(CPU),
    "float32": Setting(),
    "no passes": Setting(passes="none"),
    "mixed_float16": Setting(policy="mixed_float16"),
    "mixed_bfloat16": Setting(policy="mixed_bfloat16"),
}


def score(training: Training, setting: Setting, seed: int, epochs: int = EPOCHS) -> float:
    """The test accuracy at the end; of a model without labels, the test loss."""
    import keras
    import tensorflow as tf

    import tensorflow_metal_py as metal
    from tensorflow_metal_py import models
    from tools import digits

    x_train, x_test, y_train, y_test = digits.load(
        models.find(training.model, inputs=training.inputs)
    )
    keras.config.set_dtype_policy(setting.policy)
    device = setting.device or metal.devices()[0].name
    try:
        with environment(TF_METAL_GRAPPLER=setting.passes), tf.device(device):
            model = models.build(training.model, seed=seed, inputs=training.inputs)
            # Down to nothing, so that the end result is no matter of luck.
            steps = epochs * -(-len(x_train) // BATCH)
            rate = keras.optimizers.schedules.PolynomialDecay(training.rate, steps, 0.0)
            optimizer = getattr(keras.optimizers, training.optimizer)(rate)
            model.compile(optimizer, model.loss, metrics=["accuracy"])
            model.fit(x_train, y_train, batch_size=BATCH, epochs=epochs, verbose=0)
            scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    finally:
        keras.config.set_dtype_policy("float32")
    return scores["accuracy"] if y_test.ndim == 1 else scores["loss"]


def noise(a: list[float], b: list[float]) -> float:
    """How far the means of two lists of scores may be apart."""
    error = ((statistics.variance(a) + statistics.variance(b)) / len(a)) ** 0.5
    return 2 * error + 1 / TEST_EXAMPLES


def run() -> None:
    print(f"{'':<14}" + "".join(f"{name:>22}" for name in SETTINGS), flush=True)
    for name, training in TRAININGS.items():
        print(f"{name:<14}", end="", flush=True)
        reference: list[float] = []
        for setting in SETTINGS.values():
            scores = [score(training, setting, seed) for seed in range(SEEDS)]
            reference = reference or scores
            mean, deviation = statistics.mean(scores), statistics.stdev(scores)
            apart = abs(mean - statistics.mean(reference)) > noise(scores, reference)
            cell = f"{mean:.4f} ±{deviation:.4f}{' APART' if apart else ''}"
            print(f"{cell:>22}", end="", flush=True)
        print(flush=True)
