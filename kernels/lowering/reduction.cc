// Reductions over axes given as a host tensor. 16-bit inputs accumulate in float32.
#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/families.h"
#include "kernels/lowering/axes.h"
#include "kernels/lowering/complex_pairs.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

using mpsg::Graph;

std::vector<int64_t> reduced_axes(const Node& node) {
  std::vector<int64_t> axes = node.host_ints(1);
  for (int64_t& axis : axes) axis = canonical_axis(axis, node.in(0).rank(), node.op().c_str());
  return axes;
}

}  // namespace

void check_reduction_axes(const Node& node) {
  std::vector<int64_t> axes = reduced_axes(node);
  std::sort(axes.begin(), axes.end());
  const auto twice = std::adjacent_find(axes.begin(), axes.end());
  if (twice != axes.end()) {
    throw_invalid_argument(
        node.describe(),
        ": Invalid reduction arguments: Axes contains duplicate dimension: ", *twice);
  }
}

namespace {

// The input with neighbouring axes merged that are both reduced or both kept.
struct Merged {
  Tensor tensor;
  Shape shape;
  std::vector<int64_t> kept, reduced;  // axes of `shape`
};

Merged merge_axes(GraphBuilder& g, const Node& node, Tensor x) {
  const Shape& shape = node.in(0).shape;
  std::vector<bool> is_reduced(shape.size());
  for (int64_t axis : reduced_axes(node)) is_reduced[static_cast<size_t>(axis)] = true;
  Merged m;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0 && is_reduced[axis] == is_reduced[axis - 1]) {
      m.shape.back() *= shape[axis];
      continue;
    }
    (is_reduced[axis] ? m.reduced : m.kept).push_back(static_cast<int64_t>(m.shape.size()));
    m.shape.push_back(shape[axis]);
  }
  m.tensor = g.reshape(x, m.shape.empty() ? Shape{1} : m.shape);
  return m;
}

// MPSGraph's logical reductions take one of the last four axes only: move what is reduced last.
constexpr size_t kLogicalAxes = 4;

void move_reduced_last(GraphBuilder& g, Merged* m) {
  std::vector<int64_t> permutation = m->kept;
  permutation.insert(permutation.end(), m->reduced.begin(), m->reduced.end());
  int64_t kept = 1, reduced = 1;
  for (int64_t axis : m->kept) kept *= m->shape[static_cast<size_t>(axis)];
  for (int64_t axis : m->reduced) reduced *= m->shape[static_cast<size_t>(axis)];
  m->tensor = g.reshape(g.transpose(m->tensor, permutation), {kept, reduced});
  m->reduced = {1};
}

template <Tensor (Graph::*method)(Tensor, ns::Array) const, bool logical = false>
Tensors reduce(GraphBuilder& g, const Node& node, Inputs in) {
  Merged m = merge_axes(g, node, in[0]);
  if (logical && m.shape.size() > kLogicalAxes) move_reduced_last(g, &m);
  const Tensor result =
      m.reduced.empty() ? m.tensor : std::invoke(method, g, m.tensor, g.list(m.reduced));
  const Shape& shape = node.out().shape;
  return {g.reshape(result, shape.empty() ? Shape{1} : shape)};
}

// All axes but the channels'.
Tensors bias_add_grad(GraphBuilder& g, const Node& node, Inputs in) {
  const size_t rank = node.in(0).rank();
  const bool first = node.def->attr_string("data_format", "NHWC") == "NCHW";
  const size_t channels = first ? 1 : rank - 1;
  std::vector<int64_t> axes;
  for (size_t i = 0; i < rank; ++i) {
    if (i != channels) axes.push_back(static_cast<int64_t>(i));
  }
  return {g.reshape(g.sum(in[0], g.list(axes)), node.out().shape)};
}

// Sums and means of the parts.
template <Tensor (Graph::*method)(Tensor, ns::Array) const>
Tensors reduce_complex(GraphBuilder& g, const Node& node, Inputs in) {
  const Complex x = split_pairs(g, in[0]);
  const Tensor real[] = {x.real}, imaginary[] = {x.imaginary};
  return {join_pairs(g, {reduce<method>(g, node, real)[0], reduce<method>(g, node, imaginary)[0]})};
}

Tensors l2_loss(GraphBuilder& g, const Node& node, Inputs in) {
  const Tensor flat = g.reshape(in[0], {node.in(0).count()});
  const Tensor sum = g.sum(g.square(flat), g.axes({0}));
  return {g.mul(sum, g.constant(0.5, sum))};
}

OpRow row(const char* op, Lower lower, Precision precision, double empty,
          std::vector<TypeRule> types) {
  return {.op = op,
          .types = std::move(types),
          .host = {{"reduction_indices", HostUse::kKey}},
          .lower = lower,
          .widen = true,
          .empty_value = empty,
          .check = check_reduction_axes,
          .precision = precision};
}

OpRow complex_row(const char* op, Lower lower, double empty) {
  OpRow r = row(op, lower, Precision::kClear, empty, T({TF_COMPLEX64}));
  r.pairs = true;
  r.widen = false;
  return r;
}

}  // namespace

std::vector<OpRow> reduction_ops() {
  using enum Precision;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  return {
      row("Sum", reduce<&Graph::sum>, kDeny, 0, T(kFloats)),
      row("Mean", reduce<&Graph::mean>, kDeny, kNaN, T(kFloats)),
      complex_row("Sum", reduce_complex<&Graph::sum>, 0),
      complex_row("Mean", reduce_complex<&Graph::mean>, 0),
      row("Prod", reduce<&Graph::product>, kInfer, 1, T(kFloats)),
      row("Max", reduce<&Graph::max_nan>, kClear, -kInfinity, T(kFloats)),
      row("Min", reduce<&Graph::min_nan>, kClear, kInfinity, T(kFloats)),
      row("All", reduce<&Graph::reduce_and, true>, kClear, 1, {}),
      row("Any", reduce<&Graph::reduce_or, true>, kClear, 0, {}),
      {.op = "BiasAddGrad",
       .types = T(kFloats),
       .lower = bias_add_grad,
       .widen = true,
       .empty_value = 0,
       .precision = kInfer},
      {.op = "L2Loss",
       .types = T(kFloats),
       .lower = l2_loss,
       .widen = true,
       .empty_value = 0,
       .precision = kDeny},
  };
}

}  // namespace tfmetal
