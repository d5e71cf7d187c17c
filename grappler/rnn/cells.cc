// Cells as Keras 3 and tf_keras write them, with one product for all gates (implementation 2):
//
//   lstm    z = x W + h U (+ b), split into i, f, g, o
//           c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')
//   gru     x W (+ b), h U (+ b'), each split into z, r, n (reset_after)
//           h' = z h + (1 - z) tanh(n + r n'),  z and r being sigmoids of the sums
//   simple  h' = tanh or relu of x W + h U (+ b)
//
// Conditions beyond the trees: the gates are the parts of one tensor in that order, by Split or by
// slices of columns; W, U and b have the ranks and columns that this takes.
#include "grappler/rnn/cells.h"

#include <algorithm>
#include <numeric>

#include "grappler/remapper/search.h"
#include "grappler/rnn/loop.h"

namespace tfmetal {

namespace {

Tree matmul(const char* left, const char* right) {
  return op("MatMul", {any(left), any(right)})
      .with("transpose_a", false)
      .with("transpose_b", false);
}
Tree input_product() { return matmul("x", "weights"); }
Tree state_product() { return matmul("h", "state_weights"); }

Tree biased(const Tree& product) {
  return either({op("BiasAdd", {product, any("bias")}).with("data_format", "NHWC"),
                 sum({product, any("bias")}), product});
}

// x W + h U (+ b), the bias being added first or last.
Tree both_products() {
  const Tree x = input_product(), h = state_product();
  return either({op("BiasAdd", {sum({x, h}), any("bias")}).with("data_format", "NHWC"),
                 sum({op("BiasAdd", {x, any("bias")}).with("data_format", "NHWC"), h}),
                 sum({x, h, any("bias")}), sum({x, h})})
      .described("(x . weights + h . state_weights + bias?)");
}

Tree lstm() {
  const Tree c = sum({product({op("Sigmoid", any("f")).as("forget"), any("c")}),
                      product({op("Sigmoid", any("i")).as("in"), op("Tanh", any("g")).as("new")})});
  return product({op("Sigmoid", any("o")).as("out"), op("Tanh", c.as("next_c")).as("tanh_c")});
}

Tree gru() {
  const Tree z = op("Sigmoid", sum({any("xz"), any("hz")})).as("z");
  const Tree r = op("Sigmoid", sum({any("xr"), any("hr")})).as("r");
  const Tree n = op("Tanh", sum({any("xn"), product({r, any("hn")})})).as("n");
  return sum({product({z, any("before")}), product({op("Sub", {constant(1), z}), n})});
}

// ---- gates -------------------------------------------------------------------------------------

// A part of the columns of a matrix.
struct Columns {
  Output matrix;
  int64_t begin, end, all;
};

std::optional<PartialShape> shape_of(Output output, Context& context, size_t rank) {
  const auto info = context.output_info(*output.node, output.port);
  if (!info || info->shape.unknown_rank || info->shape.dims.size() != rank) return {};
  return info->shape;
}

// The extent of the last axis; -1 if it is not known.
int64_t columns_of(Output output, Context& context, size_t rank = 2) {
  const auto shape = shape_of(output, context, rank);
  return shape ? shape->dims.back() : -1;
}

std::vector<int64_t> constant_ints(Output output) {
  const GraphNode& node = *source_of(output).node;
  return node.op() == "Const" ? node.def().attr_tensor("value").ints() : std::vector<int64_t>();
}

int64_t total(const std::vector<int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

// Split(axis, matrix) into equal parts, SplitV(matrix, sizes, axis).
std::optional<Columns> split_columns(Output part, Context& context) {
  const GraphNode& split = *part.node;
  const bool equal = split.op() == "Split";
  const std::optional<int64_t> axis = int_constant(split.input(equal ? 0 : 2));
  const size_t parts = size_t(split.def().attr_int("num_split", 1));
  std::vector<int64_t> sizes(parts, columns_of(part, context));
  if (!equal) sizes = constant_ints(split.input(1));
  // -1: what is left.
  const auto rest = equal ? sizes.end() : std::ranges::find(sizes, -1);
  if (rest != sizes.end()) *rest += columns_of(split.input(0), context) - total(sizes);
  const bool known = sizes.size() == parts && std::ranges::min(sizes) >= 0;
  if ((axis != 1 && axis != -1) || !known) return {};
  const auto before = sizes.begin() + part.port;
  const int64_t begin = total({sizes.begin(), before});
  return Columns{split.input(equal ? 1 : 0), begin, begin + *before, total(sizes)};
}

std::optional<Columns> sliced_columns(Output part, Context& context) {
  const GraphNode& slice = *part.node;
  const int64_t all = columns_of(slice.input(0), context);
  const auto range = sliced_range(slice, 1, all);
  return range ? std::optional(Columns{slice.input(0), range->first, range->second, all})
               : std::nullopt;
}

// The matrix of which `gates` are the parts, in this order.
std::optional<Output> joined(const Match& match, std::initializer_list<const char*> gates,
                             std::vector<GraphNode*>* nodes, Context& context) {
  std::optional<Output> matrix;
  int64_t end = 0, all = 0;
  const int64_t count = int64_t(gates.size());
  for (const char* name : gates) {
    const Output gate = match.at(name);
    const std::string& op = gate.node->op();
    const bool slices = op == "StridedSlice";
    if (!slices && op != "Split" && op != "SplitV") return {};
    const auto part = slices ? sliced_columns(gate, context) : split_columns(gate, context);
    if (!part || part->begin != end || (part->end - part->begin) * count != part->all) return {};
    if (matrix && *matrix != part->matrix) return {};
    matrix = part->matrix;
    end = part->end;
    all = part->all;
    nodes->push_back(gate.node);
  }
  return end == all ? matrix : std::nullopt;
}

// ---- products ----------------------------------------------------------------------------------

// Takes a matrix of gates apart into what it is computed from; whether it could.
bool take_products(Cell* cell, const Tree& tree, Output gates, Context& context) {
  if (gates.port != 0) return false;
  return Search().run(tree, *gates.node, [&](const Match& match) {
    const Output *x = match.find("x"), *h = match.find("h"), *b = match.find("bias");
    if (h && source_of(*h) != cell->h) return false;
    if (b && columns_of(*b, context, 1) < 0) return false;
    if (x) {
      cell->x = source_of(*x);
      cell->weights = match.at("weights");
    }
    if (h) cell->state_weights = match.at("state_weights");
    if (b) cell->biases.push_back(*b);
    for (const Match::Member& member : match.members) cell->match.members.push_back(member);
    return true;
  });
}

bool has_sizes(const Cell& cell, int64_t gates, Context& context) {
  const auto weights = shape_of(cell.weights, context, 2);
  const auto state_weights = shape_of(cell.state_weights, context, 2);
  if (!weights || !state_weights) return false;
  const int64_t units = state_weights->dims[0], columns = gates * units;
  return units >= 0 && state_weights->dims[1] == columns && weights->dims[1] == columns &&
         std::ranges::all_of(cell.biases,
                             [&](Output bias) { return columns_of(bias, context, 1) == columns; });
}

bool complete_lstm(Cell* cell, Context& context) {
  std::vector<GraphNode*> splits;
  const auto gates = joined(cell->match, {"i", "f", "g", "o"}, &splits, context);
  cell->c = source_of(cell->match.at("c"));
  cell->next_c = cell->match.at("next_c");
  if (!gates || !take_products(cell, both_products(), *gates, context)) return false;
  for (GraphNode* split : splits) cell->match.members.push_back({split, Fate::kInside});
  return has_sizes(*cell, 4, context);
}

bool complete_gru(Cell* cell, Context& context) {
  if (source_of(cell->match.at("before")) != cell->h) return false;
  std::vector<GraphNode*> splits;
  const auto x = joined(cell->match, {"xz", "xr", "xn"}, &splits, context);
  const auto h = joined(cell->match, {"hz", "hr", "hn"}, &splits, context);
  if (!x || !take_products(cell, biased(input_product()), *x, context)) return false;
  const size_t biases = cell->biases.size();
  if (!h || !take_products(cell, biased(state_product()), *h, context)) return false;
  for (GraphNode* split : splits) cell->match.members.push_back({split, Fate::kInside});
  // The kernel takes both or none.
  return cell->biases.size() == 2 * biases && has_sizes(*cell, 3, context);
}

bool complete_simple(Cell* cell, Context& context) {
  const bool is_tanh = cell->match.root->op() == "Tanh";
  cell->mode = is_tanh ? "rnn_tanh" : "rnn_relu";
  return take_products(cell, both_products(), cell->match.root->input(0), context) &&
         has_sizes(*cell, 1, context);
}

struct Kind {
  const char* mode;
  bool (*complete)(Cell*, Context&);
};
const Kind kKinds[] = {{"lstm", complete_lstm}, {"gru", complete_gru}, {"", complete_simple}};

}  // namespace

std::optional<std::pair<int64_t, int64_t>> sliced_range(const GraphNode& slice, size_t first,
                                                        int64_t all) {
  std::vector<int64_t> ends[3];  // begin, end, strides
  for (size_t i = 0; i < 3; ++i) {
    ends[i] = constant_ints(slice.input(first + i));
    if (ends[i].size() != 2) return {};
  }
  const auto mask = [&](const char* name) { return slice.def().attr_int(name, 0); };
  const bool all_rows = (mask("begin_mask") & 1) && (mask("end_mask") & 1);
  const bool plain = !mask("ellipsis_mask") && !mask("new_axis_mask") && !mask("shrink_axis_mask");
  if (all < 0 || !all_rows || !plain || ends[2] != std::vector<int64_t>{1, 1}) return {};
  const int64_t begin = mask("begin_mask") & 2 ? 0 : ends[0][1];
  const int64_t end = mask("end_mask") & 2 ? all : ends[1][1];
  if (begin < 0 || end < begin || end > all) return {};
  return std::pair(begin, end);
}

const std::vector<Pattern>& cell_patterns() {
  static const auto* const table = new std::vector<Pattern>{
      {"lstm", "`LSTM` that is a loop, and its gradient", lstm()},
      {"gru", "`GRU` that is a loop, with `reset_after`, and its gradient", gru()},
      {"simple_rnn", "`SimpleRNN` of tanh or relu, and its gradient",
       op("Tanh|Relu", both_products()).as("next_h")},
  };
  return *table;
}

std::optional<Cell> find_cell(Output next_h, Output h, Context& context) {
  std::optional<Cell> found;
  for (size_t i = 0; i < std::size(kKinds) && !found && next_h.port == 0; ++i) {
    const Pattern& pattern = cell_patterns()[i];
    if (!context.switches().part("rnn", pattern.name)) continue;
    Search().run(pattern.tree, *next_h.node, [&](const Match& match) {
      Cell cell{.pattern = &pattern, .mode = kKinds[i].mode, .match = match, .h = h};
      if (!kKinds[i].complete(&cell, context)) return false;
      found = std::move(cell);
      return true;
    });
  }
  return found;
}

}  // namespace tfmetal
