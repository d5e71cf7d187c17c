"""Resizing of images."""

from tests.spine import Case, Host, Tensor, expand

_SIZES = [((2, 3, 4, 2), (5, 2)), ((1, 7, 5, 9), (3, 11)), ((2, 1, 6, 3), (4, 1))]
_SIZES += [((1, 4, 4, 1), (4, 4)), ((1, 5, 1, 2), (1, 1)), ((0, 3, 3, 2), (2, 5))]
_SIZES += [((1, 2, 9, 17), (13, 4))]


def cases() -> list[Case]:
    result = []
    for shape, size in _SIZES:
        for attrs in [{}, {"align_corners": True}, {"half_pixel_centers": True}]:
            image = Tensor(shape)
            resized = (shape[0], *size, shape[3])
            for op in ["ResizeBilinear", "ResizeNearestNeighbor"]:
                args = {"images": image, "size": Host(list(size))}
                exact = op == "ResizeNearestNeighbor"
                result += expand(Case(op, args, attrs, exact=exact, scale=4, grad=("images",)))
            args = {"grads": Tensor(resized, dtype="float32"), "original_image": image}
            result += expand(Case("ResizeBilinearGrad", args, attrs, scale=16))
            args = {"grads": Tensor(resized), "size": Host(list(shape[1:3]))}
            result += expand(Case("ResizeNearestNeighborGrad", args, attrs, scale=16))
    return result
