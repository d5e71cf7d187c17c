"""Single ops on large tensors: the 60 that Keras models run most often, and a few more.

Each is run eagerly on the device and on the CPU, in float32, on operands that are there already.
No op should take more than twice the CPU's time without a reason in its row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_metal_py import timing

ROUNDS = 7
SLOWEST = 0.5  # of the CPU's speed, without a reason
ROWS, COLUMNS = 2048, 1024
IMAGES, IMAGE, CHANNELS = 32, 56, 64
STEPS, HEADS, WIDTH = 128, 4, 64  # of attention


@dataclasses.dataclass(frozen=True)
class Row:
    """How to call an op.

    Attributes:
      arguments: of the raw op. Arrays of int32 are inputs that TensorFlow keeps on the host.
      reason: why the device may be slower than `SLOWEST`.
    """

    arguments: Callable[[], dict[str, Any]]
    reason: str = ""


# Why rows lose.
SCALAR = "the host runs this shader one thread after the other, not in vectors"
DEPTHWISE = "the host copies each source with its padding, and results from rows to their places"
SEVERAL = "several operations, each of which reads and writes a block in the cache"
DIVISION = "an exponential and a division for each element, where the CPU has a fraction only"
LAUNCH = "so little work that waking a second thread and waiting for the end weigh as much"


def x(*shape: int, low: float = 0.5, high: float = 1.5) -> np.ndarray:
    """Random float32, of ROWS x COLUMNS if no shape is given."""
    rng = np.random.default_rng(len(shape))
    return rng.uniform(low, high, shape or (ROWS, COLUMNS)).astype(np.float32)


def signed(*shape: int) -> np.ndarray:
    return x(*shape, low=-2, high=2)


def host(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def unary(make: Callable[[], np.ndarray] = signed, name: str = "x", reason: str = "") -> Row:
    return Row(lambda: {name: make()}, reason)


def binary(first: str = "x", second: str = "y", reason: str = "") -> Row:
    return Row(lambda: {first: signed(), second: x()}, reason)


def reduction(**attributes: Any) -> Row:
    return Row(lambda: {"input": x(), "axis": host(1), "keep_dims": False, **attributes})


def image() -> np.ndarray:
    return signed(IMAGES, IMAGE, IMAGE, CHANNELS)


def convolution(depthwise: bool = False, **changes: Any) -> Row:
    """`changes` replace or remove (None) arguments; a callable makes its value."""
    weights = (3, 3, CHANNELS, 1) if depthwise else (3, 3, CHANNELS, CHANNELS)

    def arguments():
        values = {
            "input": image,
            "filter": lambda: signed(*weights),
            "strides": [1, 1, 1, 1],
            "padding": "SAME",
            **changes,
        }
        return {k: v() if callable(v) else v for k, v in values.items() if v is not None}

    return Row(arguments, DEPTHWISE if depthwise else "")


def pooling(**changes: Any) -> dict[str, Any]:
    return {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME", **changes}


def max_pool_grad() -> dict[str, Any]:
    before = image()
    with tf.device("/CPU:0"):
        after = tf.raw_ops.MaxPool(input=before, **pooling()).numpy()
    return {"orig_input": before, "orig_output": after, "grad": after, **pooling()}


def mask() -> np.ndarray:
    return signed() > 0


# The 60 ops that occur most often in the graphs of 122 Keras models, training and inference: by
# number of nodes, without variables, constants, shape arithmetic and what does not touch elements.
FREQUENT = {
    "Mul": binary(),
    "AddV2": binary(),
    "Sub": binary(),
    "RealDiv": binary(),
    "Cast": Row(lambda: {"x": mask(), "DstT": tf.float32}),
    "Sum": reduction(),
    "Sqrt": unary(x),
    "Pow": Row(lambda: {"x": x(), "y": x()}),
    "AddN": Row(lambda: {"inputs": [x(), signed(), x()]}),
    "Tile": Row(lambda: {"input": x(ROWS, 64), "multiples": host(1, 16)}),
    "Mean": reduction(),
    "StridedSlice": Row(
        lambda: {
            "input": x(),
            "begin": host(0, 8),
            "end": host(ROWS, COLUMNS - 8),
            "strides": host(1, 1),
        },
    ),
    "MatMul": Row(lambda: {"a": signed(1024, 1024), "b": signed(1024, 1024)}),
    "Conv2D": convolution(),
    "Rsqrt": unary(x),
    "Neg": unary(),
    "Square": unary(),
    "BiasAdd": Row(lambda: {"value": x(), "bias": x(COLUMNS)}),
    "Pack": Row(lambda: {"values": [x(), signed()], "axis": 0}),
    "Conv2DBackpropInput": convolution(
        input=None, input_sizes=lambda: host(IMAGES, IMAGE, IMAGE, CHANNELS), out_backprop=image
    ),
    "SquaredDifference": binary(),
    "Sigmoid": unary(),
    "Conv2DBackpropFilter": convolution(
        filter=None, filter_sizes=lambda: host(3, 3, CHANNELS, CHANNELS), out_backprop=image
    ),
    "DivNoNan": binary(),
    "RsqrtGrad": Row(lambda: {"y": x(), "dy": signed()}, SEVERAL),
    "Relu": unary(name="features"),
    "SelectV2": Row(lambda: {"condition": mask(), "t": x(), "e": signed()}),
    "BiasAddGrad": unary(name="out_backprop"),
    "All": Row(lambda: {"input": signed() < 9, "axis": host(1), "keep_dims": False}, LAUNCH),
    "Fill": Row(lambda: {"dims": host(ROWS, COLUMNS), "value": x(1)[0]}),
    "BatchMatMulV2": Row(
        lambda: {
            "x": signed(16, HEADS, STEPS, WIDTH),
            "y": signed(16, HEADS, STEPS, WIDTH),
            "adj_y": True,
        }
    ),
    "IsFinite": unary(),
    "Transpose": Row(lambda: {"x": x(16, STEPS, 16, WIDTH), "perm": host(0, 2, 1, 3)}),
    "Maximum": binary(),
    "FloorDiv": binary(),
    "ConcatV2": Row(lambda: {"values": [x(), signed()], "axis": host(1)[0]}),
    "ReluGrad": binary("gradients", "features"),
    "DepthwiseConv2dNative": convolution(True),
    "Relu6": unary(name="features"),
    "Equal": binary(),
    "Less": binary(),
    "FloorMod": binary(),
    "Slice": Row(lambda: {"input": x(), "begin": host(0, 8), "size": host(ROWS, COLUMNS - 16)}),
    "Prod": reduction(),
    "LogicalAnd": Row(lambda: {"x": mask(), "y": mask()}),
    "Tanh": unary(reason=DIVISION),
    "DepthwiseConv2dNativeBackpropInput": convolution(
        True,
        input=None,
        input_sizes=lambda: host(IMAGES, IMAGE, IMAGE, CHANNELS),
        out_backprop=image,
    ),
    "DepthwiseConv2dNativeBackpropFilter": convolution(
        True, filter=None, filter_sizes=lambda: host(3, 3, CHANNELS, 1), out_backprop=image
    ),
    "Relu6Grad": binary("gradients", "features"),
    "StridedSliceGrad": Row(
        lambda: {
            "shape": host(ROWS, COLUMNS),
            "begin": host(0, 8),
            "end": host(ROWS, COLUMNS - 8),
            "strides": host(1, 1),
            "dy": x(ROWS, COLUMNS - 16),
        }
    ),
    "GreaterEqual": binary(),
    "StatelessRandomUniformV2": Row(
        lambda: {
            "shape": host(ROWS, COLUMNS),
            "key": np.array([1], np.uint64),
            "counter": np.array([1, 2], np.uint64),
            "alg": host(1)[0],
        }
    ),
    "Split": Row(lambda: {"axis": host(1)[0], "value": x(), "num_split": 4}),
    "ArgMax": Row(lambda: {"input": signed(), "dimension": host(1)[0]}),
    "SparseSoftmaxCrossEntropyWithLogits": Row(
        lambda: {"features": signed(), "labels": np.arange(ROWS) % COLUMNS}
    ),
    "GatherV2": Row(
        lambda: {"params": x(), "indices": np.arange(ROWS)[::-1] // 2, "axis": host(0)[0]}
    ),
    "Minimum": binary(),
    "SigmoidGrad": binary("y", "dy"),
    "Einsum": Row(
        lambda: {
            "inputs": [signed(16, STEPS, HEADS, WIDTH), signed(16, STEPS, HEADS, WIDTH)],
            "equation": "aecd,abcd->acbe",
        }
    ),
    "Exp": unary(),
}
MORE = {
    "Softmax": unary(name="logits", reason=SEVERAL),
    "Log": unary(x),
    "TanhGrad": binary("y", "dy"),
    "Erfc": unary(),
    "Log1p": unary(x),
    "Atan2": binary("y", "x"),
    "Max": reduction(),
    "Pad": Row(lambda: {"input": x(), "paddings": np.full((2, 2), 4, np.int32)}),
    "MaxPool": Row(lambda: {"input": image(), **pooling()}, SCALAR),
    "MaxPoolGrad": Row(max_pool_grad),
    "AvgPool": Row(lambda: {"value": image(), **pooling()}, SCALAR),
}


def _place(value: Any, device: str) -> Any:
    if isinstance(value, list) and isinstance(value[0], np.ndarray):
        return [_place(v, device) for v in value]
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    with tf.device("/CPU:0" if value.dtype == np.int32 else device):
        return tf.constant(value)


def _side(name: str, arguments: dict[str, Any], device: str) -> Callable[[], object]:
    op = getattr(tf.raw_ops, name)
    placed = {key: _place(value, device) for key, value in arguments.items()}
    one = _place(x(1), device)

    def run():
        with tf.device(device):
            op(**placed)
            tf.raw_ops.Neg(x=one).numpy()  # waits for all that was queued

    return run


def run() -> None:
    from tensorflow_metal_py import _runtime

    device = f"/{_runtime.call('loading')['type']}:0"
    losers = []
    for name, row in {**FREQUENT, **MORE}.items():
        arguments = row.arguments()
        sides = {"device": _side(name, arguments, device), "CPU": _side(name, arguments, "/CPU:0")}
        ratio = timing.print_row(name, timing.interleave(sides, ROUNDS), 1e-3, "ms")
        if ratio < SLOWEST:
            losers.append(name)
            print(f"{'':<36} {row.reason or 'TOO SLOW, without a reason'}", flush=True)
    print(f"slower than {SLOWEST}x: {', '.join(losers) or 'none'}")
