// Ops that move elements.
#include "kernels/families.h"
#include "kernels/lowering/complex_pairs.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

Shape at_least_1d(Shape shape) { return shape.empty() ? Shape{1} : shape; }

// The shape function does not look for an axis that is named twice.
void check_permutation(const Node& node) {
  std::vector<int64_t> permutation = node.host_ints(1);
  std::vector<bool> seen(permutation.size());
  for (int64_t axis : permutation) {
    seen[static_cast<size_t>(canonical_axis(axis, seen.size(), "Transpose"))] = true;
  }
  for (size_t axis = 0; axis < seen.size(); ++axis) {
    if (!seen[axis]) {
      throw_invalid_argument(node.describe(), ": ", axis, " is missing from perm ",
                             to_string(permutation));
    }
  }
}

Tensors transpose(GraphBuilder& g, const Node& node, Inputs in) {
  std::vector<int64_t> permutation = node.host_ints(1);
  if (permutation.empty()) return {in[0]};
  for (int64_t& axis : permutation) axis = canonical_axis(axis, permutation.size(), "Transpose");
  return {g.transpose(in[0], permutation)};
}

Tensors conjugate_transpose(GraphBuilder& g, const Node& node, Inputs in) {
  const Complex x = split_pairs(g, in[0]);
  const Tensor real[] = {x.real}, imaginary[] = {g.negative(x.imaginary)};
  return {join_pairs(g, {transpose(g, node, real)[0], transpose(g, node, imaginary)[0]})};
}

// Inputs without elements contribute nothing and are not fed.
Tensors concat_along(GraphBuilder& g, Inputs values, int64_t axis) {
  Tensors parts;
  for (Tensor value : values) {
    if (value) parts.push_back(value);
  }
  return {parts.size() == 1 ? parts[0] : g.concat(g.list(parts), axis)};
}

Tensors concat_v2(GraphBuilder& g, const Node& node, Inputs in) {
  const size_t n = in.size() - 1;
  return concat_along(g, in.first(n),
                      canonical_axis(node.host_int(n), node.in(0).rank(), "ConcatV2"));
}

Tensors pack(GraphBuilder& g, const Node& node, Inputs in) {
  const int64_t axis = canonical_axis(node.def->attr_int("axis", 0), node.out().rank(), "Pack");
  Shape shape = node.out().shape;
  shape[static_cast<size_t>(axis)] = 1;
  Tensors parts;
  for (Tensor value : in) parts.push_back(g.reshape(value, shape));
  return concat_along(g, parts, axis);
}

Tensors tile(GraphBuilder& g, const Node& node, Inputs in) {
  const std::vector<int64_t> multiples = node.host_ints(1);
  if (multiples.empty()) return {in[0]};
  return {g.tile(in[0], g.list(multiples))};
}

Tensors broadcast_to(GraphBuilder& g, const Node& node, Inputs in) {
  const Shape shape = at_least_1d(node.out().shape);
  return {g.broadcast_to(g.with_rank(in[0], shape.size()), shape)};
}

// One slice per output, whose extents along `axis` the shape function has told.
Tensors split_along(GraphBuilder& g, const Node& node, Tensor value, size_t axis) {
  const Shape shape = g.shape_of(value);
  Shape starts(shape.size(), 0), ends = shape;
  const Shape strides(shape.size(), 1);
  Tensors parts;
  for (const TensorInfo& output : node.outputs) {
    const int64_t extent = output.rank() == shape.size() ? output.shape[axis] : 1;
    ends[axis] = starts[axis] + extent;
    parts.push_back(output.count() == 0
                        ? Tensor()
                        : g.slice(value, g.list(starts), g.list(ends), g.list(strides)));
    starts[axis] = ends[axis];
  }
  return parts;
}

Tensors split(GraphBuilder& g, const Node& node, Inputs in) {
  const int64_t axis = canonical_axis(node.host_int(0), node.in(1).rank(), "Split");
  return split_along(g, node, in[1], static_cast<size_t>(axis));
}

Tensors split_v(GraphBuilder& g, const Node& node, Inputs in) {
  const int64_t axis = canonical_axis(node.host_int(2), node.in(0).rank(), "SplitV");
  return split_along(g, node, in[0], static_cast<size_t>(axis));
}

Tensors unpack(GraphBuilder& g, const Node& node, Inputs in) {
  const int64_t axis = canonical_axis(node.def->attr_int("axis", 0), node.in(0).rank(), "Unpack");
  return split_along(g, node, in[0], static_cast<size_t>(axis));
}

std::vector<TypeRule> movable(const char* attr = "T") {
  return T(kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64}, attr);
}

}  // namespace

std::vector<OpRow> shape_ops() {
  using enum HostUse;
  using enum Precision;
  return {
      {.op = "Transpose",
       .types = movable(),
       .host = {{"perm", kKey}},
       .lower = transpose,
       .check = check_permutation,
       .precision = kClear},
      {.op = "ConjugateTranspose",
       .types = T(kFloats + kIntegers + DTypes{TF_BOOL}),
       .host = {{"perm", kKey}},
       .lower = transpose,
       .check = check_permutation},
      {.op = "ConjugateTranspose",
       .types = T({TF_COMPLEX64}),
       .host = {{"perm", kKey}},
       .lower = conjugate_transpose,
       .pairs = true,
       .check = check_permutation},
      {.op = "ConcatV2",
       .types = movable(),
       .host = {{"axis", kKey}},
       .lower = concat_v2,
       .takes_empty = true,
       .precision = kClear},
      {.op = "Pack",
       .types = movable(),
       .lower = pack,
       .precision = kClear,
       .shape_arithmetic = "T"},
      {.op = "Tile",
       .types = movable(),
       .host = {{"multiples", kKey}},
       .lower = tile,
       .precision = kClear},
      {.op = "BroadcastTo",
       .types = movable(),
       .host = {{"shape", kKey}},
       .lower = broadcast_to,
       .precision = kClear},
      {.op = "Split",
       .types = movable(),
       .host = {{"split_dim", kKey}},
       .lower = split,
       .precision = kClear},
      {.op = "SplitV",
       .types = movable(),
       .host = {{"size_splits", kKey}, {"split_dim", kKey}},
       .lower = split_v,
       .precision = kClear},
      {.op = "Unpack", .types = movable(), .lower = unpack, .precision = kClear},
  };
}

}  // namespace tfmetal
