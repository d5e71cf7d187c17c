"""Memory over 10,000 steps with 200 shapes: resident memory must stay flat within 5 %."""

from __future__ import annotations

import pathlib
import resource

import tensorflow as tf

STEPS = 10_000
SHAPES = 200
WARM_STEPS = 2_000  # every shape seen ten times: plans compiled, pools filled
LIMIT = 0.05


def resident_bytes() -> int:
    fields = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize()


def growth(steps: int = STEPS, warm: int = WARM_STEPS, shapes: int = SHAPES) -> float:
    """Relative growth of resident memory between step `warm` and the last."""
    from tensorflow_metal_py import _runtime

    device = f"/{_runtime.call('loading')['type']}:0"
    base = 0
    with tf.device(device):
        w = tf.Variable(tf.random.normal((64, 64)))
        for step in range(steps):
            x = tf.ones((1 + step % shapes, 64))
            y = tf.nn.relu(tf.matmul(x, w) + 1.0)
            z = tf.reduce_sum(y, axis=1)
            if step % 50 == 0:
                z.numpy()
            if step == warm:
                base = resident_bytes()
    return resident_bytes() / base - 1


def run() -> None:
    change = growth()
    verdict = "flat" if change <= LIMIT else "GROWS"
    print(
        f"{STEPS} steps, {SHAPES} shapes: resident memory {change:+.1%} after step {WARM_STEPS}: "
        f"{verdict} (limit {LIMIT:.0%})"
    )
