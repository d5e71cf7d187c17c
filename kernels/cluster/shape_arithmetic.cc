#include "kernels/cluster/shape_arithmetic.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "kernels/native/strided.h"
#include "kernels/shape_oracle.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

using Ints = std::vector<int64_t>;
// The values of the first output, whose shape TensorFlow has told.
using Values = Ints (*)(const Node&);
// All outputs, where TensorFlow cannot tell their shapes.
using Outputs = std::vector<Ints> (*)(const Node&);

// For each element of `out`, in order, the element of an operand that broadcasts to it.
Ints broadcast_indices(const Shape& out, const Shape& operand) {
  Ints indices{0};
  int64_t stride = element_count(operand);
  for (size_t axis = 0; axis < out.size(); ++axis) {
    const size_t missing = out.size() - operand.size();
    const int64_t extent = axis < missing ? 1 : operand[axis - missing];
    if (extent > 1) stride /= extent;
    Ints next;
    for (int64_t base : indices) {
      for (int64_t i = 0; i < out[axis]; ++i) next.push_back(base + (extent > 1 ? i * stride : 0));
    }
    indices = std::move(next);
  }
  return indices;
}

int64_t add(int64_t a, int64_t b) { return a + b; }
int64_t subtract(int64_t a, int64_t b) { return a - b; }
int64_t multiply(int64_t a, int64_t b) { return a * b; }
int64_t lower(int64_t a, int64_t b) { return std::min(a, b); }
int64_t higher(int64_t a, int64_t b) { return std::max(a, b); }

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) throw_invalid_argument("Integer division by zero");
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}
int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

using Function = int64_t (*)(int64_t, int64_t);

template <Function function>
Ints elementwise(const Node& node) {
  const Ints a = node.host_ints(0), b = node.host_ints(1);
  const Ints ia = broadcast_indices(node.out().shape, node.in(0).shape);
  const Ints ib = broadcast_indices(node.out().shape, node.in(1).shape);
  Ints out;
  for (size_t i = 0; i < ia.size(); ++i)
    out.push_back(function(a[size_t(ia[i])], b[size_t(ib[i])]));
  return out;
}

Ints reduce(const Node& node, Function function, int64_t start) {
  const Ints values = node.host_ints(0);
  Shape kept = node.in(0).shape;
  for (int64_t axis : node.host_ints(1)) {
    kept[size_t(canonical_axis(axis, kept.size(), node.op().c_str()))] = 1;
  }
  const Ints to = broadcast_indices(node.in(0).shape, kept);
  Ints out(size_t(element_count(kept)), start);
  for (size_t i = 0; i < values.size(); ++i) {
    out[size_t(to[i])] = function(out[size_t(to[i])], values[i]);
  }
  return out;
}

// Joins inputs [first, first + count), seen as [outer, inner of its own].
Ints join(const Node& node, size_t first, size_t count, int64_t outer) {
  Ints out;
  for (int64_t o = 0; o < outer; ++o) {
    for (size_t i = first; i < first + count; ++i) {
      const Ints values = node.host_ints(i);
      const int64_t inner = int64_t(values.size()) / outer;
      out.insert(out.end(), values.begin() + o * inner, values.begin() + (o + 1) * inner);
    }
  }
  return out;
}

int64_t outer_count(const Shape& shape, int64_t axis) {
  return element_count(Shape(shape.begin(), shape.begin() + axis));
}

Ints pack(const Node& node) {
  const size_t rank = node.in(0).rank() + 1;
  const int64_t axis = canonical_axis(node.def->attr_int("axis", 0), rank, "Pack");
  return join(node, 0, node.inputs.size(), outer_count(node.in(0).shape, axis));
}

Ints concat_values(const Node& node) {
  const size_t count = node.inputs.size() - 1;
  const int64_t axis = canonical_axis(node.host_int(count), node.in(0).rank(), "ConcatV2");
  return join(node, 0, count, outer_count(node.in(0).shape, axis));
}

Ints strided_slice(const Node& node) {
  const StridedView view = strided_slice_view(node, node.in(0).shape, node.host_ints(1),
                                              node.host_ints(2), node.host_ints(3));
  const Ints values = node.host_ints(0);
  Ints positions{view.offset};
  for (size_t axis = 0; axis < view.extents.size(); ++axis) {
    Ints next;
    for (int64_t base : positions) {
      for (int64_t i = 0; i < view.extents[axis]; ++i)
        next.push_back(base + i * view.strides[axis]);
    }
    positions = std::move(next);
  }
  Ints out;
  for (int64_t position : positions) out.push_back(values[size_t(position)]);
  return out;
}

// GatherV2 of a vector, as dense layers pick extents.
Ints gather(const Node& node) {
  const Ints values = node.host_ints(0);
  Ints out;
  for (int64_t index : node.host_ints(1)) {
    if (index < 0 || index >= int64_t(values.size())) {
      throw_invalid_argument("GatherV2: index ", index, " is not in [0, ", values.size(), ")");
    }
    out.push_back(values[size_t(index)]);
  }
  return out;
}

Ints range(const Node& node) {
  const int64_t start = node.host_int(0), step = node.host_int(2);
  Ints out(size_t(node.out().count()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = start + int64_t(i) * step;
  return out;
}

Ints invert_permutation(const Node& node) {
  const Ints values = node.host_ints(0);
  const int64_t count = int64_t(values.size());
  Ints out(values.size(), -1);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t to = values[size_t(i)];
    if (to < 0 || to >= count || out[size_t(to)] >= 0) {
      throw_invalid_argument("InvertPermutation: ", to, " is out of range [0, ", count,
                             ") or comes twice");
    }
    out[size_t(to)] = i;
  }
  return out;
}

// The axes of each shape along which it was broadcast, to be summed over in its gradient.
std::vector<Ints> broadcast_gradient_args(const Node& node) {
  const Shape shapes[] = {node.host_ints(0), node.host_ints(1)};
  const size_t rank = std::max(shapes[0].size(), shapes[1].size());
  std::vector<Ints> axes(2);
  for (size_t axis = 0; axis < rank; ++axis) {
    int64_t extents[2];
    for (size_t i = 0; i < 2; ++i) {
      const size_t missing = rank - shapes[i].size();
      extents[i] = axis < missing ? 1 : shapes[i][axis - missing];
    }
    if (extents[0] != extents[1] && extents[0] != 1 && extents[1] != 1) {
      throw_invalid_argument("Incompatible shapes: ", to_string(shapes[0]), " vs. ",
                             to_string(shapes[1]));
    }
    for (size_t i = 0; i < 2; ++i) {
      // Where both are 1 nothing was broadcast, but TensorFlow sums there too.
      if (extents[i] == 1) axes[i].push_back(int64_t(axis));
    }
  }
  if (shapes[0] == shapes[1]) return {{}, {}};
  return axes;
}

std::vector<Ints> shapes(const Node& node) {
  std::vector<Ints> out;
  for (const TensorInfo& input : node.inputs) out.push_back(input.shape);
  return out;
}

Ints same(const Node& node) { return node.host_ints(0); }

const std::map<std::string, Outputs, std::less<>>& all_outputs() {
  static const auto* const table = new std::map<std::string, Outputs, std::less<>>{
      {"BroadcastGradientArgs", broadcast_gradient_args},
      {"Rank", [](const Node& n) { return std::vector<Ints>{{int64_t(n.in(0).rank())}}; }},
      {"Shape", shapes},
      {"ShapeN", shapes},
      {"Size", [](const Node& n) { return std::vector<Ints>{{n.in(0).count()}}; }},
  };
  return *table;
}

const std::map<std::string, Values, std::less<>>& values_of() {
  constexpr int64_t kLowest = std::numeric_limits<int32_t>::min();
  static const auto* const table = new std::map<std::string, Values, std::less<>>{
      {"AddV2", elementwise<add>},
      {"ConcatV2", concat_values},
      {"ExpandDims", same},
      {"FloorDiv", elementwise<floor_div>},
      {"FloorMod", elementwise<floor_mod>},
      {"GatherV2", gather},
      {"Identity", same},
      {"InvertPermutation", invert_permutation},
      {"Max", [](const Node& n) { return reduce(n, higher, kLowest); }},
      {"Maximum", elementwise<higher>},
      {"Minimum", elementwise<lower>},
      {"Mul", elementwise<multiply>},
      {"Pack", pack},
      {"Prod", [](const Node& n) { return reduce(n, multiply, 1); }},
      {"Range", range},
      {"Reshape", same},
      {"Squeeze", same},
      {"StridedSlice", strided_slice},
      {"Sub", elementwise<subtract>},
      {"Sum", [](const Node& n) { return reduce(n, add, 0); }},
  };
  return *table;
}

std::string bytes_of(const Ints& values, TF_DataType dtype) {
  std::string bytes;
  for (int64_t value : values) {
    // Narrowed as TensorFlow's int32 arithmetic wraps around.
    const int32_t narrow = int32_t(value);
    const bool wide = dtype == TF_INT64;
    bytes.append(
        wide ? reinterpret_cast<const char*>(&value) : reinterpret_cast<const char*>(&narrow),
        wide ? sizeof value : sizeof narrow);
  }
  return bytes;
}

}  // namespace

bool is_shape_arithmetic(const NodeDef& node) {
  if (asks_for_shape(node)) return true;
  if (node.op == "GatherV2") {
    return node.attr_type("Tparams") == TF_INT32 && node.attr_int("batch_dims", 0) == 0;
  }
  if (node.op == "Range") return node.attr_type("Tidx") == TF_INT32;
  if (!all_outputs().contains(node.op) && !values_of().contains(node.op)) return false;
  return node.attr_type("T", TF_INT32) == TF_INT32;
}

bool asks_for_shape(const NodeDef& node) {
  return node.op == "Shape" || node.op == "ShapeN" || node.op == "Size" || node.op == "Rank";
}

void evaluate(Node* node, std::vector<std::string>* results) {
  const NodeDef& def = *node->def;
  if (const auto found = all_outputs().find(def.op); found != all_outputs().end()) {
    const bool scalar = def.op == "Size" || def.op == "Rank";
    const TF_DataType dtype = def.op == "BroadcastGradientArgs"
                                  ? def.attr_type("T", TF_INT32)
                                  : def.attr_type("out_type", TF_INT32);
    for (const Ints& values : found->second(*node)) {
      node->outputs.push_back({dtype, scalar ? Shape{} : Shape{int64_t(values.size())}});
      results->push_back(bytes_of(values, dtype));
    }
    return;
  }
  infer_outputs(node);
  results->push_back(bytes_of(values_of().at(def.op)(*node), node->out().dtype));
}

}  // namespace tfmetal
