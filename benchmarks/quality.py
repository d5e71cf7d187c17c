"""What trainings reach in the end: each precision, with and without graph passes, and the CPU.

20 epochs on the digits from the same weights and batches, with five seeds. A setting is as good as
the CPU when the means over the seeds differ by less than their noise: twice the standard error of
the difference, and one example of the test set.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from typing import TYPE_CHECKING
from unittest import mock

from tensorflow_metal_py._environment import environment

if TYPE_CHECKING:
    from tensorflow_metal_py.mixed_precision import Policy

CPU = "CPU:0"
TUNED = "tuned"  # each layer as mixed_precision.tune chooses on the first seed's model
EPOCHS, SEEDS, BATCH = 20, 5, 64
TEST_EXAMPLES = 360
MEASURED_BATCHES = 4
# So small that most of these networks need a mix of types.
OUTPUT_BUDGET, GRADIENT_BUDGET = 0.001, 0.02


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
    TUNED: Setting(policy=TUNED),
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
    device = setting.device or metal.devices()[0].name
    policy = tuned(training, device) if setting.policy == TUNED else None
    keras.backend.clear_session()  # so that layers have the names that tune saw
    keras.config.set_dtype_policy("float32" if policy else setting.policy)
    try:
        with environment(TF_METAL_GRAPPLER=setting.passes), tf.device(device):
            model = models.build(training.model, seed=seed, inputs=training.inputs)
            # Down to nothing, so that the end result is no matter of luck.
            steps = epochs * -(-len(x_train) // BATCH)
            rate = keras.optimizers.schedules.PolynomialDecay(training.rate, steps, 0.0)
            optimizer = getattr(keras.optimizers, training.optimizer)(rate)
            model.compile(optimizer, model.loss, metrics=["accuracy"])
            if policy:
                policy.apply(model)
            model.fit(x_train, y_train, batch_size=BATCH, epochs=epochs, verbose=0)
            scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    finally:
        keras.config.set_dtype_policy("float32")
    return scores["accuracy"] if y_test.ndim == 1 else scores["loss"]


@functools.cache
def tuned(training: Training, device: str) -> Policy:
    """What `tune` chooses for the first seed's weights.

    On a simulated GPU networks this small are fastest in float32. So 16 bits are taken to be twice
    as fast for every layer: the choice is then the lowest precision that the budget allows.
    """
    import keras
    import tensorflow as tf

    from tensorflow_metal_py import mixed_precision, models, timing
    from tensorflow_metal_py.mixed_precision import layers, tuner
    from tools import digits

    class Search(tuner.Search):
        def time_layer(self, layer, call, policies):
            names = (tuner.FLOAT32, *policies)
            return {name: self.seconds(name != tuner.FLOAT32) for name in names}

        def time(self, policies):
            units = layers.units(self.network.model)
            reduced = {
                name: sum(policy.of(path) != tuner.FLOAT32 for path in units) / len(units)
                for name, policy in policies.items()
            }
            return [{name: self.seconds(part) for name, part in reduced.items()}] * tuner.REPEATS

        def seconds(self, reduced: float) -> timing.Timing:
            return timing.Timing((2.0 - reduced,) * self.rounds)

    spec = models.find(training.model, inputs=training.inputs)
    x, _, y, _ = digits.load(spec)
    examples = MEASURED_BATCHES * BATCH
    data = (x[:examples], y[:examples])
    keras.backend.clear_session()
    with tf.device(device), mock.patch.object(tuner, "Search", Search):
        model = models.build(training.model, seed=0, inputs=training.inputs)
        model.compile(training.optimizer, model.loss)
        return mixed_precision.tune(
            model,
            data,
            output_budget=OUTPUT_BUDGET,
            gradient_budget=GRADIENT_BUDGET,
            batch_size=BATCH,
            verbose=False,
        )


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
