"""Inverse trigonometric, hyperbolic and special functions, and clipping."""

from tests.spine import FLOATS, Case, Tensor, expand

_SHAPES = [(37,), (3, 1, 5), (), (0, 4), (2, 3, 4, 5, 2)]

_UNARY = {  # op: kind of values
    "Acos": "unit",
    "Acosh": "above_one",
    "Asin": "unit",
    "Asinh": "normal",
    "Atan": "normal",
    "Atanh": "unit",
    "BesselI0e": "wide",
    "BesselI1e": "wide",
    "Cosh": "normal",
    "Digamma": "positive",
    "Erfc": "normal",
    "Erfinv": "unit",
    "Expm1": "normal",
    "Lgamma": "normal",
    "Log1p": "positive",
    "Ndtri": "probability",
    "Sinh": "normal",
    "Tan": "normal",
}
_DIFFERENTIABLE = {
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cosh",
    "Erfc",
    "Expm1",
    "Log1p",
    "Sinh",
    "Tan",
}
_PAIRS = [
    ((4, 3), (4, 3)),
    ((4, 3), (3,)),
    ((), (4, 3)),
    ((2, 1, 5), (3, 1)),
    ((2, 0, 3), (1, 3)),
    ((3, 1, 4, 1, 5), (1, 2, 1, 3, 1)),
]


def _unary() -> list[Case]:
    result = []
    for op, kind in _UNARY.items():
        for i, shape in enumerate(_SHAPES):
            grad = ("x",) if i == 0 and op in _DIFFERENTIABLE else ()
            result += expand(
                Case(op, {"x": Tensor(shape, kind)}, grad=grad, special=i == 0, scale=4)
            )
    for op in ["Lgamma", "Digamma", "Ndtri", "Erfc"]:
        kind = "probability" if op == "Ndtri" else "wide"
        result += expand(Case(op, {"x": Tensor((3000,), kind)}, scale=40, label="range"))
    for op in ["Expm1", "Log1p", "Erfc", "Erfinv"]:
        result += expand(Case(op, {"x": Tensor((3000,), "unit")}, scale=4, label="near zero"))
    return result


def _binary() -> list[Case]:
    result = []
    for op in ["Atan2", "MulNoNan", "Xdivy", "Xlogy", "Xlog1py"]:
        first = {"Atan2": "y"}.get(op, "x")
        second = {"Atan2": "x"}.get(op, "y")
        kind = "positive" if "log" in op else "nonzero"
        for i, (a, b) in enumerate(_PAIRS):
            args = {first: Tensor(a, "zeros"), second: Tensor(b, kind)}
            grad = (first, second) if i < 2 and op != "MulNoNan" else ()
            result += expand(Case(op, args, special=True, grad=grad, scale=4))
    for a, b in _PAIRS:
        args = {"x1": Tensor(a, "zeros"), "x2": Tensor(b)}
        result += expand(Case("NextAfter", args, exact=True, special=True))
        args = {"x": Tensor(a), "y": Tensor(b, "nonzero")}
        result += expand(Case("TruncateDiv", args, special=True), only=FLOATS)
        for op in ["Igamma", "Igammac"]:
            args = {"a": Tensor(a, "positive"), "x": Tensor(b, "positive")}
            result += expand(Case(op, args, special=True, scale=8))
    for op in ["Igamma", "Igammac"]:
        args = {"a": Tensor((500,), "wide"), "x": Tensor((500,), "wide")}
        result += expand(Case(op, args, scale=20, label="range"))
    return result


def _clip() -> list[Case]:
    result = []
    for shape, low, high in [
        ((4, 3), (), ()),
        ((4, 3), (4, 3), ()),
        ((5,), (5,), (5,)),
        ((), (), ()),
        ((0, 2), (), ()),
    ]:
        args = {
            "t": Tensor(shape),
            "clip_value_min": Tensor(low),
            "clip_value_max": Tensor(high),
        }
        result += expand(Case("ClipByValue", args, exact=True, special=True))
    return result


def cases() -> list[Case]:
    result = _unary() + _binary() + _clip()
    for shape in [(7,), (3, 4, 5), (), (0, 2), (300, 700)]:
        result += expand(Case("L2Loss", {"t": Tensor(shape)}, grad=("t",), scale=8))
    return result
