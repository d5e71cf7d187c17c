"""Convolutions and their gradients."""

import math

import tensorflow as tf

from tests.spine import Case, Host, Tensor, expand

# name: (input, filter, strides, dilations, padding), spatial axes only for the last three; padding
# is SAME, VALID or a list of pairs.
_CONV_2D = {
    "same": ((2, 5, 6, 3), (3, 3, 3, 4), (1, 1), (1, 1), "SAME"),
    "valid": ((2, 7, 5, 3), (3, 2, 3, 4), (1, 1), (1, 1), "VALID"),
    "stride": ((2, 7, 8, 5), (3, 3, 5, 4), (2, 2), (1, 1), "SAME"),
    "stride_valid": ((2, 8, 9, 3), (3, 4, 3, 17), (3, 2), (1, 1), "VALID"),
    "stride_large": ((1, 9, 9, 2), (2, 2, 2, 3), (4, 3), (1, 1), "VALID"),
    "dilated": ((2, 9, 8, 3), (3, 3, 3, 4), (1, 1), (2, 3), "SAME"),
    "dilated_stride": ((2, 9, 10, 3), (3, 2, 3, 4), (2, 3), (2, 2), "SAME"),
    "explicit": ((2, 5, 6, 3), (3, 3, 3, 4), (1, 1), (1, 1), [(1, 2), (0, 2)]),
    "explicit_wide": ((2, 5, 6, 3), (2, 2, 3, 4), (2, 1), (1, 1), [(4, 0), (3, 3)]),
    "explicit_stride": ((1, 6, 5, 3), (3, 3, 3, 4), (2, 2), (1, 1), [(0, 1), (1, 1)]),
    "one": ((2, 4, 5, 7), (1, 1, 7, 20), (1, 1), (1, 1), "SAME"),
    "one_stride": ((2, 5, 5, 16), (1, 1, 16, 3), (2, 2), (1, 1), "SAME"),
    "one_wide": ((2, 3, 3, 40), (1, 1, 40, 33), (1, 1), (1, 1), "VALID"),
    "groups": ((2, 6, 5, 6), (3, 3, 2, 9), (1, 1), (1, 1), "SAME"),
    "groups_stride": ((2, 7, 6, 8), (3, 2, 4, 4), (2, 2), (1, 1), "VALID"),
    "groups_single": ((2, 5, 6, 4), (3, 3, 1, 8), (1, 2), (1, 1), "SAME"),
    "large_filter": ((2, 3, 2, 3), (5, 5, 3, 4), (1, 1), (1, 1), "SAME"),
    "whole": ((2, 4, 5, 3), (4, 5, 3, 6), (1, 1), (1, 1), "VALID"),
    "no_batch": ((0, 5, 6, 3), (3, 3, 3, 4), (1, 1), (1, 1), "SAME"),
    "no_outputs": ((2, 5, 6, 3), (3, 3, 3, 0), (1, 1), (1, 1), "SAME"),
    "many": ((9, 20, 20, 16), (3, 3, 16, 48), (1, 1), (1, 1), "SAME"),
    "deep": ((3, 4, 4, 300), (3, 3, 300, 70), (1, 1), (1, 1), "SAME"),
    "image": ((1, 70, 66, 8), (5, 3, 8, 16), (2, 2), (1, 1), "SAME"),
}
_CONV_3D = {
    "same": ((2, 4, 5, 6, 3), (2, 3, 3, 3, 4), (1, 1, 1), (1, 1, 1), "SAME"),
    "valid": ((2, 4, 5, 6, 3), (3, 2, 4, 3, 4), (1, 1, 1), (1, 1, 1), "VALID"),
    "stride": ((1, 5, 7, 6, 3), (3, 3, 2, 3, 4), (2, 2, 3), (1, 1, 1), "SAME"),
    "dilated": ((1, 6, 7, 8, 2), (2, 3, 3, 2, 4), (1, 1, 1), (2, 1, 3), "VALID"),
    "groups": ((1, 3, 4, 5, 4), (2, 2, 2, 2, 6), (1, 1, 1), (1, 1, 1), "SAME"),
    "one": ((2, 2, 3, 4, 5), (1, 1, 1, 5, 20), (1, 1, 1), (1, 1, 1), "VALID"),
    "no_batch": ((0, 4, 5, 6, 3), (2, 3, 3, 3, 4), (1, 1, 1), (1, 1, 1), "SAME"),
}
_DEPTHWISE = {
    "same": ((2, 5, 6, 4), (3, 3, 4, 1), (1, 1), (1, 1), "SAME"),
    "multiplier": ((2, 6, 5, 3), (3, 2, 3, 4), (1, 1), (1, 1), "VALID"),
    "stride": ((2, 7, 8, 5), (3, 3, 5, 2), (2, 2), (1, 1), "SAME"),
    "strides": ((1, 7, 8, 3), (3, 3, 3, 1), (1, 2), (1, 1), "SAME"),
    "dilated": ((2, 9, 8, 3), (3, 3, 3, 2), (1, 1), (2, 3), "SAME"),
    "explicit": ((2, 5, 6, 3), (3, 3, 3, 2), (1, 1), (1, 1), [(1, 2), (0, 2)]),
    "single": ((2, 5, 6, 1), (3, 3, 1, 3), (1, 1), (1, 1), "SAME"),
    "wide": ((3, 12, 11, 40), (3, 3, 40, 1), (1, 1), (1, 1), "SAME"),
    "no_batch": ((0, 5, 6, 4), (3, 3, 4, 2), (1, 1), (1, 1), "SAME"),
}


def _output(shape, taps, strides, dilations, padding):
    """Spatial extents of the result and the padding as pairs."""
    extents, pads = [], []
    for i, (n, k, s, d) in enumerate(zip(shape, taps, strides, dilations, strict=True)):
        reach = (k - 1) * d + 1
        before, after = (0, 0) if isinstance(padding, str) else padding[i]
        if padding == "SAME":
            total = max(0, (-(-n // s) - 1) * s + reach - n)
            before, after = total // 2, total - total // 2
        extents.append(max(0, (n + before + after - reach) // s + 1))
        pads.append((before, after))
    return extents, pads


class Reference:
    """A convolution as a sum over the taps of its filter: what TensorFlow's CPU kernels are for,
    with every layout, dilation and number of groups."""

    def __init__(self, strides, dilations, padding, first, depthwise):
        self.strides, self.dilations, self.padding = strides, dilations, padding
        self.first, self.depthwise = first, depthwise

    def forward(self, input, filter, **_):
        n = len(self.strides)
        to_last = [0, *range(2, n + 2), 1]
        x = tf.transpose(input, to_last) if self.first else input
        taps = filter.shape[:n]
        extents, pads = _output(x.shape[1:-1], taps, self.strides, self.dilations, self.padding)
        x = tf.pad(x, [(0, 0), *pads, (0, 0)])
        if self.depthwise:
            filter = tf.reshape(filter, [*taps, 1, -1])
        groups = x.shape[-1] // filter.shape[-2] if filter.shape[-1] else 1
        total = tf.zeros([x.shape[0], *extents, filter.shape[-1]], x.dtype)
        for tap in range(math.prod(taps)):
            index, rest = [], tap
            for k in reversed(taps):
                index.insert(0, rest % k)
                rest //= k
            cut = [slice(None)]
            for i, at in enumerate(index):
                start = at * self.dilations[i]
                stop = start + (extents[i] - 1) * self.strides[i] + 1
                cut.append(slice(start, stop, self.strides[i]))
            window, weights = x[tuple(cut)], filter[tuple(index)]
            parts = zip(tf.split(window, groups, -1), tf.split(weights, groups, -1), strict=True)
            total += tf.concat([tf.tensordot(a, b, 1) for a, b in parts], -1)
        return tf.transpose(total, [0, n + 1, *range(1, n + 1)]) if self.first else total

    def input_gradient(self, input_sizes, filter, out_backprop, **_):
        x = tf.zeros(input_sizes, filter.dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self.forward(x, filter)
        return tape.gradient(y, x, out_backprop)

    def filter_gradient(self, input, filter_sizes, out_backprop, **_):
        w = tf.zeros(filter_sizes, input.dtype)
        with tf.GradientTape() as tape:
            tape.watch(w)
            y = self.forward(input, w)
        return tape.gradient(y, w, out_backprop)


def _first(shape):
    return (shape[0], shape[-1], *shape[1:-1])


def _one(ops, name, layout, spec) -> list[Case]:
    x, w, strides, dilations, padding = spec
    n, first, depthwise = len(strides), layout.startswith("NC"), ops[0].startswith("Depthwise")
    extents, _ = _output(x[1:-1], w[:n], strides, dilations, padding)
    y = (x[0], *extents, w[-1] * w[-2] if depthwise else w[-1])

    def spread(values):
        return [1, 1, *values] if first else [1, *values, 1]

    attrs = {"strides": spread(strides), "data_format": layout}
    if any(d != 1 for d in dilations):
        attrs["dilations"] = spread(dilations)
    attrs["padding"] = padding
    if not isinstance(padding, str):
        pairs = [v for pair in padding for v in pair]
        attrs["padding"] = "EXPLICIT"
        attrs["explicit_paddings"] = [0] * 4 + pairs if first else [0, 0, *pairs, 0, 0]
    reference = Reference(strides, dilations, padding, first, depthwise)
    stock = not first and all(d == 1 for d in dilations) and not name.startswith("groups")
    stock = stock and not (depthwise and len(set(strides)) > 1) and math.prod(x) * w[-1]
    if first:
        x, y = _first(x), _first(y)
    sizes = math.prod(w[:n]) * (w[-1] + w[-2]), math.prod(y[:1] + tuple(extents))
    forward = {"input": Tensor(x), "filter": Tensor(w)}
    on_input = {"input_sizes": Host(list(x)), "filter": Tensor(w), "out_backprop": Tensor(y)}
    on_filter = {"input": Tensor(x), "filter_sizes": Host(list(w)), "out_backprop": Tensor(y)}
    result = []
    for op, args, run, length in [
        (ops[0], forward, reference.forward, sizes[0]),
        (ops[1], on_input, reference.input_gradient, sizes[0]),
        (ops[2], on_filter, reference.filter_gradient, sizes[1]),
    ]:
        grad = ("input", "filter") if op == ops[0] and name in ("same", "groups") else ()
        scale = 4 * math.sqrt(max(1, length))
        chosen = None if stock else run
        case = Case(op, args, attrs, grad=grad, scale=scale, label=name, reference=chosen)
        result += expand(case)
    return result


def _family(ops, specs, layouts) -> list[Case]:
    result = []
    for name, spec in specs.items():
        for layout in layouts:
            result += _one(ops, name, layout, spec)
    return result


def cases() -> list[Case]:
    gradients = ["", "BackpropInput", "BackpropFilter"]
    return (
        _family(["Conv2D" + g for g in gradients], _CONV_2D, ["NHWC", "NCHW"])
        + _family(
            ["Conv3D" + g + ("V2" if g else "") for g in gradients], _CONV_3D, ["NDHWC", "NCDHW"]
        )
        + _family(["DepthwiseConv2dNative" + g for g in gradients], _DEPTHWISE, ["NHWC", "NCHW"])
    )
