"""Scans, places among sorted numbers, counts in bins."""

import dataclasses

import numpy as np

from tests.spine import Case, Host, Tensor, expand

_LINES = [((5,), 0), ((3, 4), 0), ((3, 4), -1), ((2, 3, 2, 2, 2), 1), ((0, 3), 0), ((2, 0), 0)]


def _scans() -> list[Case]:
    result = []
    for op, kind in [("Cumsum", "normal"), ("Cumprod", "unit"), ("CumulativeLogsumexp", "normal")]:
        for exclusive in [False, True]:
            for reverse in [False, True]:
                attrs = {"exclusive": exclusive, "reverse": reverse}
                for shape, axis in _LINES:
                    args = {"x": Tensor(shape, kind), "axis": Host(axis)}
                    # The gradient of Cumprod divides by x.
                    grad = ("x",) if op != "Cumprod" and 0 not in shape else ()
                    result += expand(Case(op, args, attrs, grad=grad, scale=8))
                # Cut into chunks.
                long = {"x": Tensor((2, 3000), kind), "axis": Host(1, "int64")}
                result += expand(Case(op, long, attrs, scale=200))
        empty = {"x": Tensor((1,)), "axis": Host(0)}
        result += expand(Case(op, empty, {}))
    return result


def _searches() -> list[Case]:
    result = []
    for op in ["LowerBound", "UpperBound"]:
        for shape, values in [
            ((2, 5), (2, 7)),
            ((1, 1), (1, 3)),
            ((2, 0), (2, 3)),
            ((3, 4), (3, 0)),
        ]:
            # Not sorted, but searched in the same way.
            args = {"sorted_inputs": Tensor(shape), "values": Tensor(values)}
            for out in ["int32", "int64"]:
                result += expand(Case(op, args, types={"out_type": out}, own_type=True))
        args = {"sorted_inputs": Tensor((1, 900), "sorted"), "values": Tensor((1, 500))}
        result += expand(Case(op, args, own_type=True))
    for boundaries in [[], [0.0], [-1.5, 0.0, 0.0, 2.0], np.linspace(-4, 4, 2500).tolist()]:
        for shape in [(), (3, 4), (0, 2), (700,)]:
            case = Case("Bucketize", {"input": Tensor(shape)}, {"boundaries": boundaries})
            case = dataclasses.replace(case, own_type=True, label=str(len(boundaries)))
            result += expand(case)
    for dtype in ["int32", "int64"]:
        predictions, targets = Tensor((50, 9), dtype="float32"), Tensor((50,), "below:11")
        for k in [1, 3, 9, 20]:
            args = {"predictions": predictions, "targets": targets}
            result.append(Case("InTopK", args, {"k": k}, dtype=dtype))
            result.append(Case("InTopKV2", {**args, "k": Host(k, dtype)}, dtype=dtype))
    return result


def _counts() -> list[Case]:
    result = []
    for dtype in ["float32", "int32", "int64"]:
        for n, size in [(40, 7), (0, 3), (5, 1), (9000, 13), (4, 0)]:
            values = Tensor((n,), f"below:{max(size, 1) + 2}", "int32")
            for weights in [(n,), (0,)]:
                args = {"arr": values, "size": Host(size), "weights": Tensor(weights, "small")}
                result.append(Case("Bincount", args, dtype=dtype, scale=100))
        for index in ["int32", "int64"]:
            for shape in [(40,), (3, 5), (2, 0), (0,), (2, 9000)]:
                for weights in [shape, (0,)]:
                    for binary in [False, True]:
                        args = {
                            "input": Tensor(shape, "below:9", index),
                            "size": Host(8, index),
                            "weights": Tensor(weights, "small"),
                        }
                        attrs = {"binary_output": binary}
                        result.append(Case("DenseBincount", args, attrs, dtype=dtype, scale=100))
    for low, high, bins in [(0.0, 1.0, 10), (-2.0, 3.0, 7), (-1.0, 1.0, 1000), (-9.0, -8.0, 3)]:
        for shape in [(), (500,), (3, 0), (40, 50)]:
            for kind in ["normal", "tenths"]:  # tenths are at the edges of bins
                args = {
                    "values": Tensor(shape, kind),
                    "value_range": Host([low, high], "float32"),
                    "nbins": Host(bins),
                }
                for out in ["int32", "int64"]:
                    result.append(Case("HistogramFixedWidth", args, types={"dtype": out}))
    return result


def cases() -> list[Case]:
    return [*_scans(), *_searches(), *_counts()]
