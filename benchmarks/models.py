"""Training steps of a CNN, a Transformer, an LSTM and an MLP against stock TensorFlow on the CPU.

The same as `python -m tensorflow_metal_py bench`. Aims: float32 at least 0.8 times as fast as
stock, the LSTM 1.5 times; mixed policies at least 0.9 times as fast as the device's float32.
"""

from __future__ import annotations

from tensorflow_metal_py import bench

AIM = {"mlp": 0.8, "resnet": 0.8, "transformer": 0.8, "lstm": 1.5}
AIM_MIXED = 0.9
ROUNDS = 7


def run() -> None:
    import tensorflow_metal_py as metal
    from tensorflow_metal_py import timing

    device = metal.devices()[0].name
    for name in bench.DEFAULT_MODELS:
        for label, timings in bench.compare(name, device, bench.POLICIES, ROUNDS, None, True):
            ratio = timing.print_row(label, timings, unit=1e-3, name="ms")
            aim = AIM[name] if label == name else AIM_MIXED
            if ratio < aim:
                print(f"{'':<36} below the aim of {aim}x")
