"""Training steps of a CNN, a Transformer, an LSTM and an MLP against stock TensorFlow on the CPU.

The same as `python -m tensorflow_metal_py bench`. Aims: float32 at least 0.8 times as fast as
stock, the LSTM 1.5 times; mixed policies at least 0.9 times as fast as the device's float32. And
where stock TensorFlow takes over twice as long under a mixed policy as in float32, at least twice
as fast as stock under that policy.
"""

from __future__ import annotations

from tensorflow_metal_py import bench, models, timing

AIM = {"mlp": 0.8, "resnet": 0.8, "transformer": 0.8, "lstm": 1.5}
AIM_MIXED = 0.9
AIM_STOCK_MIXED = 2.0
ROUNDS = 7
# A step of ResNet-18 in mixed_float16 takes stock TensorFlow minutes.
STOCK_MIXED_ROUNDS, STOCK_MIXED_PART = 3, 16  # of the usual batch


def _report(ratio: float, aim: float) -> None:
    if ratio < aim:
        print(f"{'':<36} below the aim of {aim}x")


def against_stock_in_the_same_policy(name: str, device: str, policy: str) -> None:
    batch = max(1, models.find(name).batch // STOCK_MIXED_PART)
    sides = {
        policy: bench.training_step(name, device, policy, batch),
        "CPU": bench.training_step(name, bench.CPU, policy, batch),
        "CPU float32": bench.training_step(name, bench.CPU, "float32", batch),
    }
    times = timing.interleave(sides, STOCK_MIXED_ROUNDS)
    slowdown = times["CPU"].median / times["CPU float32"].median
    pair = {policy: times[policy], "CPU": times["CPU"]}
    ratio = timing.print_row(f"{name} {policy}", pair, unit=1e-3, name="ms")
    print(f"{'':<36} stock takes {slowdown:.1f} times as long as in float32")
    if slowdown > AIM_STOCK_MIXED:
        _report(ratio, AIM_STOCK_MIXED)


def run() -> None:
    import tensorflow_metal_py as metal

    device = metal.devices()[0].name
    for name in bench.DEFAULT_MODELS:
        for label, timings in bench.compare(name, device, bench.POLICIES, ROUNDS, None, True):
            ratio = timing.print_row(label, timings, unit=1e-3, name="ms")
            _report(ratio, AIM[name] if label == name else AIM_MIXED)
    print(f"mixed policies on both sides, 1/{STOCK_MIXED_PART} of the batch")
    for name in bench.DEFAULT_MODELS:
        for policy in bench.POLICIES[1:]:
            against_stock_in_the_same_policy(name, device, policy)
