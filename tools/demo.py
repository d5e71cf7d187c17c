"""Trains a small Keras model on handwritten digits, on the device and on the CPU, and compares.

    make demo                     # or: python -m tools.demo --epochs=20

The same weights and batches on both; plain `model.fit`. Prints accuracies, what the plugin did per
step, and writes both loss curves to demo_out/loss.png. Exit status 1 when the losses of the first
steps differ by more than 1e-3 relative, or a float op left the device.
"""

from __future__ import annotations

import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tensorflow_metal_py as metal
from tensorflow_metal_py import _runtime

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 10, "passes over the 1,437 training images", lower_bound=1)
flags.DEFINE_integer("batch", 32, "images per step", lower_bound=1)
flags.DEFINE_integer("seed", 0, "of weights and shuffling")
flags.DEFINE_string("out", "demo_out", "folder for the picture")

COMPARED_STEPS = 50
TOLERANCE = 1e-3  # relative difference of a step's loss


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


def digits() -> tuple[np.ndarray, ...]:
    """1,797 digits as float32 [n, 64] in 0..1 and their labels, a fifth of them for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x = (data.data / 16).astype(np.float32)
    return train_test_split(x, data.target.astype(np.int64), test_size=0.2, random_state=0)


def build() -> keras.Model:
    keras.utils.set_random_seed(FLAGS.seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(device: str, data: tuple[np.ndarray, ...]) -> tuple[list[float], float, float]:
    """Returns the loss of each step, test accuracy and steps per second."""
    x_train, x_test, y_train, y_test = data
    print(f"\n--- {device} ---", flush=True)
    with tf.device(device):
        model, losses = build(), StepLosses()
        start = time.perf_counter()
        model.fit(
            x_train,
            y_train,
            batch_size=FLAGS.batch,
            epochs=FLAGS.epochs,
            callbacks=[losses],
            verbose=1 if os.isatty(1) else 2,
        )
        seconds = time.perf_counter() - start
        _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    return losses.losses, accuracy, len(losses.losses) / seconds


def draw(curves: dict[str, list[float]], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    for (name, losses), style in zip(curves.items(), ["-", "--"], strict=True):
        axes.plot(losses, style, label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="Digits, MLP with Adam")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def report(rows: list[tuple[str, object]]) -> None:
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def main(_) -> int:
    found = metal.devices()
    if not found:
        print(f"No Metal device: {metal.status()['reason']}")
        return 1
    data = digits()
    metal.reset_stats()
    gpu_losses, gpu_accuracy, gpu_speed = train(found[0].name, data)
    stats, fallbacks = metal.stats(), _runtime.call("fallbacks")
    cpu_losses, cpu_accuracy, cpu_speed = train("/CPU:0", data)
    n = min(COMPARED_STEPS, len(cpu_losses))
    gpu, cpu = np.array(gpu_losses[:n]), np.array(cpu_losses[:n])
    difference = float(np.max(np.abs(gpu - cpu) / np.abs(cpu)))
    picture = pathlib.Path(FLAGS.out) / "loss.png"
    draw({found[0].name: gpu_losses, "/CPU:0": cpu_losses}, picture)
    steps = len(gpu_losses)
    # TensorFlow blocks on the stream once more after each copy, which no longer waits.
    syncs = stats["sync_dtoh"] + stats["sync_op"]
    report(
        [
            (
                "device",
                f"{found[0].description} (macOS {found[0].macos}"
                f"{', simulated on the CPU' if found[0].simulated else ''})",
            ),
            ("variable mode", metal.variable_mode()["mode"]),
            ("test accuracy", f"{gpu_accuracy:.4f} on the device, {cpu_accuracy:.4f} on the CPU"),
            (f"loss of {n} steps", f"within {difference:.1e} relative of the CPU's"),
            ("steps per second", f"{gpu_speed:.0f} on the device, {cpu_speed:.0f} on the CPU"),
            ("ops on the device", f"{stats['ops']} ({stats['ops'] / steps:.1f} per step)"),
            ("float ops that fell back", fallbacks or 0),
            ("compiles", stats["compiles"]),
            ("cache hits", stats["hits"]),
            ("dispatches per step", f"{stats['encodes'] / steps:.1f}"),
            ("host syncs per step", f"{syncs / steps:.1f}"),
            ("picture", picture),
        ]
    )
    return int(difference > TOLERANCE or bool(fallbacks))


if __name__ == "__main__":
    app.run(main)
