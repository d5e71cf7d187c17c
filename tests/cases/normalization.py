"""Batch normalisation and local response normalisation."""

import math

import tensorflow as tf

from tests.spine import Case, Tensor, expand

_SHAPES = [(2, 5, 4, 3), (1, 1, 1, 4), (3, 2, 7, 17), (0, 3, 2, 4), (2, 3, 3, 0), (2, 9, 8, 1)]
_SHAPES_3D = [(2, 3, 4, 2, 5), (0, 3, 4, 2, 5)]


def _first(shape):
    return (shape[0], shape[-1], *shape[1:-1])


class ChannelsLast:
    """The op on transposed data: the CPU kernels are for 2-D images with the channels last."""

    def __init__(self, op, images):
        self.op, self.images = getattr(tf.raw_ops, op), images

    def __call__(self, data_format, **kwargs):
        first = data_format.startswith("NC")
        n = len(data_format)
        last = [0, *range(2, n), 1] if first else list(range(n))
        shape = None
        for name in self.images:
            moved = tf.transpose(kwargs[name], last)
            shape = moved.shape
            kwargs[name] = tf.reshape(moved, [shape[0], shape[1], -1, shape[-1]])
        y, *rest = self.op(data_format="NHWC", **kwargs)
        y = tf.reshape(y, shape)
        if first:
            y = tf.transpose(y, [0, n - 1, *range(1, n - 1)])
        return [y, *rest]


def _batch_norm(shape, layout, training, factor) -> list[Case]:
    first, channels = layout.startswith("NC"), shape[-1]
    x = Tensor(_first(shape) if first else shape)
    vector = Tensor((channels,), "positive", dtype="float32")
    offset = Tensor((channels,), dtype="float32")
    none = Tensor((0,), dtype="float32")
    old = (offset, vector) if not training or factor != 1 else (none, none)
    attrs = {"epsilon": 1e-3, "data_format": layout, "is_training": training}
    forward = {"x": x, "scale": vector, "offset": offset, "mean": old[0], "variance": old[1]}
    backward = {"y_backprop": x, "x": x, "scale": vector}
    backward |= {"reserve_space_1": offset, "reserve_space_2": vector}
    result = []
    for suffix in ["", "V2", "V3"] if layout == "NHWC" else ["V3"]:
        op, gradient = "FusedBatchNorm" + suffix, "FusedBatchNormGrad" + suffix
        scale = 8 * math.sqrt(max(1, math.prod(shape[:-1])))
        plain = layout == "NHWC"
        ref = None if plain else ChannelsLast(op, ["x"])
        with_factor = {**attrs, "exponential_avg_factor": factor}
        result += expand(Case(op, forward, with_factor, scale=scale, reference=ref))
        if shape == _SHAPES[0] and factor == 1 and plain:  # 16 bits would round the seed
            grad = ("x", "scale", "offset")
            result.append(Case(op, forward, attrs, scale=scale, grad=grad, label="gradient"))
        if factor != 1:
            continue
        args = backward | ({"reserve_space_3": none} if suffix == "V3" else {})
        ref = None if plain else ChannelsLast(gradient, ["y_backprop", "x"])
        result += expand(Case(gradient, args, attrs, scale=scale * 4, reference=ref))
    return result


def _lrn() -> list[Case]:
    result = []
    for shape in [(2, 3, 4, 7), (1, 2, 2, 20), (0, 2, 2, 3)]:
        for attrs in [{}, {"depth_radius": 1, "bias": 2.0, "alpha": 0.3, "beta": 0.75}]:
            x = Tensor(shape)
            result += expand(Case("LRN", {"input": x}, attrs, scale=8, grad=("input",)))
            args = {"input_grads": x, "input_image": x, "output_image": x}
            result += expand(Case("LRNGrad", args, attrs, scale=32))
    return result


def cases() -> list[Case]:
    result = _lrn()
    for training, factor in [(True, 1.0), (True, 0.3), (False, 1.0)]:
        for shape in _SHAPES:
            for layout in ["NHWC", "NCHW"]:
                result += _batch_norm(shape, layout, training, factor)
        for shape in _SHAPES_3D:
            for layout in ["NDHWC", "NCDHW"]:
                result += _batch_norm(shape, layout, training, factor)
    return result
