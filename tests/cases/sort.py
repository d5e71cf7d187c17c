"""Sorted rows and their first elements."""

from tests.spine import Case, Host, Tensor, expand

# Each way to sort: a few of many, short rows, long rows.
_SHAPES = [
    ((7,), 0), ((7,), 1), ((7,), 7), ((3, 5), 2), ((2, 0, 4), 3), ((0,), 0), ((2, 3, 40), 4),
    ((2, 256), 256), ((3, 257), 257), ((1, 3000), 17), ((2, 20_000), 150), ((5000,), 4000),
    ((5000, 3), 2),
]  # fmt: skip


def cases() -> list[Case]:
    result = []
    for shape, k in _SHAPES:
        args = {"input": Tensor(shape), "k": Host(k)}
        result += expand(
            Case("TopKV2", args, own_type=True, exact=True, grad=("input",) if k else ())
        )
    for index in ["int16", "int32", "int64"]:
        args = {"input": Tensor((4, 300)), "k": Host(30, index)}
        attrs = {"index_type": index}
        result += expand(Case("TopKV2", args, attrs, own_type=True, exact=True))
    # Many equal elements: the lower index comes first.
    for shape, k in [((300,), 300), ((3, 4000), 4000), ((3, 4000), 300), ((9,), 4)]:
        args = {"input": Tensor(shape, "below:5"), "k": Host(k)}
        result += expand(Case("TopKV2", args, own_type=True, exact=True, label="equal"))
    return result
