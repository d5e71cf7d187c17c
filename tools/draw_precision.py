"""Measures what lower precision saves and costs, and draws it: docs/images/mixed_precision.png.

    python -m tools.draw_precision [--models=mlp,cnn] [--rounds=7] [--out=FILE]

For each model and policy: the time of a step (forward and backward pass, interleaved with float32)
and the error of the outputs and gradients on one random batch, as `mixed_precision.tune` measures
them. On Linux the times are CPU seconds of the simulation, of all threads, which other work on the
machine changes little.
"""

from __future__ import annotations

import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags

import tensorflow_metal_py as metal
from tensorflow_metal_py import models, timing
from tensorflow_metal_py.bench import Progress
from tensorflow_metal_py.mixed_precision import FLOAT32, Policy, measure
from tensorflow_metal_py.mixed_precision.policy import POLICIES

OUT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "images" / "mixed_precision.png"
MODELS = ("mlp", "cnn", "small_lstm", "small_transformer", "unet")
MARKS = {"mixed_float16": "o", "mixed_bfloat16": "s"}

# Policy -> (time relative to float32, its spread, errors).
Measured = dict[str, tuple[float, float, measure.Errors]]


def measured(name: str, rounds: int) -> Measured:
    import tensorflow as tf

    spec = models.find(name)
    with tf.device(metal.devices()[0].name):
        network = measure.Network(models.build(name), None)
        (batch,) = measure.batches(spec.random_batch(spec.batch), spec.batch, 1)
        exact = network.results(batch)
        policies = {policy: Policy(policy) for policy in POLICIES}
        times = timing.interleave(
            {policy: network.step(p, batch) for policy, p in policies.items()},
            rounds,
            time.process_time if metal.devices()[0].simulated else None,
        )
        found: Measured = {}
        for policy in POLICIES[1:]:
            ratio = times[policy].median / times[FLOAT32].median
            spread = times[policy].spread + times[FLOAT32].spread
            found[policy] = (ratio, spread, network.errors(policies[policy], batch, exact))
    return found


def draw(results: dict[str, Measured], title: str, x_label: str, out: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.2), sharex=True, layout="constrained")
    for axis, kind in zip(axes, ("output", "gradient"), strict=True):
        for number, (name, found) in enumerate(results.items()):
            for policy, (ratio, spread, errors) in found.items():
                axis.errorbar(
                    ratio,
                    getattr(errors, kind),
                    xerr=ratio * spread,
                    fmt=MARKS[policy],
                    color=f"C{number}",
                    elinewidth=0.8,
                    label=f"{name}, {policy.removeprefix('mixed_')}",
                )
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set(yscale="log", xlabel=x_label, ylabel=f"relative {kind} error")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def define_flags() -> None:
    """Not on import: tests import several tools, each with its own --out."""
    flags.DEFINE_list("models", list(MODELS), "of tensorflow_metal_py.models")
    flags.DEFINE_integer("rounds", 7, "timings of each side", 3)
    flags.DEFINE_string("out", str(OUT), "picture to write")


def main(argv: list[str]) -> int:
    if argv[1:]:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    device = metal.devices()[0]
    progress = Progress(len(flags.FLAGS.models))
    results = {}
    for name in flags.FLAGS.models:
        progress(name)
        results[name] = measured(name, flags.FLAGS.rounds)
        for policy, (ratio, spread, errors) in results[name].items():
            print(
                f"{name:<20} {policy:<16} {ratio:5.2f} ±{100 * spread:3.0f} %   "
                f"output {errors.output:.2g}   gradient {errors.gradient:.2g}",
                flush=True,
            )
    progress.close()
    simulated = device.simulated
    title = f"{device.description}, macOS {device.macos}" + ", simulated on a CPU" * simulated
    x_label = f"{'CPU ' * simulated}time of a step / float32; bars: spread"
    draw(results, title, x_label, flags.FLAGS.out)
    print(flags.FLAGS.out)
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)
