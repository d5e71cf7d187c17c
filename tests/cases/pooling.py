"""Pooling and its gradients."""

import dataclasses

import tensorflow as tf

from tests.cases.convolution import _output
from tests.spine import Case, Host, Tensor, expand

# name: (input, ksize, strides, padding), NHWC; padding is SAME, VALID or a list of pairs.
_POOL_2D = {
    "plain": ((2, 6, 8, 5), (2, 2), (2, 2), "VALID"),
    "overlap": ((2, 7, 6, 3), (3, 3), (2, 2), "SAME"),
    "dense": ((1, 5, 6, 9), (3, 2), (1, 1), "SAME"),
    "gaps": ((2, 9, 8, 2), (2, 1), (3, 4), "VALID"),
    "whole": ((2, 4, 5, 17), (4, 5), (1, 1), "VALID"),
    "wide": ((2, 2, 3, 8), (5, 5), (2, 2), "SAME"),
    "no_batch": ((0, 4, 5, 3), (2, 2), (1, 1), "VALID"),
    "explicit": ((2, 5, 6, 4), (3, 2), (2, 1), [(2, 1), (0, 1)]),
}
_POOL_3D = {
    "plain": ((2, 4, 6, 4, 3), (2, 2, 2), (2, 2, 2), "VALID"),
    "overlap": ((1, 5, 4, 6, 9), (3, 2, 3), (2, 1, 2), "SAME"),
    "no_batch": ((0, 4, 4, 4, 3), (2, 2, 2), (1, 1, 1), "VALID"),
}


def _spread(values, first):
    return [1, 1, *values] if first else [1, *values, 1]


def _move(shape, first):
    return (shape[0], shape[-1], *shape[1:-1]) if first else shape


class ChannelsLast:
    """The op on transposed data: the CPU kernels know this layout only."""

    def __init__(self, op):
        self.op = getattr(tf.raw_ops, op)

    def __call__(self, data_format, **kwargs):
        n = len(data_format)
        last, first = [0, *range(2, n), 1], [0, n - 1, *range(1, n - 1)]
        for name, value in kwargs.items():
            if tf.is_tensor(value) and value.shape.rank == n:
                kwargs[name] = tf.transpose(value, last)
            elif tf.is_tensor(value):
                kwargs[name] = tf.gather(value, last)
            elif name in ("ksize", "strides"):
                kwargs[name] = [value[i] for i in last]
            elif name == "explicit_paddings" and value:
                kwargs[name] = [v for i in last for v in value[2 * i : 2 * i + 2]]
        layout = "NHWC" if n == 4 else "NDHWC"
        return tf.transpose(self.op(data_format=layout, **kwargs), first)


def _one(name, spec, layout, suffix) -> list[Case]:
    shape, sizes, strides, padding = spec
    first = layout.startswith("NC")
    extents, _ = _output(shape[1:-1], sizes, strides, [1] * len(sizes), padding)
    pooled = _move((shape[0], *extents, shape[-1]), first)
    shape = _move(shape, first)
    window = {"ksize": _spread(sizes, first), "strides": _spread(strides, first)}
    attrs = {"padding": padding, "data_format": layout}
    if not isinstance(padding, str):
        pairs = [v for pair in padding for v in pair]
        attrs["padding"] = "EXPLICIT"
        attrs["explicit_paddings"] = [0] * 4 + pairs if first else [0, 0, *pairs, 0, 0]
    x, y, ties = Tensor(shape), Tensor(pooled), Tensor(pooled, "below:3")
    repeated = Tensor(shape, "below:3")
    gradient = {"orig_input": repeated, "orig_output": ties, "grad": y}
    second = {"orig_input": repeated, "orig_output": ties, "grad": x}
    ops = [
        ("MaxPool" + suffix, {"input": x}),
        ("MaxPool" + suffix + "Grad", gradient),
    ]
    if isinstance(padding, str):
        if not suffix or shape[0]:  # the CPU refuses empty images here
            ops.append(("MaxPool" + suffix + "GradGrad", second))
        value = "input" if suffix else "value"
        ops.append(("AvgPool" + suffix, {value: x}))
        shape_input = Host(list(shape))
        ops.append(("AvgPool" + suffix + "Grad", {"orig_input_shape": shape_input, "grad": y}))
    result = []
    for op, args in ops:
        reference = ChannelsLast(op) if first else None
        case = Case(op, args, {**window, **attrs}, label=name, scale=4, reference=reference)
        if op in ("MaxPool", "AvgPool") and name == "overlap" and not first:
            case = dataclasses.replace(case, grad=tuple(args))
        result += expand(case)
        if name == "overlap" and not first:  # the 16-bit CPU kernels start from other numbers
            result.append(dataclasses.replace(case, special=True, label="special", grad=()))
        if not suffix and op.startswith("MaxPool") and isinstance(padding, str):
            hosts = {k: Host(v) for k, v in window.items()}
            reference = ChannelsLast(op + "V2") if first else None
            result += expand(
                Case(op + "V2", {**args, **hosts}, attrs, label=name, scale=4, reference=reference)
            )
    return result


def _positions(name, spec) -> list[Case]:
    shape, sizes, strides, padding = spec
    extents, _ = _output(shape[1:-1], sizes, strides, [1, 1], padding)
    pooled = (shape[0], *extents, shape[-1])
    attrs = {"ksize": _spread(sizes, False), "strides": _spread(strides, False)}
    attrs["padding"] = padding
    image = max(1, shape[1] * shape[2] * shape[3])
    argmax = Tensor(pooled, f"below:{image}", dtype="int64")
    x, y = Tensor(shape, "below:5"), Tensor(pooled)
    result = []
    for batch in (False, True) if shape[0] else ():  # the CPU refuses empty images
        with_batch = {**attrs, "include_batch_in_index": batch}
        case = Case("MaxPoolWithArgmax", {"input": x}, with_batch, label=name, scale=4)
        grad = ("input",) if name == "overlap" and not batch else ()
        result += expand(dataclasses.replace(case, grad=grad))
        if name == "overlap":
            result.append(dataclasses.replace(case, special=True, label="special"))
    args = {"input": x, "grad": y, "argmax": argmax}
    result += expand(Case("MaxPoolGradWithArgmax", args, attrs, label=name, scale=16))

    def gather(input, grad, argmax, **_):
        rows = tf.reshape(grad, [grad.shape[0], -1])
        at = tf.reshape(argmax, [argmax.shape[0], -1])
        return tf.reshape(tf.gather(rows, at, batch_dims=1), argmax.shape)

    args = {"input": x, "grad": Tensor(shape), "argmax": argmax}
    op = "MaxPoolGradGradWithArgmax"
    return result + expand(Case(op, args, attrs, label=name, exact=True, reference=gather))


def cases() -> list[Case]:
    result = []
    for name, spec in _POOL_2D.items():
        for layout in ("NHWC", "NCHW"):
            result += _one(name, spec, layout, "")
        if isinstance(spec[3], str):
            result += _positions(name, spec)
    for name, spec in _POOL_3D.items():
        for layout in ("NDHWC", "NCDHW"):
            result += _one(name, spec, layout, "3D")
    attrs = {"ksize": [1, 1, 1, 3], "strides": [1, 1, 1, 3], "padding": "SAME"}
    return result + expand(
        Case("MaxPool", {"input": Tensor((2, 3, 4, 6))}, attrs, label="channels")
    )
