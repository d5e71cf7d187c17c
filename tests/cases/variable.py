"""Variables: what reads and changes them, generators among it. The variable of a case is made from
its argument, and its value afterwards is one more result (selftest/as_tensors.py)."""

import dataclasses
import itertools

from tests.spine import Case, Host, Tensor, expand, registered

# Of the distinct, and of rows named twice: values whose sums and products every type holds.
_FEW = "few"
_COMBINE = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Update")
_STATE = {"resource": Tensor((3,), dtype="int64")}
_SHAPE = {"shape": Host([7, 3])}


def _expand(case: Case, attr: str) -> list[Case]:
    """None where variables have no functions to reach them by (docs/architecture.md)."""
    return expand(case, attr) if case.op in registered() else []


def _updates() -> list[Case]:
    args = {"resource": Tensor((5, 7), _FEW), "value": Tensor((5, 7), _FEW)}
    names = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
    return list(
        itertools.chain.from_iterable(_expand(Case(n, args, exact=True), "dtype") for n in names)
    )


def _scatters() -> list[Case]:
    result = []
    rows = Host([[4, 1], [4, 0]], "int64")  # 4 twice
    for name, shape in itertools.product(_COMBINE, [(2, 2, 5), ()]):
        args = {"resource": Tensor((6, 5), _FEW), "indices": rows, "updates": Tensor(shape, _FEW)}
        exact = name != "Div"
        result += _expand(Case(f"ResourceScatter{name}", args, exact=exact, scale=4), "dtype")
    elements = Host([[2, 1], [0, 3], [2, 1]])
    for name in _COMBINE:
        args = {"ref": Tensor((3, 4, 5), _FEW), "indices": elements}
        args["updates"] = Tensor((3, 5), _FEW)
        result += _expand(Case(f"ResourceScatterNd{name}", args, exact=True), "T")
    return result


def _reads() -> list[Case]:
    result = []
    value = {"resource": Tensor((3, 4, 5), _FEW)}
    for batch_dims, index in [(0, "int32"), (1, "int64")]:
        args = {**value, "indices": Host([[1, 0], [2, 2], [0, 1]], index)}
        case = Case("ResourceGather", args, {"batch_dims": batch_dims}, exact=True)
        result += _expand(case, "dtype")
    for indices in ([[2, 1], [0, 3]], [[[0, 0, 4]]]):
        args = {**value, "indices": Host(indices)}
        result += _expand(Case("ResourceGatherNd", args, exact=True), "dtype")
    return [dataclasses.replace(c, types={"dtype": c.dtype}) for c in result]


def _slices() -> list[Case]:
    limits = {"begin": Host([0, 3, 4]), "end": Host([3, 1, 0]), "strides": Host([2, -1, -2])}
    args = {"ref": Tensor((3, 4, 5), _FEW), **limits, "value": Tensor((2, 2, 2), _FEW)}
    return _expand(Case("ResourceStridedSliceAssign", args, exact=True), "T")


def _generators() -> list[Case]:
    result = []
    algorithm = {"algorithm": Host(1, "int64")}
    for op in ("Uniform", "StandardNormalV2", "TruncatedNormal", "UniformFullInt"):
        exact = "Normal" not in op
        case = Case(f"Stateful{op}", {**_STATE, **algorithm, **_SHAPE}, own_type=True, exact=exact)
        result += _expand(case, "dtype")
    result = [dataclasses.replace(c, types={"dtype": c.dtype}) for c in result]
    for dtype in ("int32", "int64"):
        limits = {"minval": Host(-3, dtype), "maxval": Host(8, dtype)}
        args = {**_STATE, **algorithm, **_SHAPE, **limits}
        result.append(Case("StatefulUniformInt", args, dtype=dtype, exact=True))
    skip = {**_STATE, **algorithm, "delta": Host(10, "int64")}
    read = {**_STATE, "alg": Host(1), "delta": Host(2**60, "uint64")}
    result.append(Case("RngSkip", skip, dtype="bool", exact=True))
    result.append(Case("RngReadAndSkip", read, dtype="bool", exact=True))
    return [c for c in result if c.op in registered()]


def _lists() -> list[Case]:
    """Sums of lists of tensors, and lists of zeros."""
    rows = {d: Tensor((3, 2), _FEW, d) for d in ("float32", "float16", "float64", "int64")}
    result = []
    for name, spec in rows.items():
        inputs = {"inputs": [spec, spec, spec]}
        result.append(Case("AddN", inputs, dtype="variant", exact=True, label=name))
        result.append(Case("ZerosLike", {"x": spec}, dtype="variant", exact=True, label=name))
    return result


def cases() -> list[Case]:
    kinds = [_updates(), _scatters(), _reads(), _slices(), _generators(), _lists()]
    return list(itertools.chain.from_iterable(kinds))
