// Padding, reversal and rolling. How far is an argument of the launch, so that values that change
// from step to step need no new plan.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/native/elements.h"
#include "kernels/native/movement.h"
#include "kernels/native/strided.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Elements added in front of each axis: the first column of host input 1.
Shape left_padding(const Node& node) {
  const std::vector<int64_t> pairs = node.host_ints(1);
  Shape left;
  for (size_t i = 0; i < pairs.size(); i += 2) left.push_back(pairs[i]);
  return left;
}

MapEdge mirror_mode(const Node& node) {
  return node.def->attr_string("mode", "REFLECT") == "SYMMETRIC" ? kEdgeSymmetric : kEdgeReflect;
}

ElementMap padding_map(const Node& node, MapEdge edge) {
  Shape starts = left_padding(node);
  for (int64_t& start : starts) start = -start;
  return axis_map(node.out().shape, node.in(0).shape, starts, edge);
}

void pad(NativeCall& call) { map_load(call, padding_map(call.node, kEdgeValue), 0); }

void pad_v2(NativeCall& call) {
  const ShaderArgument value = call.in(2);
  map_load(call, padding_map(call.node, kEdgeValue), 0, &value);
}

void mirror_pad(NativeCall& call) {
  map_load(call, padding_map(call.node, mirror_mode(call.node)), 0);
}

void mirror_pad_grad(NativeCall& call) {
  const Node& node = call.node;
  const Shape left = left_padding(node);
  if (left.size() > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
  }
  MirrorGradArguments m = {};
  m.type = element_type(node.out().dtype);
  m.rank = static_cast<unsigned>(left.size());
  for (size_t k = 0; k < left.size(); ++k) {
    m.sizes[k] = static_cast<int>(node.out().shape[k]);
    m.padded[k] = static_cast<int>(node.in(0).shape[k]);
    m.left[k] = static_cast<int>(left[k]);
  }
  m.repeats_edge = mirror_mode(node) == kEdgeSymmetric;
  call.dispatch("mirror_pad_grad", node.out().count(),
                {call.in(0), call.out(), NativeCall::value(m)});
}

// The shape function does not look at the values in all of these ways.
void check_padding(const Node& node) {
  for (int64_t amount : node.host_ints(1)) {
    if (amount < 0) {
      throw_invalid_argument(node.describe(), ": Paddings must be non-negative, got ", amount);
    }
  }
}

void check_mirror(const Node& node, const Shape& inner) {
  check_padding(node);
  const std::vector<int64_t> pairs = node.host_ints(1);
  for (size_t k = 0; k < inner.size(); ++k) {
    const int64_t most = inner[k] - (mirror_mode(node) == kEdgeReflect ? 1 : 0);
    if (std::max(pairs[2 * k], pairs[2 * k + 1]) > most) {
      throw_invalid_argument(node.describe(), ": paddings must be no greater than ", most,
                             " on axis ", k, ": ", pairs[2 * k], ", ", pairs[2 * k + 1]);
    }
  }
}

void check_mirror_pad(const Node& node) { check_mirror(node, node.in(0).shape); }
void check_mirror_pad_grad(const Node& node) { check_mirror(node, node.out().shape); }

std::vector<bool> reversed_axes(const Node& node) {
  std::vector<bool> reversed(node.in(0).rank(), false);
  if (node.op() == "Reverse") {
    for (size_t k = 0; k < reversed.size(); ++k) reversed[k] = node.host[1][k] != 0;
    return reversed;
  }
  for (int64_t axis : node.host_ints(1)) {
    const int64_t k = canonical_axis(axis, reversed.size(), "ReverseV2");
    if (reversed[static_cast<size_t>(k)]) {
      throw_invalid_argument(node.describe(), ": axis ", axis, " specified more than once.");
    }
    reversed[static_cast<size_t>(k)] = true;
  }
  return reversed;
}

void reverse(NativeCall& call) {
  const Shape& shape = call.node.in(0).shape;
  const std::vector<bool> reversed = reversed_axes(call.node);
  ElementMap map = axis_map(shape, shape, Shape(shape.size(), 0), kEdgeValue);
  for (size_t k = 0; k < shape.size(); ++k) {
    if (!reversed[k]) continue;
    map.factors[k].step = -1;
    map.starts[k] = shape[k] - 1;
  }
  map_load(call, map, 0);
}

void check_reverse(const Node& node) { reversed_axes(node); }

// Shifts of an axis that is named twice add up.
void roll(NativeCall& call) {
  const Shape& shape = call.node.in(0).shape;
  const std::vector<int64_t> shifts = call.node.host_ints(1), axes = call.node.host_ints(2);
  Shape starts(shape.size(), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t axis = static_cast<size_t>(canonical_axis(axes[i], shape.size(), "Roll"));
    starts[axis] = (starts[axis] - shifts[i] % shape[axis] + 2 * shape[axis]) % shape[axis];
  }
  map_load(call, axis_map(shape, shape, starts, kEdgeWrap), 0);
}

void check_roll(const Node& node) {
  for (int64_t axis : node.host_ints(2)) canonical_axis(axis, node.in(0).rank(), "Roll");
}

void strided_slice_grad(NativeCall& call) {
  const Node& node = call.node;
  fill_zero(call);
  const StridedView view = strided_slice_view(node, node.out().shape, node.host_ints(1),
                                              node.host_ints(2), node.host_ints(3));
  copy_to_view(call, view, 4);
}

void check_strided_slice_grad(const Node& node) {
  const StridedView view = strided_slice_view(node, node.out().shape, node.host_ints(1),
                                              node.host_ints(2), node.host_ints(3));
  if (view.extents != node.in(4).shape) {
    throw_invalid_argument(node.describe(), ": shape of dy was ", to_string(node.in(4).shape),
                           " instead of ", to_string(view.extents));
  }
}

void reverse_sequence(NativeCall& call) {
  const Node& node = call.node;
  const Shape& shape = node.in(0).shape;
  if (shape.size() > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
  }
  ReverseSequenceArguments r = {};
  r.rank = static_cast<unsigned>(shape.size());
  for (size_t k = 0; k < shape.size(); ++k) r.extents[k] = static_cast<unsigned>(shape[k]);
  r.batch_axis = static_cast<unsigned>(
      canonical_axis(node.def->attr_int("batch_dim", 0), shape.size(), "ReverseSequence"));
  r.sequence_axis = static_cast<unsigned>(
      canonical_axis(node.def->attr_int("seq_dim", 0), shape.size(), "ReverseSequence"));
  r.long_lengths = node.in(1).dtype == TF_INT64;
  call.dispatch(strided_shader("reverse_sequence", node.out().dtype), node.out().count(),
                {call.in(0), call.in(1), call.out(), NativeCall::value(r)});
}

void check_reverse_sequence(const Node& node) {
  const size_t rank = node.in(0).rank();
  if (canonical_axis(node.def->attr_int("batch_dim", 0), rank, "ReverseSequence") ==
      canonical_axis(node.def->attr_int("seq_dim", 0), rank, "ReverseSequence")) {
    throw_invalid_argument(node.describe(),
                           ": batch_dim == seq_dim == ", node.def->attr_int("seq_dim", 0));
  }
}

}  // namespace

std::vector<OpRow> pad_ops() {
  using enum HostUse;
  using enum Precision;
  const std::vector<TypeRule> any = T(kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64});
  return {
      {.op = "Pad",
       .types = any,
       .host = {{"paddings", kArg}},
       .launch = pad,
       .takes_empty = true,
       .check = check_padding,
       .precision = kClear},
      {.op = "PadV2",
       .types = any,
       .host = {{"paddings", kArg}},
       .launch = pad_v2,
       .takes_empty = true,
       .check = check_padding,
       .precision = kClear},
      {.op = "MirrorPad",
       .types = any,
       .host = {{"paddings", kArg}},
       .launch = mirror_pad,
       .check = check_mirror_pad,
       .precision = kClear},
      {.op = "MirrorPadGrad",
       .types = T(kFloats),
       .host = {{"paddings", kArg}},
       .launch = mirror_pad_grad,
       .check = check_mirror_pad_grad,
       .precision = kClear},
      {.op = "ReverseV2",
       .types = any,
       .host = {{"axis", kArg}},
       .launch = reverse,
       .check = check_reverse,
       .precision = kClear},
      {.op = "Reverse",
       .types = any,
       .host = {{"dims", kArg}},
       .launch = reverse,
       .precision = kClear},
      {.op = "Roll",
       .types = any,
       .host = {{"shift", kArg}, {"axis", kArg}},
       .launch = roll,
       .check = check_roll,
       .precision = kClear},
      {.op = "StridedSliceGrad",
       .types = any,
       .host = {{"shape", kArg}, {"begin", kArg}, {"end", kArg}, {"strides", kArg}},
       .launch = strided_slice_grad,
       .empty_value = 0,
       .check = check_strided_slice_grad,
       .precision = kClear},
      {.op = "ReverseSequence",
       .types = any,
       .launch = reverse_sequence,
       .check = check_reverse_sequence,
       .precision = kClear},
  };
}

}  // namespace tfmetal
