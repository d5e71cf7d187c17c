"""Ops that move elements: results are equal bit for bit."""

from tests.spine import Case, Host, Tensor, expand


def _join_and_split() -> list[Case]:
    result = []
    for shapes, axis in [
        ([(2, 3), (4, 3)], 0),
        ([(2, 3), (2, 1), (2, 2)], -1),
        ([(0, 3), (2, 3)], 0),
        ([(3,), (1,)], 0),
        ([(2, 0), (2, 0)], 1),
        ([(2, 2, 2)] * 5, 1),
    ]:
        result.append(
            Case(
                "ConcatV2",
                {"values": [Tensor(s) for s in shapes], "axis": Host(axis)},
                grad=("values",),
                exact=True,
            )
        )
    for n, shape, axis in [(3, (2, 2), 0), (2, (2, 2), -1), (1, (), 0), (4, (), 0), (2, (0, 3), 1)]:
        result.append(Case("Pack", {"values": [Tensor(shape)] * n}, {"axis": axis}, exact=True))
    for n, shape, axis in [(2, (4, 3), 0), (3, (2, 3), -1), (1, (5,), 0), (2, (0, 2), 1)]:
        result.append(
            Case(
                "Split", {"axis": Host(axis), "value": Tensor(shape)}, {"num_split": n}, exact=True
            )
        )
    for sizes, shape, axis in [([1, 3], (4, 3), 0), ([2, -1, 1], (2, 5), 1), ([0, 4], (4,), 0)]:
        result.append(
            Case(
                "SplitV",
                {"value": Tensor(shape), "size_splits": Host(sizes, "int64"), "axis": Host(axis)},
                {"num_split": len(sizes)},
                exact=True,
            )
        )
    for n, shape, axis in [(4, (4, 3), 0), (3, (4, 3), -1), (2, (2,), 0), (2, (0, 2), 1)]:
        result.append(
            Case("Unpack", {"value": Tensor(shape)}, {"num": n, "axis": axis}, exact=True)
        )
    return result


def _rearrange() -> list[Case]:
    result = []
    for shape, perm in [
        ((2, 3), [1, 0]),
        ((2, 3, 4), [2, 0, 1]),
        ((), []),
        ((0, 3), [1, 0]),
        ((2, 1, 3, 2, 2), [4, 2, 0, 3, 1]),
    ]:
        result.append(
            Case("Transpose", {"x": Tensor(shape), "perm": Host(perm)}, exact=True, grad=("x",))
        )
    for shape, multiples in [((2, 3), [2, 1]), ((3,), [0]), ((), []), ((1, 2, 2), [3, 2, 1])]:
        result.append(
            Case("Tile", {"input": Tensor(shape), "multiples": Host(multiples)}, exact=True)
        )
    for shape, to in [((3,), [2, 3]), ((), [2, 2]), ((2, 1), [2, 4]), ((1,), [0]), ((), [])]:
        result.append(Case("BroadcastTo", {"input": Tensor(shape), "shape": Host(to)}, exact=True))
    return result


def _slices() -> list[Case]:
    result = []
    for shape, begin, size in [
        ((4, 5), [1, 2], [2, -1]),
        ((3,), [0], [0]),
        ((), [], []),
        ((2, 3, 4), [0, 1, 2], [2, 2, 1]),
    ]:
        result.append(
            Case(
                "Slice",
                {"input": Tensor(shape), "begin": Host(begin), "size": Host(size)},
                exact=True,
            )
        )
    for shape, begin, end, strides, masks in [
        ((5, 6), [1, 0], [4, 6], [1, 2], {}),
        ((5, 6), [4, -1], [0, -7], [-1, -2], {}),
        ((5, 6), [0], [1], [1], {"shrink_axis_mask": 1}),
        ((5, 6), [0, 2], [0, 3], [1, 1], {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}),
        ((2, 3, 4), [0, 1], [0, 2], [1, 1], {"ellipsis_mask": 1}),
        ((2, 3, 4), [0, 0, 0], [0, 0, 2], [1, 1, 1], {"ellipsis_mask": 1, "new_axis_mask": 2}),
        ((2, 3), [0, 0], [0, 0], [1, 1], {"new_axis_mask": 1, "begin_mask": 2, "end_mask": 2}),
        ((5,), [-3], [-1], [1], {}),
        ((5,), [0], [0], [-2], {"begin_mask": 1, "end_mask": 1}),
        ((5,), [3], [1], [1], {}),
        ((5,), [-9], [9], [1], {}),
        ((2, 2), [], [], [], {}),
    ]:
        args = {
            "input": Tensor(shape),
            "begin": Host(begin),
            "end": Host(end),
            "strides": Host(strides),
        }
        result.append(Case("StridedSlice", args, masks, exact=True))
    return result


def _constants() -> list[Case]:
    result = []
    for shape in [(), (3,), (0, 2), (2, 3, 2)]:
        result.append(Case("Fill", {"dims": Host(list(shape)), "value": Tensor(())}, exact=True))
        result.append(Case("ZerosLike", {"x": Tensor(shape)}, exact=True))
        result.append(Case("OnesLike", {"x": Tensor(shape)}, exact=True))
        result.append(Case("Snapshot", {"input": Tensor(shape)}, exact=True))
    return result


def cases() -> list[Case]:
    plain = _join_and_split() + _rearrange() + _slices() + _constants()
    result = [c for case in plain for c in expand(case)]
    for shape in [(7,), (3, 4), (0,), (2, 1025), (2, 2, 3)]:
        result += expand(Case("Where", {"condition": Tensor(shape, "zeros")}, special=True))
    return result
