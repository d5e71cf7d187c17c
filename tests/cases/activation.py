"""Activations beyond Relu, Sigmoid and Tanh."""

from tests.spine import Case, Tensor, expand

_FORWARD = ["Relu6", "Elu", "Selu", "Softplus", "Softsign"]
_OF_FEATURES = ["Relu6Grad", "SoftplusGrad", "SoftsignGrad"]
_OF_OUTPUTS = ["EluGrad", "SeluGrad"]


def cases() -> list[Case]:
    result = []
    for shape in [(7,), (3, 1, 5), (), (0, 4), (40, 3)]:
        x, dy = Tensor(shape), Tensor(shape)
        for op in _FORWARD:
            result += expand(Case(op, {"features": x}, special=True, scale=2, grad=("features",)))
        for op in _OF_FEATURES:
            result += expand(Case(op, {"gradients": dy, "features": x}, special=True, scale=2))
        for op in _OF_OUTPUTS:
            result += expand(Case(op, {"gradients": dy, "outputs": x}, special=True, scale=2))
        for attrs in [{}, {"alpha": 2.0}, {"alpha": -0.5}]:
            args = {"features": x}
            result += expand(Case("LeakyRelu", args, attrs, special=True, grad=("features",)))
            args = {"gradients": dy, "features": x}
            result += expand(Case("LeakyReluGrad", args, attrs, special=True))
    return result
