// Slice and StridedSlice. Where a slice begins is an argument of the launch, so that x[:, t:t+k] in
// a loop over t compiles once.
#include "kernels/families.h"
#include "kernels/native/strided.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

void slice(NativeCall& call) {
  const Shape& shape = call.node.in(0).shape;
  const std::vector<int64_t> begin = call.node.host_ints(1);
  StridedView view{0, call.node.out().shape, Shape(shape.size())};
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    view.strides[axis] = stride;
    view.offset += begin[axis] * stride;
    stride *= shape[axis];
  }
  copy_from_view(call, view, 0);
}

// The shape function sees the sizes only.
void check_slice(const Node& node) {
  const std::vector<int64_t> begin = node.host_ints(1), size = node.host_ints(2);
  for (size_t axis = 0; axis < begin.size(); ++axis) {
    const int64_t extent = node.in(0).shape[axis];
    if (begin[axis] < 0 || begin[axis] > extent) {
      throw_invalid_argument(node.describe(), ": Expected begin[", axis, "] in [0, ", extent,
                             "], but got ", begin[axis]);
    }
    if (size[axis] != -1 && (size[axis] < 0 || begin[axis] + size[axis] > extent)) {
      throw_invalid_argument(node.describe(), ": Expected size[", axis, "] in [0, ",
                             extent - begin[axis], "], but got ", size[axis]);
    }
  }
}

void strided_slice(NativeCall& call) {
  const Node& node = call.node;
  const StridedView view = strided_slice_view(node, node.in(0).shape, node.host_ints(1),
                                              node.host_ints(2), node.host_ints(3));
  copy_from_view(call, view, 0);
}

}  // namespace

std::vector<OpRow> slice_ops() {
  using enum HostUse;
  using enum Precision;
  const DTypes any = kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64};
  return {
      {.op = "Slice",
       .types = T(any),
       .host = {{"begin", kArg}, {"size", kArg}},
       .launch = slice,
       .check = check_slice,
       .precision = kClear},
      {.op = "StridedSlice",
       .types = T(any),
       .host = {{"begin", kArg}, {"end", kArg}, {"strides", kArg}},
       .launch = strided_slice,
       .precision = kClear,
       .shape_arithmetic = "T"},
  };
}

}  // namespace tfmetal
