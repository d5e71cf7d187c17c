"""Reductions over host axes, and arg-extremes."""

from tests.spine import Case, Host, Tensor, expand

_AXES = [
    ((4, 5), [0]),
    ((4, 5), [-1]),
    ((4, 5), [0, 1]),
    ((4, 5), []),
    ((2, 3, 4, 5), [1, 3]),
    ((3, 0, 2), [1]),
    ((3, 0, 2), [0]),
    ((), []),
    ((2, 1, 2, 1, 3, 2), [5, 0]),
    ((2, 3, 2, 3, 2, 3), [0, 2, 4]),
]


def cases() -> list[Case]:
    result = []
    for op in ["Sum", "Mean", "Prod", "Max", "Min"]:
        for i, (shape, axes) in enumerate(_AXES):
            for keep in (False, True):
                args = {
                    "input": Tensor(shape, "nonzero"),
                    "axis": Host(axes, "int64" if keep else "int32"),
                }
                grad = ("input",) if op in ("Sum", "Mean") and i in (0, 4) else ()
                case = Case(op, args, {"keep_dims": keep}, grad=grad, scale=8, special=i == 1)
                result += expand(case)
    result += expand(Case("Sum", {"input": Tensor((300, 700)), "axis": Host([1])}, scale=30))
    result += expand(Case("Mean", {"input": Tensor((3, 65537)), "axis": Host([1])}, scale=8))
    for op in ["All", "Any"]:
        for shape, axes in _AXES:
            args = {"input": Tensor(shape, dtype="bool"), "axis": Host(axes)}
            result.append(Case(op, args, {"keep_dims": False}, dtype="bool"))
    for op in ["ArgMax", "ArgMin"]:
        for shape, axis in [((4, 5), 1), ((4, 5), -2), ((7,), 0), ((2, 3, 4), 1), ((0, 3), 1)]:
            for out in ["int32", "int64"]:
                args = {"input": Tensor(shape, "zeros"), "dimension": Host(axis)}
                result += expand(
                    Case(op, args, types={"output_type": out}, special=shape == (4, 5))
                )
    return result
