// ArgMax and ArgMin: the first index of the extreme value; NaN never wins.
#include <functional>

#include "kernels/families.h"
#include "kernels/lowering/axes.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

using mpsg::Graph;

template <Tensor (Graph::*method)(Tensor, NSInteger) const>
Tensors arg_extreme(GraphBuilder& g, const Node& node, Inputs in) {
  if (node.in(0).rank() == 0) return {g.broadcast_to(g.constant(0, to_mps(node.out().dtype)), {1})};
  const int64_t axis = canonical_axis(node.host_int(1), node.in(0).rank(), node.op().c_str());
  const Tensor index = std::invoke(method, g, in[0], axis);  // int32; -1 where all is NaN
  const Tensor found = g.select(g.less(index, g.constant(0, index)), g.constant(0, index), index);
  const Shape& shape = node.out().shape;
  return {g.reshape(g.cast(found, node.out().dtype), shape.empty() ? Shape{1} : shape)};
}

}  // namespace

void check_arg_axis(const Node& node) {
  if (node.in(0).rank() == 0) return;
  const int64_t axis = canonical_axis(node.host_int(1), node.in(0).rank(), node.op().c_str());
  if (node.in(0).shape[static_cast<size_t>(axis)] == 0) {
    throw_invalid_argument(node.describe(), ": Reduction axis ", axis, " is empty in shape ",
                           to_string(node.in(0).shape));
  }
}

namespace {

OpRow row(const char* op, Lower lower) {
  return {.op = op,
          .types = {{"T", kFloats}, {"output_type", kIndex}},
          .host = {{"dimension", HostUse::kKey}},
          .lower = lower,
          .check = check_arg_axis,
          .precision = Precision::kClear};
}

}  // namespace

std::vector<OpRow> arg_ops() {
  return {row("ArgMax", arg_extreme<&Graph::arg_max>), row("ArgMin", arg_extreme<&Graph::arg_min>)};
}

}  // namespace tfmetal
