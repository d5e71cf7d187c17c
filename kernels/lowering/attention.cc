// Attention in one piece, an op of the plugin's own that the remapper makes
// (grappler/remapper/dot_product_attention.cc):
//
//   _MetalAttention(query: T, key: T, value: T, masks: N * Tmask) -> y: T
//     softmax(scale * query . key^T, masked) . value; the softmax in float32
//     equation   what the axes of query, key, value and result are: "AmBf,AnBf,AnBe->AmBe". m: the
//                rows, n: what is attended to, f: multiplied and summed up, e: of the values;
//                capital letters and ".", which is any number of axes: the batch. Logits, and with
//                them the mask, are [batch in alphabetical order, m, n]; all broadcast.
//     masking    "none"
//                "add": the mask, float32, is added to the logits, which then are float32, too
//                "subtract": where the mask holds, `number` is subtracted from them
//                "select": where it does not, they are `number`, far below all others or -inf
//     zero       with "select", hidden weights are set to zero after the softmax
//
// MPSGraph has it since macOS 15.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "kernels/families.h"
#include "kernels/node.h"
#include "plugin/error.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalAttention";
constexpr size_t kMask = 3;  // input

// MPSGraph's own numbering of the scores ends there, without an error. Rows are attended to in
// parts.
constexpr int64_t kMostScores = (int64_t{1} << 31) - 1;

// ---- axes ---------------------------------------------------------------------------------------

// For each axis its letter; -2, -1 for those of a ".".
using Labels = std::vector<int>;

bool is_batch(int label) { return label < 'a'; }

Labels expand(const std::string& text, size_t rank) {
  Labels labels;
  for (const char c : text) {
    if (c != '.') labels.push_back(c);
    for (auto axis = static_cast<int>(rank) - static_cast<int>(text.size()) + 1;
         c == '.' && axis > 0; --axis) {
      labels.push_back(-axis);
    }
  }
  return labels;
}

// The batch in order, then these two.
Labels in_order(Labels labels, char rows, char columns) {
  std::erase_if(labels, [](int label) { return !is_batch(label); });
  std::ranges::sort(labels);
  labels.push_back(rows);
  labels.push_back(columns);
  return labels;
}

std::vector<int64_t> permutation(const Labels& from, const Labels& to) {
  std::vector<int64_t> axes;
  for (const int label : to) axes.push_back(std::ranges::find(from, label) - from.begin());
  return axes;
}

struct Operand {
  char rows, columns;
  std::string text;

  // How the axes of a tensor of that rank come to [batch, rows, columns].
  std::vector<int64_t> order(const TensorInfo& x) const {
    const bool any = text.find('.') != std::string::npos;
    if (any ? x.rank() + 1 < text.size() : x.rank() != text.size()) {
      throw_invalid_argument(kOp, ": ", to_string(x), " has not the axes ", text);
    }
    const Labels labels = expand(text, x.rank());
    return permutation(labels, in_order(labels, rows, columns));
  }
};

using Equation = std::array<Operand, 4>;  // query, key, value, result

Equation parse(const NodeDef& def) {
  const std::string text = def.attr_string("equation");
  const size_t first = text.find(','), second = text.find(',', first + 1), arrow = text.find("->");
  return {Operand{'m', 'f', text.substr(0, first)},
          Operand{'n', 'f', text.substr(first + 1, second - first - 1)},
          Operand{'n', 'e', text.substr(second + 1, arrow - second - 1)},
          Operand{'m', 'e', text.substr(arrow + 2)}};
}

// ---- shapes -------------------------------------------------------------------------------------

// What two extents broadcast to.
int64_t broadcast(int64_t a, int64_t b, const Node& node) {
  if (a != b && a != 1 && b != 1) throw_invalid_argument(node.describe(), ": shapes do not fit");
  return a == 1 ? b : a;
}

struct Sizes {
  Equation equation;
  Shape batch;
  int64_t rows, keys, features, width;

  explicit Sizes(const Node& node) : equation(parse(*node.def)) {
    std::array<Shape, 4> shapes;  // query, key, value, mask in order
    for (size_t i = 0; i < 3; ++i) {
      for (const int64_t axis : equation[i].order(node.in(i))) {
        shapes[i].push_back(node.in(i).shape[static_cast<size_t>(axis)]);
      }
    }
    shapes[3] = node.inputs.size() > kMask ? node.in(kMask).shape : Shape();
    const auto end = [&](size_t i, size_t back) {  // the extent so far from the end
      return shapes[i].size() < back ? 1 : shapes[i][shapes[i].size() - back];
    };
    const bool any = equation[3].text.find('.') != std::string::npos;
    size_t rank = 0;
    for (const Shape& shape : shapes) rank = std::max(rank, shape.size());
    if (!any && rank > equation[3].text.size()) {
      throw_invalid_argument(node.describe(), ": the mask has more axes than the logits");
    }
    for (size_t back = rank; back > 2; --back) {
      int64_t extent = 1;
      for (size_t i = 0; i < 4; ++i) extent = broadcast(extent, end(i, back), node);
      batch.push_back(extent);
    }
    rows = broadcast(end(0, 2), end(3, 2), node);
    keys = broadcast(end(1, 2), end(3, 1), node);
    features = end(0, 1);
    width = end(2, 1);
    if (end(1, 1) != features || end(2, 2) != keys) {
      throw_invalid_argument(node.describe(), ": key and value must be of ", keys,
                             " rows, query and key of ", features, " features");
    }
  }

  Shape with_batch(int64_t m, int64_t n) const {
    Shape shape = batch;
    shape.push_back(m);
    shape.push_back(n);
    return shape;
  }
  // Of rank 4: the batch is two axes.
  Shape flat(const Shape& shape) const {
    Shape out(shape.end() - 3, shape.end());
    out.insert(out.begin(), 1);
    for (auto it = shape.begin(); it != shape.end() - 3; ++it) out[0] *= *it;
    return out;
  }
};

// Axes of the result, from those in order.
std::vector<int64_t> result_order(const Sizes& sizes) {
  const Labels labels = expand(sizes.equation[3].text, sizes.batch.size() + 2);
  return permutation(in_order(labels, 'm', 'e'), labels);
}

bool infer(Node* node) {
  const Sizes sizes(*node);
  const Shape in_order = sizes.with_batch(sizes.rows, sizes.width);
  TensorInfo out{node->in(0).dtype, {}};
  for (const int64_t axis : result_order(sizes)) {
    out.shape.push_back(in_order[static_cast<size_t>(axis)]);
  }
  node->outputs = {out};
  return true;
}

// ---- the graph ----------------------------------------------------------------------------------

class Attention {
 public:
  Attention(GraphBuilder& g, const Node& node, Inputs in)
      : g_(g), node_(node), in_(in), sizes_(node) {}

  Tensors build() {
    const auto [q, k, v] = operands();
    Tensor y = attend(q, k, v, additive_mask());
    if (masking() == "select") y = with_hidden_rows(y, v);
    y = g_.cast(y, node_.out().dtype);
    const Shape in_order = sizes_.with_batch(sizes_.rows, sizes_.width);
    return {g_.reshape(ordered(g_.reshape(y, in_order), result_order(sizes_)), node_.out().shape)};
  }

 private:
  std::string masking() const { return node_.def->attr_string("masking"); }
  float number() const { return node_.def->attr_float("number"); }
  TF_DataType dtype() const { return masking() == "add" ? TF_FLOAT : node_.in(0).dtype; }
  Tensor scalar(double value) { return g_.mpsg::Graph::constant(value, to_mps(dtype())); }

  Tensor ordered(Tensor x, const std::vector<int64_t>& axes) {
    return std::ranges::is_sorted(axes) ? x : g_.transpose(x, axes);
  }

  // [batch, batch, m, n]
  Tensor four_axes(Tensor x, int64_t m, int64_t n) {
    const Shape shape = sizes_.with_batch(m, n);
    if (shape.size() <= 4) {
      Shape flat = shape;
      flat.insert(flat.begin(), 4 - shape.size(), 1);
      return g_.broadcast_to(g_.with_rank(x, 4), flat);
    }
    return g_.reshape(g_.broadcast_to(g_.with_rank(x, shape.size()), shape), sizes_.flat(shape));
  }

  // Logits over no features are zero.
  std::array<Tensor, 3> operands() {
    const int64_t features = std::max<int64_t>(sizes_.features, 1);
    const std::array<Shape, 3> ends = {
        {{sizes_.rows, features}, {sizes_.keys, features}, {sizes_.keys, sizes_.width}}};
    std::array<Tensor, 3> out;
    for (size_t i = 0; i < 3; ++i) {
      const Tensor x = in_[i] ? ordered(in_[i], sizes_.equation[i].order(node_.in(i)))
                              : g_.constant(0, g_.list({1, 1}), to_mps(node_.in(i).dtype));
      out[i] = g_.cast(four_axes(x, ends[i][0], ends[i][1]), dtype());
    }
    return out;
  }

  // The mask with its last axes as large as those of the scores. What it does not know of the batch
  // stays 1, if there is no more than two axes of that.
  Tensor mask() {
    const Tensor x = in_[kMask];
    if (sizes_.batch.size() > 2) return four_axes(x, sizes_.rows, sizes_.keys);
    const Tensor wide = g_.with_rank(x, 4);
    Shape shape = g_.shape_of(wide);
    shape[2] = sizes_.rows;
    shape[3] = sizes_.keys;
    return g_.broadcast_to(wide, shape);
  }

  // Hidden logits are moved as far down as the type allows, and no further: a row that is hidden
  // wholly stays finite, and is replaced.
  Tensor additive_mask() {
    if (masking() == "none") return {};
    const Tensor given = mask();
    if (masking() == "add") return given;
    if (masking() == "subtract") return g_.select(given, scalar(-number()), scalar(0));
    return g_.select(given, scalar(0), scalar(dtype() == TF_HALF ? -65504.0 : -0x1.fep127));
  }

  Tensor rows_of(Tensor x, int64_t begin, int64_t end) {
    Shape stop = g_.shape_of(x);
    stop[2] = end;
    return g_.slice(x, g_.list({0, 0, begin, 0}), g_.list(stop), g_.list({1, 1, 1, 1}));
  }

  Tensor attend(Tensor q, Tensor k, Tensor v, Tensor added) {
    const float scale = node_.def->attr_float("scale");
    const int64_t heads = element_count(sizes_.batch);
    const int64_t step =
        std::max<int64_t>(1, kMostScores / std::max<int64_t>(1, heads * sizes_.keys));
    if (sizes_.rows <= step) return g_.attention(q, k, v, added, scale);
    Tensors parts;
    for (int64_t row = 0; row < sizes_.rows; row += step) {
      const int64_t end = std::min(row + step, sizes_.rows);
      parts.push_back(g_.attention(rows_of(q, row, end), k, v,
                                   added ? rows_of(added, row, end) : added, scale));
    }
    return g_.concat(g_.list(parts), 2);
  }

  // Rows of which all is hidden: weights of zero, or all alike, which gives the mean of the values,
  // or NaN, of -inf.
  Tensor with_hidden_rows(Tensor y, Tensor v) {
    const Tensor seen = g_.reduce_or(mask(), g_.axes({3}));
    if (node_.def->attr_bool("zero")) return g_.select(seen, y, scalar(0));
    if (std::isinf(number())) return g_.select(seen, y, scalar(NAN));
    return g_.select(seen, y, g_.cast(g_.mean(g_.cast(v, TF_FLOAT), g_.axes({2})), dtype()));
  }

  GraphBuilder& g_;
  const Node& node_;
  const Inputs in_;
  const Sizes sizes_;
};

Tensors attention(GraphBuilder& g, const Node& node, Inputs in) {
  // Weights of nothing: sums over nothing.
  if (!in[2]) return {g.constant(0, g.list(node.out().shape), to_mps(node.out().dtype))};
  return Attention(g, node, in).build();
}

void define() {
  define_op({kOp,
             {"T: {half, bfloat16, float}", "Tmask: {bool, float}", "N: int >= 0",
              "equation: string", "scale: float", "masking: {'none', 'add', 'subtract', 'select'}",
              "number: float = 0", "zero: bool = false"},
             {"query: T", "key: T", "value: T", "masks: N * Tmask"},
             {"y: T"}});
}

}  // namespace

std::vector<OpRow> attention_ops() {
  return {{.op = kOp,
           .types = {{"T", kFloats}, {"Tmask", {TF_BOOL, TF_FLOAT}}},
           .lower = attention,
           .takes_empty = true,
           .infer = infer,
           .precision = Precision::kAllow,
           .first = {15, 0},
           .define = define}};
}

}  // namespace tfmetal
