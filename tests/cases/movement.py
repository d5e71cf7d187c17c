"""Padding, reversal, rolling, blocks and patches: results are equal bit for bit."""

from tests.spine import Case, Host, Tensor, expand


def _padding() -> list[Case]:
    result = []
    for i, (shape, paddings) in enumerate(
        [
            ((2, 3), [[1, 2], [0, 1]]),
            ((3,), [[0, 0]]),
            ((2, 3, 4, 5), [[0, 0], [1, 1], [2, 0], [0, 0]]),
            ((0, 3), [[1, 1], [0, 2]]),
            ((2, 1, 3, 1, 2, 2), [[0, 1]] * 6),
            ((), []),
            ((1, 33, 40), [[0, 0], [0, 0], [3, 70]]),
        ]
    ):
        host = Host(paddings or [[0, 0]][:0], "int64" if i % 2 else "int32")
        if not paddings:
            continue
        grad = ("input",) if i in (0, 2) else ()
        case = Case("Pad", {"input": Tensor(shape), "paddings": host}, exact=True, grad=grad)
        result += expand(case)
        args = {"input": Tensor(shape), "paddings": host, "constant_values": Tensor(())}
        result += expand(Case("PadV2", args, exact=True, grad=grad))
    for mode in ["REFLECT", "SYMMETRIC"]:
        for i, (shape, paddings) in enumerate(
            [
                ((4, 3), [[1, 2], [0, 2]]),
                ((5,), [[3, 1]]),
                ((2, 3, 4, 5), [[0, 0], [1, 2], [2, 0], [0, 0]]),
                ((1, 3), [[0, 0], [0, 2]]),
                ((2, 2, 3, 2, 3), [[1, 0], [0, 1], [1, 1], [0, 0], [2, 1]]),
            ]
        ):
            host = Host(paddings, "int64" if i % 2 else "int32")
            args = {"input": Tensor(shape), "paddings": host}
            result += expand(Case("MirrorPad", args, {"mode": mode}, grad=("input",), scale=4))
            padded = tuple(n + a + b for n, (a, b) in zip(shape, paddings, strict=True))
            args = {"input": Tensor(padded), "paddings": host}
            result += expand(Case("MirrorPadGrad", args, {"mode": mode}, scale=4))
    return result


def _reversal() -> list[Case]:
    result = []
    for shape, axes in [
        ((4, 3), [0]),
        ((4, 3), [-1]),
        ((2, 3, 4), [0, 2]),
        ((3,), []),
        ((), []),
        ((0, 2), [0]),
        ((2, 1, 3, 2, 2), [4, 0, 2]),
    ]:
        for index in ["int32", "int64"]:
            args = {"tensor": Tensor(shape), "axis": Host(axes, index)}
            result += expand(Case("ReverseV2", args, exact=True, grad=("tensor",)))
        flags = [k in [a % max(len(shape), 1) for a in axes] for k in range(len(shape))]
        args = {"tensor": Tensor(shape), "dims": Host(flags, "bool")}
        if 0 not in shape:  # the CPU kernel has no answer
            result += expand(Case("Reverse", args, exact=True))
    for shape, shift, axis in [
        ((5,), 2, 0),
        ((4, 3), [1, -1], [0, 1]),
        ((4, 3), [5, 7], [1, 1]),
        ((2, 3, 4), -2, -1),
        ((2, 3, 4), [1], [0]),
        ((0, 3), 1, 0),
        ((3, 50, 7), [-20, 3], [1, 2]),
    ]:
        for index in ["int32", "int64"]:
            args = {"input": Tensor(shape), "shift": Host(shift, index), "axis": Host(axis, index)}
            result += expand(Case("Roll", args, exact=True, grad=("input",)))
    for shape, batch, time in [((3, 5), 0, 1), ((4, 2, 3), 2, 0), ((2, 3, 4, 2), 1, 2)]:
        for index in ["int32", "int64"]:
            lengths = Tensor((shape[batch],), f"below:{shape[time] + 1}", index)
            args = {"input": Tensor(shape), "seq_lengths": lengths}
            attrs = {"seq_dim": time, "batch_dim": batch}
            result += expand(Case("ReverseSequence", args, attrs, exact=True, grad=("input",)))
    return result


def _slice_gradients() -> list[Case]:
    result = []
    for shape, dy, begin, end, strides, masks in [
        ((5, 6), (3, 3), [1, 0], [4, 6], [1, 2], {}),
        ((5, 6), (4, 3), [4, -1], [0, -7], [-1, -2], {}),
        ((5, 6), (6,), [0], [1], [1], {"shrink_axis_mask": 1}),
        ((2, 3, 4), (2, 3, 1), [0, 1], [0, 2], [1, 1], {"ellipsis_mask": 1}),
        (
            (2, 3),
            (1, 2, 3),
            [0, 0],
            [0, 0],
            [1, 1],
            {"new_axis_mask": 1, "begin_mask": 2, "end_mask": 2},
        ),
        ((5,), (0,), [3], [1], [1], {}),
        ((0,), (0,), [0], [1], [1], {}),
    ]:
        for index in ["int32", "int64"]:
            args = {
                "shape": Host(list(shape), index),
                "begin": Host(begin, index),
                "end": Host(end, index),
                "strides": Host(strides, index),
                "dy": Tensor(dy),
            }
            result += expand(Case("StridedSliceGrad", args, masks, exact=True))
    return result


def _blocks() -> list[Case]:
    result = []
    for shape, block, paddings in [
        ((2, 4, 6, 3), [2, 3], [[0, 0], [0, 0]]),
        ((1, 3, 5, 2), [2, 2], [[1, 0], [2, 1]]),
        ((2, 5), [3], [[0, 1]]),
        ((1, 2, 2, 2, 2), [1, 2, 2], [[0, 0], [1, 1], [0, 0]]),
        ((0, 4, 3), [2], [[0, 0]]),
        ((3, 2), [1], [[0, 0]]),
    ]:
        host = {"block_shape": Host(block), "paddings": Host(paddings)}
        args = {"input": Tensor(shape), **host}
        result += expand(Case("SpaceToBatchND", args, exact=True, grad=("input",)))
        batches = list(shape)
        for k, (b, (left, right)) in enumerate(zip(block, paddings, strict=True)):
            batches[0] *= b
            batches[k + 1] = (shape[k + 1] + left + right) // b
        args = {
            "input": Tensor(tuple(batches)),
            "block_shape": Host(block, "int64"),
            "crops": Host(paddings, "int64"),
        }
        result += expand(Case("BatchToSpaceND", args, exact=True, grad=("input",)))
    args = {"input": Tensor((2, 3, 4, 3)), "paddings": Host([[0, 1], [1, 1]])}
    result += expand(Case("SpaceToBatch", args, {"block_size": 2}, exact=True))
    args = {"input": Tensor((8, 2, 3, 3)), "crops": Host([[0, 1], [1, 1]])}
    result += expand(Case("BatchToSpace", args, {"block_size": 2}, exact=True))
    for shape, block in [((2, 4, 6, 3), 2), ((1, 6, 3, 1), 3), ((0, 2, 2, 4), 2)]:
        attrs = {"block_size": block}
        case = Case("SpaceToDepth", {"input": Tensor(shape)}, attrs, exact=True, grad=("input",))
        result += expand(case)
        n, h, w, c = shape
        deep = Tensor((n, h // block, w // block, c * block * block))
        case = Case("DepthToSpace", {"input": deep}, attrs, exact=True, grad=("input",))
        result += expand(case)
    return result


def _patches() -> list[Case]:
    result = []
    for shape, sizes, strides, rates in [
        ((2, 7, 6, 3), [3, 2], [2, 1], [1, 1]),
        ((1, 8, 9, 1), [2, 3], [3, 2], [2, 3]),
        ((1, 3, 3, 2), [1, 1], [1, 1], [1, 1]),
        ((0, 4, 4, 1), [2, 2], [1, 1], [1, 1]),
    ]:
        for padding in ["SAME", "VALID"]:
            attrs = {
                "ksizes": [1, *sizes, 1],
                "strides": [1, *strides, 1],
                "rates": [1, *rates, 1],
                "padding": padding,
            }
            args = {"images": Tensor(shape)}
            result += expand(Case("ExtractImagePatches", args, attrs, exact=True))
    for padding in ["SAME", "VALID"]:
        attrs = {"ksizes": [1, 2, 3, 2, 1], "strides": [1, 1, 2, 2, 1], "padding": padding}
        args = {"input": Tensor((2, 3, 5, 6, 2))}
        result += expand(Case("ExtractVolumePatches", args, attrs, exact=True))
    return result


def cases() -> list[Case]:
    return _padding() + _reversal() + _slice_gradients() + _blocks() + _patches()
