"""Trains a model on handwritten digits, on the device in each precision and on the CPU.

    make demo                          # the convolutional network
    make demo MODEL=lstm               # or mlp, transformer, embedding, vae
    python -m tools.demo --model=mlp --epochs=20

The same weights and batches in all runs; plain `model.fit`. Prints for each run what it reached and
what the plugin did per step, and writes all loss curves to demo_out/loss.png. Exit status 1 when a
comparison fails or a float op left the device.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tensorflow_metal_py as metal
from tensorflow_metal_py import models
from tensorflow_metal_py.bench import CPU, POLICIES
from tools import digits

# name -> (model of tensorflow_metal_py.models, shape of an example)
DEMOS = {
    "cnn": ("cnn", (8, 8, 1)),
    "mlp": ("mlp", (8, 8, 1)),
    "lstm": ("small_lstm", (8, 8)),
    "transformer": ("small_transformer", (8, 8)),
    "embedding": ("embedding", (64,)),
    "vae": ("vae", (8, 8, 1)),
}

LEARNING_RATE = 3e-3
COMPARED_STEPS = 50
LOSS_TOLERANCE = 1e-3  # relative difference of a step's loss, in float32
# Largest difference of the test accuracy to the CPU's; of the relative test loss without one.
SCORE_TOLERANCE = {"float32": 0.01, "mixed_float16": 0.02, "mixed_bfloat16": 0.02}

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "cnn", f"what to train: {', '.join(DEMOS)}")
flags.DEFINE_list("policies", list(POLICIES), "Keras dtype policies to train under")
flags.DEFINE_integer("epochs", 10, "passes over the 1,437 training images", lower_bound=1)
flags.DEFINE_integer("batch", 32, "images per step", lower_bound=1)
flags.DEFINE_integer("seed", 0, "of weights and shuffling")
flags.DEFINE_string("out", "demo_out", "folder for the picture")


class StepLosses(keras.callbacks.Callback):
    """Loss of every step, undone from Keras' running mean over the epoch."""

    def __init__(self):
        super().__init__()
        self.losses: list[float] = []
        self._mean = 0.0

    def on_train_batch_end(self, batch, logs=None):
        mean = logs["loss"]
        self.losses.append((batch + 1) * mean - batch * (self._mean if batch else 0.0))
        self._mean = mean


@dataclasses.dataclass
class Run:
    """What one training run came to. `score`: test accuracy, or test loss of the VAE."""

    device: str
    policy: str
    losses: np.ndarray
    score: float
    seconds: float
    stats: dict[str, int]
    fallbacks: dict[str, int]

    def per_step(self, *counters: str) -> str:
        return f"{sum(self.stats[c] for c in counters) / len(self.losses):.1f}"


def learning_rate(epoch: int, _: float) -> float:
    return LEARNING_RATE * (1 - epoch / FLAGS.epochs)


def train(device: str, policy: str, data: digits.Arrays) -> Run:
    x_train, x_test, y_train, y_test = data
    print(f"\n--- {FLAGS.model}, {policy} on {device} ---", flush=True)
    name, shape = DEMOS[FLAGS.model]
    keras.config.set_dtype_policy(policy)
    metal.reset_stats()
    with tf.device(device):
        model = models.build(name, seed=FLAGS.seed, inputs=shape)
        losses = StepLosses()
        start = time.perf_counter()
        model.fit(
            x_train,
            y_train,
            batch_size=FLAGS.batch,
            epochs=FLAGS.epochs,
            # Down to nothing, so that the end result is no matter of luck.
            callbacks=[losses, keras.callbacks.LearningRateScheduler(learning_rate)],
            verbose=1 if os.isatty(1) else 2,
        )
        seconds = time.perf_counter() - start
        stats, fallbacks = metal.stats(), metal.fallbacks()
        scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    score = scores.get("accuracy", scores["loss"])
    return Run(device, policy, np.array(losses.losses), score, seconds, stats, fallbacks)


def draw(runs: list[Run], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    for run in runs:
        style = "--" if run.device == CPU else "-"
        label = f"{run.policy} on {run.device}"
        axes.plot(run.losses, style, label=label, linewidth=1.1, alpha=0.8)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=f"Digits, {FLAGS.model} with Adam")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def loss_difference(run: Run, reference: Run) -> float:
    """Largest relative difference of the loss over the first steps."""
    a, b = run.losses[:COMPARED_STEPS], reference.losses[:COMPARED_STEPS]
    return float(np.max(np.abs(a - b) / np.abs(b)))


def table(runs: list[Run], reference: Run) -> str:
    """One row per measure, one column per run."""
    score = "test accuracy" if models.find(DEMOS[FLAGS.model][0]).classes else "test loss"
    rows = [
        ("", lambda r: f"{r.policy} {r.device}"),
        (score, lambda r: f"{r.score:.4f}"),
        (
            f"loss of {COMPARED_STEPS} steps to the CPU's",
            lambda r: "" if r is reference else f"{loss_difference(r, reference):.1e}",
        ),
        ("steps per second", lambda r: f"{len(r.losses) / r.seconds:.0f}"),
        ("ops on the device per step", lambda r: r.per_step("ops")),
        ("float ops that fell back", lambda r: str(sum(r.fallbacks.values()))),
        ("compiles", lambda r: str(r.stats["compiles"])),
        ("cache hits per step", lambda r: r.per_step("hits")),
        ("dispatches per step", lambda r: r.per_step("encodes")),
        # TensorFlow blocks on the stream once more after each copy, which no longer waits.
        ("host syncs per step", lambda r: r.per_step("sync_dtoh", "sync_op")),
    ]
    cells = [[name, *(show(run) for run in runs)] for name, show in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def problems(runs: list[Run], reference: Run) -> list[str]:
    found = []
    for run in runs:
        if run is reference:
            continue
        if run.fallbacks:
            found.append(f"{run.policy}: float ops left the device: {run.fallbacks}")
        if run.policy == "float32" and loss_difference(run, reference) > LOSS_TOLERANCE:
            found.append(f"{run.policy}: the loss is not within {LOSS_TOLERANCE} of the CPU's")
        if not np.all(np.isfinite(run.losses)):
            found.append(f"{run.policy}: the loss is not finite")
        if abs(run.score - reference.score) > SCORE_TOLERANCE[run.policy]:
            found.append(
                f"{run.policy}: the test score is not within {SCORE_TOLERANCE[run.policy]}"
            )
    return found


def main(_) -> int:
    for given, known in (({FLAGS.model}, DEMOS), (set(FLAGS.policies), POLICIES)):
        if unknown := given - set(known):
            print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
            return 2
    devices = metal.devices()
    if not devices:
        print(f"No Metal device: {metal.status()['reason']}")
        return 1
    name, shape = DEMOS[FLAGS.model]
    data = digits.load(models.find(name, inputs=shape))
    runs = [train(devices[0].name, policy, data) for policy in FLAGS.policies]
    reference = train(CPU, "float32", data)
    runs.append(reference)
    picture = pathlib.Path(FLAGS.out) / "loss.png"
    draw(runs, picture)
    simulated = ", simulated on the CPU" if devices[0].simulated else ""
    print(
        f"\n{devices[0].description}, macOS {devices[0].macos}{simulated}; "
        f"variables: {metal.variable_mode()['mode']}"
    )
    print(table(runs, reference))
    print(f"  picture: {picture}")
    failed = problems(runs, reference)
    for problem in failed:
        print(f"FAILED: {problem}")
    return int(bool(failed))


if __name__ == "__main__":
    app.run(main)
