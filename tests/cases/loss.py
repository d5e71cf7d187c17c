"""Softmax and cross entropy."""

import dataclasses

from tests.spine import Case, Tensor, expand


def cases() -> list[Case]:
    result = []
    for shape in [(4, 10), (1, 1), (3,), (2, 3, 4), (0, 5), (5, 1001)]:
        for op in ["Softmax", "LogSoftmax"]:
            result += expand(Case(op, {"logits": Tensor(shape)}, grad=("logits",), scale=8))
    for a, b in [((4, 10), (4, 10)), ((1, 5), (3, 5)), ((3, 1), (3, 4)), ((0, 4), (0, 4))]:
        args = {"features": Tensor(a), "labels": Tensor(b, "distribution")}
        result += expand(Case("SoftmaxCrossEntropyWithLogits", args, scale=8))
    for rows, classes in [(4, 10), (1, 1), (0, 3), (33, 100)]:
        for labels in ["int32", "int64"]:
            args = {
                "features": Tensor((rows, classes)),
                "labels": Tensor((rows,), f"below:{classes}", labels),
            }
            case = Case("SparseSoftmaxCrossEntropyWithLogits", args, scale=8)
            result += [dataclasses.replace(c, label=labels) for c in expand(case)]
    return result
