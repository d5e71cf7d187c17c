"""Times training steps of the models in `models.py` on the device and on the CPU.

A step is the forward and backward pass of one batch; the optimizer is left out, so that what is
measured is the model. The device is compared with the faster of the CPU's `tf.function` and
`tf.function(jit_compile=True)`, interleaved in this process. Mixed policies are compared with the
device's own float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from tensorflow_metal_py import _flags, models, timing

DEFAULT_MODELS = ("mlp", "resnet", "transformer", "lstm")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
CPU = "/CPU:0"


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "models", list(DEFAULT_MODELS), f"of {', '.join(models.MODELS)}", flag_values=values
    )
    flags.DEFINE_list("policies", list(POLICIES), "Keras dtype policies", flag_values=values)
    flags.DEFINE_integer("rounds", 7, "timings of each side", 3, flag_values=values)
    flags.DEFINE_integer(
        "batch", None, "examples per step (default: the model's)", 1, flag_values=values
    )
    flags.DEFINE_boolean("jit", True, "also time the CPU with XLA", flag_values=values)


def training_step(
    name: str,
    device: str,
    policy: str = "float32",
    batch: int | None = None,
    jit: bool = False,
    update: bool = False,
) -> Callable[[], Any]:
    """A function that runs one forward and backward pass and returns the loss as a number.

    With `update` it also lets the model's optimizer change the weights.
    """
    import keras
    import tensorflow as tf

    spec = models.find(name)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with tf.device(device):
            model = models.build(name)
            if update:
                model.optimizer.build(model.trainable_variables)
            x, y = map(tf.constant, spec.random_batch(batch or spec.batch))

            @tf.function(jit_compile=jit, autograph=False)
            def step(x, y):
                with tf.GradientTape() as tape:
                    loss = model.compute_loss(x, y, model(x, training=True), training=True)
                gradients = tape.gradient(loss, model.trainable_variables)
                if update:
                    model.optimizer.apply(gradients, model.trainable_variables)
                # One number that depends on all of the work, so that reading it waits for it.
                return loss, tf.add_n([tf.reduce_sum(tf.cast(g, "float32")) for g in gradients])
    finally:
        keras.config.set_dtype_policy(before)

    def run() -> float:
        with tf.device(device):
            loss, checksum = step(x, y)
            checksum.numpy()
            return float(loss)

    return run


class Progress:
    """One line on the terminal that says what is being timed; nothing elsewhere."""

    def __init__(self, total: int):
        self.done, self.total = 0, total

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            bar = "#" * (20 * self.done // self.total)
            print(f"\r\033[K[{bar:<20}] {text}", end="", file=sys.stderr, flush=True)
        self.done += 1

    def close(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def compare(
    name: str, device: str, policies: Sequence[str], rounds: int, batch: int | None, jit: bool
) -> list[tuple[str, dict[str, timing.Timing]]]:
    """Rows (label, {side: timing}) of one model, all sides interleaved."""
    sides = {policy: training_step(name, device, policy, batch) for policy in policies}
    sides["CPU"] = training_step(name, CPU, "float32", batch)
    if jit:
        sides["CPU jit"] = training_step(name, CPU, "float32", batch, jit=True)
    times = timing.interleave(sides, rounds)
    stock = min(
        (side for side in ("CPU", "CPU jit") if side in times), key=lambda s: times[s].median
    )
    rows = []
    for policy in policies:
        if policy == "float32":
            rows.append((name, {"device": times[policy], stock: times[stock]}))
        elif "float32" in policies:
            rows.append((f"{name} {policy}", {policy: times[policy], "float32": times["float32"]}))
    return rows


def main(arguments: Sequence[str]) -> int:
    """time training steps of the usual models, on the device and on the CPU"""
    import tensorflow_metal_py as metal

    values = flags.FlagValues()
    define_flags(values)

    def check(rest: list[str]) -> str:
        unknown = [name for name in values.models if name not in models.MODELS]
        unknown += [policy for policy in values.policies if policy not in POLICIES] + rest
        return f"unknown: {', '.join(unknown)}" if unknown else ""

    if _flags.parse(values, "bench", arguments, check) is None:
        return 2
    found = metal.devices()
    if not found:
        print(f"No Metal device: {metal.status()['reason']}", file=sys.stderr)
        return 1
    print(
        f"{found[0].description}, macOS {found[0].macos}"
        f"{', simulated on this CPU' if found[0].simulated else ''}; "
        "forward and backward pass of one batch, median of "
        f"{values.rounds} rounds ± half the interquartile range"
    )
    progress = Progress(len(values.models))
    for name in values.models:
        progress(name)
        rows = compare(
            name, found[0].name, values.policies, values.rounds, values.batch, values.jit
        )
        progress.close()
        for label, timings in rows:
            timing.print_row(label, timings, unit=1e-3, name="ms")
    return 0
