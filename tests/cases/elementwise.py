"""Ops that map elements to elements, with broadcasting."""

from tests.spine import FLOATS, Case, Tensor, expand

_UNARY = {  # op: kind of values
    "Abs": "normal",
    "Ceil": "normal",
    "Cos": "normal",
    "Erf": "normal",
    "Exp": "normal",
    "Floor": "normal",
    "Inv": "nonzero",
    "IsFinite": "normal",
    "IsInf": "normal",
    "IsNan": "normal",
    "Log": "positive",
    "Neg": "normal",
    "Reciprocal": "nonzero",
    "Rint": "normal",
    "Round": "normal",
    "Rsqrt": "positive",
    "Sigmoid": "normal",
    "Sign": "zeros",
    "Sin": "normal",
    "Sqrt": "positive",
    "Square": "normal",
    "Tanh": "normal",
}
_SHAPES = [(7,), (3, 1, 5), (), (0, 4), (2, 3, 4, 5, 2)]
_BINARY = [
    "AddV2",
    "DivNoNan",
    "Maximum",
    "Minimum",
    "Mul",
    "RealDiv",
    "SquaredDifference",
    "Sub",
    "Add",
    "Div",
]
_DIVISIONS = ("Div", "RealDiv", "DivNoNan")  # of integers: tests/cases/integers.py
_COMPARE = ["Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"]
_PAIRS = [
    ((4, 3), (4, 3)),
    ((4, 3), (3,)),
    ((4, 3), ()),
    ((2, 1, 5), (3, 1)),
    ((2, 0, 3), (1, 3)),
    ((3, 1, 4, 1, 5), (1, 2, 1, 3, 1)),
]
_DIFFERENTIABLE = {
    "Abs",
    "Exp",
    "Log",
    "Neg",
    "Reciprocal",
    "Rsqrt",
    "Sigmoid",
    "Sqrt",
    "Square",
    "Tanh",
    "Sin",
    "Cos",
    "AddV2",
    "Sub",
    "Mul",
    "RealDiv",
    "DivNoNan",
    "Maximum",
    "Minimum",
    "SquaredDifference",
}


def _unary() -> list[Case]:
    result = []
    for op, kind in _UNARY.items():
        for i, shape in enumerate(_SHAPES):
            grad = ("x",) if i == 0 and op in _DIFFERENTIABLE else ()
            case = Case(op, {"x": Tensor(shape, kind)}, grad=grad, special=i == 0)
            result += expand(case)
    for shape in _SHAPES:
        result += expand(
            Case("Relu", {"features": Tensor(shape)}, grad=("features",), special=True)
        )
        args = {"gradients": Tensor(shape), "features": Tensor(shape, "zeros")}
        result += expand(Case("ReluGrad", args, special=True))
    for op in ["InvGrad", "ReciprocalGrad", "RsqrtGrad", "SigmoidGrad", "SqrtGrad", "TanhGrad"]:
        args = {"y": Tensor((4, 3), "nonzero"), "dy": Tensor((4, 3))}
        result += expand(Case(op, args, scale=2, special=True))
    return result


def _binary() -> list[Case]:
    result = []
    for op in _BINARY:
        kind = "nonzero" if "Div" in op else "normal"
        for i, (a, b) in enumerate(_PAIRS):
            grad = ("x", "y") if i in (0, 1) and op in _DIFFERENTIABLE else ()
            args = {"x": Tensor(a), "y": Tensor(b, kind)}
            only = FLOATS if op in _DIVISIONS else ()
            result += expand(Case(op, args, grad=grad, special=i == 0), only=only)
    for a, b in _PAIRS:
        args = {"x": Tensor(a, "positive"), "y": Tensor(b)}
        result += expand(Case("Pow", args, scale=8), only=FLOATS)
    case = Case("Pow", {"x": Tensor((40,)), "y": Tensor((40,), "zeros")}, scale=8, special=True)
    result += expand(case, only=FLOATS)
    for op in _COMPARE:
        for a, b in _PAIRS:
            args = {"x": Tensor(a, "zeros"), "y": Tensor(b, "zeros")}
            result += expand(Case(op, args, special=True))
    for op in ["Equal", "NotEqual"]:
        args = {"x": Tensor((2, 3)), "y": Tensor((4, 3))}
        result += expand(Case(op, args, {"incompatible_shape_error": False}))
    return result


def _logical() -> list[Case]:
    result = []
    for a, b in _PAIRS:
        args = {"x": Tensor(a, dtype="bool"), "y": Tensor(b, dtype="bool")}
        result += [Case("LogicalAnd", args, dtype="bool"), Case("LogicalOr", args, dtype="bool")]
    return result + [
        Case("LogicalNot", {"x": Tensor(s, dtype="bool")}, dtype="bool") for s in _SHAPES
    ]


def _selection() -> list[Case]:
    result = []
    for c, a, b in [
        ((4, 3), (4, 3), (4, 3)),
        ((3,), (4, 3), ()),
        ((), (2, 2), (2, 2)),
        ((0, 1), (1, 3), (3,)),
    ]:
        args = {"condition": Tensor(c, dtype="bool"), "t": Tensor(a), "e": Tensor(b)}
        result += expand(Case("SelectV2", args, exact=True, special=True, grad=("t", "e")))
    for c, a in [((4, 3), (4, 3)), ((4,), (4, 3)), ((), (4, 3)), ((), ())]:
        args = {"condition": Tensor(c, dtype="bool"), "x": Tensor(a), "y": Tensor(a)}
        result += expand(Case("Select", args, exact=True))
    return result


def cases() -> list[Case]:
    result = _unary() + _binary() + _logical() + _selection()
    for n, shape in [(1, (3,)), (2, (4, 3)), (5, (2, 2, 2)), (3, ()), (2, (0,))]:
        result += expand(Case("AddN", {"inputs": [Tensor(shape)] * n}, scale=2))
    for layout, shape in [
        ("NHWC", (2, 3)),
        ("NHWC", (2, 4, 5, 3)),
        ("NCHW", (2, 3, 4, 5)),
        ("NCHW", (2, 3, 4)),
        ("NHWC", (0, 3)),
        ("NHWC", (2, 2, 2, 2, 3)),
    ]:
        args = {"value": Tensor(shape), "bias": Tensor((3,))}
        result += expand(
            Case("BiasAdd", args, {"data_format": layout}, grad=("value", "bias"), scale=4)
        )
        result += expand(
            Case("BiasAddGrad", {"out_backprop": Tensor(shape)}, {"data_format": layout}, scale=8)
        )
    return result
