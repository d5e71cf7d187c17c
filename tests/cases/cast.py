"""Cast between every pair of registered types, on values that the target can hold."""

from tests.spine import Case, Tensor, registered


def cases() -> list[Case]:
    result = []
    for types in registered()["Cast"]:
        for source in types["SrcT"]:
            for target in types["DstT"]:
                for shape in [(9,), (2, 0)]:
                    result.append(
                        Case(
                            "Cast",
                            {"x": Tensor(shape, "below:100")},
                            dtype=source,
                            types={"DstT": target},
                            exact=True,
                        )
                    )
    for source, target in [
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("bfloat16", "float16"),
        ("float16", "float32"),
        ("float32", "bool"),
    ]:
        for truncate in (False, True):
            result.append(
                Case(
                    "Cast",
                    {"x": Tensor((65,))},
                    {"Truncate": truncate},
                    dtype=source,
                    types={"DstT": target},
                    exact=True,
                    special=True,
                )
            )
    return result
