"""Ops that move or combine rows chosen by indices."""

from tests.spine import Case, Host, Tensor, expand

_INDEX_TYPES = ["int32", "int64", "int16"]


def _gathers() -> list[Case]:
    result = []
    for params, indices, axis, batch, index in [
        ((7, 3), (4,), 0, 0, "int32"),
        ((7, 3), (2, 3), -1, 0, "int64"),
        ((5,), (), 0, 0, "int16"),
        ((5, 19, 2), (3, 1), 1, 0, "int32"),
        ((2, 3, 5, 4), (2, 3, 2), 3, 2, "int64"),
        ((2, 5, 6), (2, 3), 2, 1, "int32"),
        ((3, 4), (3,), 1, -1, "int16"),
        ((0, 4), (0,), 0, 0, "int32"),
        ((4, 0), (3,), 0, 0, "int32"),
        ((4, 100), (70,), 0, 0, "int64"),
        ((900, 1), (3000,), 0, 0, "int32"),
    ]:
        extent = max(1, min(params[axis], 100))
        args = {
            "params": Tensor(params),
            "indices": Tensor(indices, f"below:{extent}", index),
            "axis": Host(axis),
        }
        grad = ("params",) if batch == 0 and params[0] else ()
        result += expand(
            Case("GatherV2", args, {"batch_dims": batch}, grad=grad, exact=True), "Tparams"
        )
    for params, indices in [((7, 3), (4,)), ((5,), ()), ((6, 2, 2), (2, 3))]:
        args = {"params": Tensor(params), "indices": Tensor(indices, "below:5", "int64")}
        result += expand(Case("Gather", args, exact=True), "Tparams")
    for params, indices, index in [
        ((4, 5), (3, 2), "int32"),
        ((4, 5), (3, 1), "int64"),
        ((4, 5, 6), (2, 3, 2), "int16"),
        ((4, 4, 4, 4, 4), (7, 5), "int32"),
        ((4,), (1,), "int64"),
        ((4, 5), (3, 0), "int32"),
        ((4, 5), (0, 2), "int32"),
        ((4, 0), (3, 1), "int32"),
    ]:
        args = {"params": Tensor(params), "indices": Tensor(indices, "below:4", index)}
        grad = ("params",) if len(indices) > 1 and all(indices) and index != "int16" else ()
        if params[-1] == 0 and indices[0]:
            continue  # an error: tests/test_errors.py
        result += expand(Case("GatherNd", args, exact=True, grad=grad), "Tparams")
    ignore = {"bad_indices_policy": "IGNORE"}
    args = {"params": Tensor((4, 3)), "indices": Tensor((9, 1), "below:9", "int32")}
    result += expand(Case("GatherNd", args, ignore, exact=True), "Tparams")
    return result


# Shape of the tensor, shape of the indices, and below what the indices are.
_SCATTERS = [
    ((7, 3), (5, 1), 7),
    ((7, 3), (20, 2), 3),
    ((4, 5, 40), (2, 9, 1), 4),
    ((6,), (1, 1), 6),
    ((5,), (1500, 1), 5),
    ((3000, 2), (1500, 1), 3000),
    ((70000,), (700, 1), 70000),
    ((4, 3), (0, 1), 4),
]


def _updates_shape(shape: tuple[int, ...], indices: tuple[int, ...]) -> tuple[int, ...]:
    return indices[:-1] + shape[indices[-1] :]


def _scatters() -> list[Case]:
    result = []
    for i, (shape, indices, below) in enumerate(_SCATTERS):
        index = _INDEX_TYPES[i % 2]
        at = Tensor(indices, f"below:{below}", index)
        updates = Tensor(_updates_shape(shape, indices))
        scale = max(1.0, (indices[0] / shape[0]) ** 0.5)
        args = {"indices": at, "updates": updates, "shape": Host(list(shape), index)}
        grad = ("updates",) if indices[0] else ()
        result += expand(Case("ScatterNd", args, scale=scale, grad=grad))
        for op in ["ScatterNdNonAliasingAdd", *(f"TensorScatter{n}" for n in ("Add", "Sub"))]:
            tensor = "input" if op.startswith("ScatterNd") else "tensor"
            args = {tensor: Tensor(shape), "indices": at, "updates": updates}
            result += expand(Case(op, args, scale=2 * scale, grad=(tensor, "updates")))
        args = {"tensor": Tensor(shape), "indices": at, "updates": updates}
        for name in ("Min", "Max", "Update"):
            result += expand(Case(f"TensorScatter{name}", args, exact=True))
    return result


_SEGMENTS = [
    ((5, 3), 4, "int32"),
    ((40,), 9, "int64"),
    ((1500, 2), 3, "int32"),
    ((700, 40), 900, "int64"),
    ((3, 2, 2), 1, "int32"),
    ((0, 3), 4, "int32"),
    ((4, 0), 4, "int32"),
]


def _segments() -> list[Case]:
    result = []
    for shape, n, index in _SEGMENTS:
        scale = max(1.0, 2 * (shape[0] / n) ** 0.5)
        for name in ("Sum", "Mean", "Prod", "Min", "Max"):
            kind = "positive" if name == "Prod" and shape[0] < 1000 else "normal"
            ids = Tensor(shape[:1], f"sorted:{n}", index)
            args = {"data": Tensor(shape, kind), "segment_ids": ids}
            grad = ("data",) if name in ("Sum", "Mean") and all(shape) else ()
            how = {"scale": 4 * scale, "grad": grad, "exact": name in ("Min", "Max")}
            if name != "Prod" or shape[0] < 1000:
                result += expand(Case(f"Segment{name}", args, **how))
            if name == "Mean":
                continue
            ids = Tensor(shape[:1], f"signed:{n}", index)
            args = {**args, "segment_ids": ids, "num_segments": Host(n)}
            if name != "Prod" or shape[0] < 1000:
                result += expand(Case(f"UnsortedSegment{name}", args, **how))
    args = {
        "data": Tensor((4, 5, 3)),
        "segment_ids": Tensor((4, 5), "signed:6", "int32"),
        "num_segments": Host(6, "int64"),
    }
    for name in ("Sum", "Prod", "Min", "Max"):
        exact = name in ("Min", "Max")
        result += expand(Case(f"UnsortedSegment{name}", args, scale=4, exact=exact))
        scalar = {"data": Tensor(()), "segment_ids": Tensor((), "below:2", "int64")}
        result += expand(
            Case(f"UnsortedSegment{name}", {**scalar, "num_segments": Host(2)}, exact=exact)
        )
        none = {**args, "num_segments": Host(0), "segment_ids": Tensor((0, 5), dtype="int32")}
        none["data"] = Tensor((0, 5, 3))
        result += expand(Case(f"UnsortedSegment{name}", none, exact=exact))
    return result


def _sparse_segments() -> list[Case]:
    result = []
    for shape, count, n, index, segment in [
        ((5, 3), 7, 4, "int32", "int64"),
        ((40,), 90, 9, "int64", "int32"),
        ((30, 20), 1100, 6, "int32", "int32"),
        ((30, 2), 600, 500, "int64", "int64"),
        ((5, 3), 0, 4, "int32", "int32"),
    ]:
        indices = Tensor((count,), f"below:{shape[0]}", index)
        ids = Tensor((count,), f"sorted:{n}", segment)
        args = {"data": Tensor(shape), "indices": indices, "segment_ids": ids}
        scale = 4 * max(1.0, (count / min(n, shape[0])) ** 0.5)
        rows = (n, *shape[1:])
        for name in ("Sum", "Mean", "SqrtN"):
            op = f"SparseSegment{name}"
            grad = ("data",) if count else ()
            result += expand(Case(op, args, scale=scale, grad=grad))
            counted = {**args, "num_segments": Host(n + 2)}
            result += expand(Case(f"{op}WithNumSegments", counted, scale=scale))
            backward = {"grad": Tensor(rows), "indices": indices, "segment_ids": ids}
            dim = {"output_dim0": Host(shape[0])}
            if count:  # else the CPU kernel leaves its output as it found the memory
                result += expand(Case(f"{op}Grad", {**backward, **dim}, scale=scale))
            dim = {"dense_output_dim0": Host(shape[0])}
            result += expand(Case(f"{op}GradV2", {**backward, **dim}, scale=scale))
    return result


def cases() -> list[Case]:
    return _gathers() + _scatters() + _segments() + _sparse_segments()
