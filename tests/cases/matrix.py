"""Diagonals, bands, one-hot vectors, ranges, and rows that are dealt out and put together."""

from tests.spine import Case, Host, Tensor, expand

_DIAGONALS = [  # rows, columns, k
    (4, 4, [0]),
    (3, 5, [0]),
    (5, 3, [1]),
    (4, 6, [-2]),
    (4, 5, [-1, 2]),
    (5, 3, [-4, -1]),
    (3, 5, [-2, 4]),
    (2, 2, [0, 1]),
]
_ALIGNMENTS = ["LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT"]


def _diagonal_shape(rows: int, columns: int, k: list[int]) -> tuple[int, ...]:
    low, high = k[0], k[-1]
    length = min(rows + min(high, 0), columns - max(low, 0))
    return (length,) if low == high else (high - low + 1, length)


def _diagonals() -> list[Case]:
    result = []
    for batch in [(), (2, 3), (0,)]:
        args = {"diagonal": Tensor((*batch, 4))}
        result += expand(Case("MatrixDiag", args, exact=True, grad=("diagonal",)))
        for shape in [(3, 3), (2, 4), (4, 2)]:
            matrix = Tensor((*batch, *shape))
            result += expand(Case("MatrixDiagPart", {"input": matrix}, exact=True))
            args = {"input": matrix, "diagonal": Tensor((*batch, min(shape)))}
            result += expand(Case("MatrixSetDiag", args, exact=True))
    for i, (rows, columns, k) in enumerate(_DIAGONALS):
        batch = [(), (3,), (2, 2)][i % 3]
        band = Host(k if len(k) > 1 else k[0])
        diagonal = Tensor((*batch, *_diagonal_shape(rows, columns, k)))
        matrix = Tensor((*batch, rows, columns))
        size = {"num_rows": Host(rows), "num_cols": Host(columns)}
        for version in ["V2", "V3"]:
            for align in _ALIGNMENTS if version == "V3" else [""]:
                attrs = {"align": align} if align else {}
                args = {"diagonal": diagonal, "k": band, **size, "padding_value": Tensor(())}
                result += expand(Case(f"MatrixDiag{version}", args, attrs, exact=True))
                args = {"input": matrix, "k": band, "padding_value": Tensor(())}
                result += expand(Case(f"MatrixDiagPart{version}", args, attrs, exact=True))
                args = {"input": matrix, "diagonal": diagonal, "k": band}
                result += expand(Case(f"MatrixSetDiag{version}", args, attrs, exact=True))
    unknown = {"num_rows": Host(-1), "num_cols": Host(-1), "padding_value": Tensor(())}
    args = {"diagonal": Tensor((2, 3)), "k": Host([0, 1]), **unknown}
    result += expand(Case("MatrixDiagV3", args, exact=True))
    for shape in [(3,), (2, 3), (2, 2, 2)]:
        result += expand(Case("Diag", {"diagonal": Tensor(shape)}, exact=True))
        result += expand(Case("DiagPart", {"input": Tensor(shape + shape)}, exact=True))
    for shape, lower, upper in [
        ((4, 4), -1, 0),
        ((3, 5), 1, -1),
        ((2, 5, 3), 0, 0),
        ((2, 2, 3, 3), 2, 1),
        ((0, 3), 0, 0),
    ]:
        args = {"input": Tensor(shape), "num_lower": Host(lower), "num_upper": Host(upper)}
        result += expand(Case("MatrixBandPart", args, exact=True))
    return result


def _constants() -> list[Case]:
    result = []
    for shape, depth, axis, index in [
        ((4,), 5, -1, "int32"),
        ((2, 3), 4, 0, "int64"),
        ((2, 3), 4, 1, "uint8"),
        ((), 3, -1, "int8"),
        ((2,), 0, -1, "int32"),
        ((0,), 3, -1, "int32"),
    ]:
        kind = "signed:6" if index != "uint8" else "below:6"
        args = {
            "indices": Tensor(shape, kind, index),
            "depth": Host(depth),
            "on_value": Tensor(()),
            "off_value": Tensor(()),
        }
        result += expand(Case("OneHot", args, {"axis": axis}, exact=True))
    for start, limit, delta in [(0, 10, 1), (3, 40, 7), (5, 5, 1)]:
        for case in expand(Case("Range", {}), "Tidx"):
            values = {"start": start, "limit": limit, "delta": delta}
            args = {name: Host(value, case.dtype) for name, value in values.items()}
            result.append(Case("Range", args, dtype=case.dtype))
    for dtype in ["float32", "int64"]:
        args = {"start": Host(10, dtype), "limit": Host(-5, dtype), "delta": Host(-3, dtype)}
        result.append(Case("Range", args, dtype=dtype))
    args = {"start": Host(0.5), "limit": Host(2.0), "delta": Host(0.1)}
    args = {k: Host(v.value, "float32") for k, v in args.items()}
    result.append(Case("Range", args, scale=4))
    for shape in [(3, 2), (), (0, 2)]:
        for case in expand(Case("Empty", {"shape": Host(list(shape))}, {"init": True}), "dtype"):
            result.append(Case("Empty", case.args, case.attrs, case.dtype, {"dtype": case.dtype}))
        result += expand(Case("DeepCopy", {"x": Tensor(shape)}, exact=True))
    return result


def _stitches() -> list[Case]:
    result = []
    for indices, row in [
        ([[0, 2], [1, 3, 4]], (3,)),
        ([[0, 1, 2], [2, 0]], ()),
        ([[[1, 0]], [2, 5], [3, 4]], (2, 2)),
        ([[], [0]], (2,)),
        ([1, [0, 2]], (20,)),
    ]:
        shapes = [_shape_of(i) + row for i in indices]
        args = {
            "indices": [Host(i) for i in indices],
            "data": [Tensor(s) for s in shapes],
        }
        result += expand(Case("DynamicStitch", args, exact=True))
    for partitions, row, n in [
        ((7,), (3,), 3),
        ((2, 3), (), 2),
        ((0,), (2,), 2),
        ((50,), (20,), 1),
    ]:
        args = {
            "data": Tensor(partitions + row),
            "partitions": Tensor(partitions, f"below:{n}", "int32"),
        }
        case = Case("DynamicPartition", args, {"num_partitions": n}, exact=True, grad=("data",))
        result += expand(case)
    for op in ["InplaceUpdate", "InplaceAdd", "InplaceSub"]:
        # The CPU kernel changes its input: sums are in test_inplace_sums of test_tensor_lists.py.
        for shape, n in [((5, 3), 7), ((4,), 2), ((3, 2), 0)]:
            if n and op != "InplaceUpdate":
                continue
            args = {
                "x": Tensor(shape),
                "i": Tensor((n,), f"below:{shape[0]}", "int32"),
                "v": Tensor((n, *shape[1:])),
            }
            result += expand(Case(op, args, scale=4, exact=op == "InplaceUpdate"))
    return result


def _shape_of(value) -> tuple[int, ...]:
    return (
        (len(value), *_shape_of(value[0]))
        if isinstance(value, list) and value
        else ((0,) if isinstance(value, list) else ())
    )


def cases() -> list[Case]:
    return _diagonals() + _constants() + _stitches()
