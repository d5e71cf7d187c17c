"""A training step of a recurrent layer: forward and backward pass of LSTM(256) and GRU(256).

The sides are the Keras layer on the device, which becomes one CudnnRNNV3 op and its gradient, and
the same layer on the CPU, a loop over time steps, in a tf.function and compiled by XLA.

And such a layer with use_cudnn=False, where the graph pass "rnn" makes one op of the loop and
one of its gradient: prediction and training step with the pass, without it, and on the CPU.
"""

from __future__ import annotations

import tensorflow as tf

from tensorflow_metal_py import timing
from tensorflow_metal_py._environment import environment

UNITS, LENGTH, BATCH = 256, 64, 32
FEATURES = (64, 256)
AIM = 1.5  # times as fast as the faster of the two on the CPU


def _step(layer, compile_it: bool):
    variables = [v.value for v in layer.trainable_variables]

    @tf.function(jit_compile=compile_it)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, [x, *variables])

    return step


def _side(kind, features: int, device: str, compile_it: bool, **arguments):
    with tf.device(device):
        layer = kind(UNITS, **arguments)
        x = tf.constant(tf.random.stateless_normal((BATCH, LENGTH, features), seed=(1, 2)))
        layer.build(x.shape)
        step = _step(layer, compile_it)

    def run():
        with tf.device(device):
            step(x)[-1].numpy()  # of the bias: waits for all

    return run


def rows() -> dict[str, dict[str, object]]:
    import keras

    from tensorflow_metal_py import _runtime

    device = f"/{_runtime.call('loading')['type']}:0"
    return {
        f"{kind.__name__}({UNITS}) of {BATCH}x{LENGTH}x{features}": {
            "device": _side(kind, features, device, False),
            "CPU": _side(kind, features, "/CPU:0", False, use_cudnn=False),
            "XLA": _side(kind, features, "/CPU:0", True, use_cudnn=False),
        }
        for kind in (keras.layers.LSTM, keras.layers.GRU)
        for features in FEATURES
    }


def _under(passes: str, run):
    """`run`, whose graph is made under these passes (TF_METAL_GRAPPLER)."""
    with environment(TF_METAL_GRAPPLER=passes):
        run()
    return run


def _predictor(layer, x, device: str):
    function = tf.function(layer, autograph=False)

    def run():
        with tf.device(device):
            function(x).numpy()

    return run


def predictions() -> dict[str, dict[str, object]]:
    import keras

    from tensorflow_metal_py import _runtime

    device, features = f"/{_runtime.call('loading')['type']}:0", FEATURES[0]
    rows = {}
    for kind in (keras.layers.LSTM, keras.layers.GRU):
        layer = kind(UNITS, use_cudnn=False)
        x = tf.random.stateless_normal((BATCH, LENGTH, features), seed=(1, 2))
        layer.build(x.shape)
        rows[f"{kind.__name__}({UNITS}) of {BATCH}x{LENGTH}x{features}"] = {
            "one op": _under("all", _predictor(layer, x, device)),
            "loop": _under("-rnn", _predictor(layer, x, device)),
            "CPU": _under("all", _predictor(layer, x, "/CPU:0")),
        }
    return rows


def trainings() -> dict[str, dict[str, object]]:
    import keras

    from tensorflow_metal_py import _runtime

    device, features = f"/{_runtime.call('loading')['type']}:0", FEATURES[0]
    loop = {"use_cudnn": False}
    kinds = ((keras.layers.LSTM, loop), (keras.layers.GRU, loop), (keras.layers.SimpleRNN, {}))
    return {
        f"{kind.__name__}({UNITS}) of {BATCH}x{LENGTH}x{features}": {
            "one op": _under("all", _side(kind, features, device, False, **arguments)),
            "loop": _under("-rnn", _side(kind, features, device, False, **arguments)),
            "CPU": _side(kind, features, "/CPU:0", False, **arguments),
            "XLA": _side(kind, features, "/CPU:0", True, **arguments),
        }
        for kind, arguments in kinds
    }


def run() -> None:
    _run_against("Prediction of a Keras layer that is a loop, float32:", predictions())
    _run_against("Forward and backward pass of a Keras layer that is a loop:", trainings())
    print("Forward and backward pass of a Keras layer, float32:")
    for label, sides in rows().items():
        timings = timing.interleave(sides)
        ratios = [
            timing.print_row(
                label, {"device": timings["device"], other: timings[other]}, 1e-3, "ms"
            )
            for other in ("CPU", "XLA")
        ]
        print(f"{'':<36} {min(ratios):.2f}x as fast as the better one (aim: {AIM}x)")


def _run_against(title: str, rows: dict[str, dict[str, object]]) -> None:
    print(title)
    for label, sides in rows.items():
        timings = timing.interleave(sides)
        for other in [side for side in sides if side != "one op"]:
            pair = {"one op": timings["one op"], other: timings[other]}
            timing.print_row(label, pair, 1e-3, "ms")
