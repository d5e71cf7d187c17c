"""Arithmetic of integers, bits and remainders; what is zero divided by is tests/test_errors.py."""

from tests.spine import INTEGERS, Case, Host, Tensor, expand

_PAIRS = [
    ((4, 3), (4, 3)),
    ((40,), ()),
    ((2, 1, 5), (3, 1)),
    ((2, 0, 3), (1, 3)),
    ((3, 1, 4, 1, 5), (1, 2, 1, 3, 1)),
]
_DIVISIONS = ["FloorDiv", "FloorMod", "TruncateMod", "Mod", "TruncateDiv", "Div"]
_BITS = ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift"]


def _binary() -> list[Case]:
    result = []
    for i, (a, b) in enumerate(_PAIRS):
        for op in _DIVISIONS:
            args = {"x": Tensor(a), "y": Tensor(b, "nonzero")}
            result += expand(Case(op, args, special=i == 0))
        for op in _BITS:
            kind = "below:20" if op.endswith("Shift") else "normal"
            result += expand(Case(op, {"x": Tensor(a), "y": Tensor(b, kind)}))
        for op, kind in [("Pow", "below:12"), ("SquaredDifference", "normal")]:
            args = {"x": Tensor(a), "y": Tensor(b, kind)}
            result += expand(Case(op, args), only=INTEGERS)
    return result


def _unary() -> list[Case]:
    result = []
    for shape in [(40,), (3, 1, 5), (), (0, 4)]:
        for op in ["Abs", "Neg", "Sign", "Square", "Invert", "PopulationCount"]:
            result += expand(Case(op, {"x": Tensor(shape)}), only=INTEGERS)
    for shapes in [[(3, 2)], [(3, 2)] * 2, [()] * 5, [(0, 2)] * 3]:
        result += expand(Case("AddN", {"inputs": [Tensor(s) for s in shapes]}), only=INTEGERS)
    return result


def _reductions() -> list[Case]:
    result = []
    for shape, axes, attrs in [
        ((5, 7), [1], {}),
        ((5, 7), [0], {"keep_dims": True}),
        ((2, 3, 4, 5), [0, -2], {}),
        ((2, 3, 4, 5), [1, 2, 3], {}),
        ((3, 1, 2), [], {}),
        ((), [], {}),
        ((20000,), [0], {}),
        ((3, 5000, 2), [1], {}),
        ((0, 3), [1], {}),
        ((0, 3), [0], {}),
    ]:
        args = {"input": Tensor(shape), "axis": Host(axes)}
        for op in ["Sum", "Prod", "Max", "Min"]:
            result += expand(Case(op, args, attrs), only=INTEGERS)
    for shape, axis in [((5, 7), 1), ((5, 7), 0), ((2, 3, 4), -2), ((300,), 0)]:
        for op in ["ArgMax", "ArgMin"]:
            for output in ("int32", "int64"):
                args = {"input": Tensor(shape), "dimension": Host(axis)}
                result += expand(
                    Case(op, args, types={"output_type": output}), only=(*INTEGERS, "bool")
                )
    return result


def _comparisons() -> list[Case]:
    """Neighbours beyond 2^53, where float64 cannot tell them apart."""
    result = []
    for dtype, value in [("int64", 2**53), ("uint64", 2**63 + 2**12), ("uint32", 2**31)]:
        near = [value - 1, value, value + 1]
        for op in ["Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"]:
            args = {"x": Host([[n] for n in near], dtype), "y": Host(near, dtype)}
            result.append(Case(op, args, dtype=dtype))
        for op in ["Maximum", "Minimum", "FloorDiv", "FloorMod"]:
            args = {"x": Host([[n] for n in near], dtype), "y": Host(near, dtype)}
            result.append(Case(op, args, dtype=dtype))
        result.append(
            Case("ArgMax", {"input": Host(near, dtype), "dimension": Host(0)}, dtype=dtype)
        )
        result.append(Case("Max", {"input": Host(near, dtype), "axis": Host(0)}, dtype=dtype))
    return result


def cases() -> list[Case]:
    return _binary() + _unary() + _reductions() + _comparisons()
