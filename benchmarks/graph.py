"""What the graph passes do to a training step: forward, backward and Adam.

First the structure, which is the same on every machine: per step the dispatches, command buffers,
waits of the host and bytes copied, and what the first step compiles, without passes and as one pass
after the other joins. Then the time of a step without and with all passes, and against stock
TensorFlow on the CPU.
"""

from __future__ import annotations

from tensorflow_metal_py import bench
from tensorflow_metal_py._environment import environment

MODELS = ("mlp", "cnn", "resnet", "resnet50", "transformer", "lstm")
TIMED = ("mlp", "cnn", "transformer", "lstm")
AIM = 1.0  # times stock TensorFlow
STEPS = 3
ROUNDS = 5
COLUMNS = {
    "dispatches": ("encodes",),
    "commits": ("commits",),
    "waits": ("sync_dtoh", "sync_block", "sync_op"),
    "to host": ("bytes_dtoh",),
    "to device": ("bytes_htod",),
}


def settings() -> dict[str, str]:
    """Label to TF_METAL_GRAPPLER: no pass, then one more each time."""
    from tensorflow_metal_py import _runtime

    names = list(_runtime.call("passes"))
    steps = {f"+ {name}": ",".join(names[: i + 1]) for i, name in enumerate(names)}
    return {"none": "none", **steps}


def structure(model: str, device: str) -> None:
    import tensorflow_metal_py as metal
    from tensorflow_metal_py import _runtime

    for label, setting in settings().items():
        with environment(TF_METAL_GRAPPLER=setting):
            step = bench.training_step(model, device, update=True)
            _runtime.call("clear_cache")
            metal.reset_stats()
            step()
        first = metal.stats()
        step()
        metal.reset_stats()
        for _ in range(STEPS):
            step()
        counts = metal.stats()
        values = [sum(counts[c] for c in names) / STEPS for names in COLUMNS.values()]
        columns = "  ".join(f"{v:>10,.0f}" for v in values)
        compiled = f"{first['compiles']:>6} plans in {first['compile_us'] / 1e3:6.0f} ms"
        print(f"{model:<12} {label:<18} {columns}  {compiled}", flush=True)


def times(model: str, device: str) -> None:
    from tensorflow_metal_py import timing

    sides = {}
    for label, setting in (("with", "all"), ("without", "none")):
        with environment(TF_METAL_GRAPPLER=setting):
            sides[label] = bench.training_step(model, device, update=True)
            sides[label]()
    for jit in (False, True):
        sides["CPU jit" if jit else "CPU"] = bench.training_step(
            model, bench.CPU, jit=jit, update=True
        )
    result = timing.interleave(sides, ROUNDS)
    stock = min(("CPU", "CPU jit"), key=lambda side: result[side].median)
    ratio = None
    for other in ("without", stock):
        pair = {"with": result["with"], other: result[other]}
        ratio = timing.print_row(model, pair, unit=1e-3, name="ms")
    if ratio < AIM:
        print(f"{'':<36} below the aim of {AIM}x stock")


def run() -> None:
    import tensorflow_metal_py as metal

    device = metal.devices()[0].name
    header = "  ".join(f"{name:>10}" for name in COLUMNS)
    print(f"{'per step':<12} {'passes':<18} {header}  the first step compiles")
    for model in MODELS:
        structure(model, device)
    print("training step, forward and backward pass and Adam, in milliseconds")
    for model in TIMED:
        times(model, device)
