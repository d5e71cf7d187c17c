// Einsum: repeated labels become diagonals, labels of one operand alone are summed up, what remains
// is a batched matrix product whose axes are put into the order of the output.
#include "kernels/lowering/einsum.h"

#include <algorithm>

#include "kernels/families.h"
#include "kernels/lowering/complex_pairs.h"

namespace tfmetal {

namespace {

// A letter, or -1, -2, ... for the axes of an ellipsis, counted from its end.
using Label = int;
using Labels = std::vector<Label>;

bool has(const Labels& labels, Label label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

size_t count_letters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(),
                                           [](unsigned char c) { return std::isalpha(c) != 0; }));
}

// An ellipsis stands for `axes` axes.
Labels parse_labels(const std::string& text, size_t axes) {
  Labels labels;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(text[i]))) {
      labels.push_back(text[i]);
    } else if (text[i] == '.') {
      for (size_t axis = axes; axis > 0; --axis) labels.push_back(-static_cast<int>(axis));
      i += 2;
    }
  }
  return labels;
}

Equation parse(const Node& node) {
  const std::string text = node.def->attr_string("equation");
  const size_t arrow = text.find("->");
  Equation equation;
  for (size_t begin = 0, i = 0; i < node.inputs.size(); ++i) {
    const size_t end = std::min(text.find(',', begin), arrow);
    const std::string part = text.substr(begin, end - begin);
    equation.inputs.push_back(parse_labels(part, node.in(i).rank() - count_letters(part)));
    begin = end + 1;
  }
  // TensorFlow drops labels of the output that no input has.
  Labels known;
  for (const Labels& labels : equation.inputs) {
    known.insert(known.end(), labels.begin(), labels.end());
  }
  const int lowest = known.empty() ? 0 : *std::min_element(known.begin(), known.end());
  equation.output =
      parse_labels(text.substr(arrow + 2), lowest < 0 ? static_cast<size_t>(-lowest) : 0);
  std::erase_if(equation.output, [&](Label label) { return !has(known, label); });
  return equation;
}

// A tensor whose axes have names.
struct Named {
  Tensor tensor;
  Labels labels;
};

int64_t extent(const GraphBuilder& g, const Named& x, Label label) {
  const auto at = std::find(x.labels.begin(), x.labels.end(), label);
  return at == x.labels.end() ? 1
                              : g.shape_of(x.tensor)[static_cast<size_t>(at - x.labels.begin())];
}

Named ordered(GraphBuilder& g, const Named& x, const Labels& order) {
  if (x.labels == order) return x;
  std::vector<int64_t> permutation;
  std::vector<bool> used(x.labels.size(), false);
  for (Label label : order) {
    size_t axis = 0;
    while (used[axis] || x.labels[axis] != label) ++axis;
    used[axis] = true;
    permutation.push_back(static_cast<int64_t>(axis));
  }
  return {g.transpose(x.tensor, permutation), order};
}

// Of a label that names several axes: the elements at which their indices agree.
Named diagonals(GraphBuilder& g, Named x) {
  for (size_t i = 0; i < x.labels.size(); ++i) {
    const Label label = x.labels[i];
    const auto count = std::count(x.labels.begin(), x.labels.end(), label);
    if (count == 1) continue;
    const int64_t n = extent(g, x, label);
    Labels order = x.labels;
    std::erase(order, label);
    Labels last = order;
    last.insert(last.end(), static_cast<size_t>(count), label);
    x = ordered(g, x, last);
    Shape flat = g.shape_of(x.tensor), starts, strides;
    int64_t square = 1, step = 0;
    for (auto k = count; k > 0; --k, square *= n) step += square;
    flat.resize(order.size());
    flat.push_back(square);
    starts.resize(flat.size(), 0);
    strides.resize(flat.size(), 1);
    strides.back() = step;
    x.tensor = g.slice(g.reshape(x.tensor, flat), g.list(starts), g.list(flat), g.list(strides));
    order.push_back(label);
    x.labels = order;
    i = static_cast<size_t>(-1);  // the order changed: look again
  }
  return x;
}

// Sums over the labels for which `drop` says so, in float32.
template <class Drop>
Named summed(GraphBuilder& g, Named x, Drop drop) {
  Labels kept, dropped;
  for (Label label : x.labels) (drop(label) ? dropped : kept).push_back(label);
  if (dropped.empty()) return x;
  Labels order = kept;
  order.insert(order.end(), dropped.begin(), dropped.end());
  x = ordered(g, x, order);
  const Shape full = g.shape_of(x.tensor);
  Shape shape(full.begin(), full.begin() + static_cast<std::ptrdiff_t>(kept.size()));
  const int64_t rows = element_count(shape), columns = element_count(full) / rows;
  const Tensor flat = g.reshape(x.tensor, {rows, columns});
  const Tensor wide = g.sum(g.cast(flat, TF_FLOAT), g.axes({1}));
  const Tensor sum = g.cast(wide, x.tensor.data_type());
  return {g.reshape(sum, shape.empty() ? Shape{1} : shape), kept};
}

int64_t product(const GraphBuilder& g, const Named& x, const Labels& labels) {
  int64_t count = 1;
  for (Label label : labels) count *= extent(g, x, label);
  return count;
}

// The groups that the labels of two operands fall into.
struct Groups {
  Labels ellipsis, batch, contracted, left, right;
};

Groups group(const Named& a, const Named& b, const Labels& output) {
  Groups groups;
  for (Label label : output) {
    if (label < 0 && !has(groups.ellipsis, label)) groups.ellipsis.push_back(label);
  }
  for (Label label : a.labels) {
    if (label < 0) continue;
    Labels& target = !has(b.labels, label) ? groups.left
                     : has(output, label)  ? groups.batch
                                           : groups.contracted;
    target.push_back(label);
  }
  for (Label label : b.labels) {
    if (label >= 0 && !has(a.labels, label)) groups.right.push_back(label);
  }
  return groups;
}

Labels joined(std::initializer_list<Labels> lists) {
  Labels all;
  for (const Labels& labels : lists) all.insert(all.end(), labels.begin(), labels.end());
  return all;
}

// [ellipsis..., batch, rows, columns]; a matrix that lies there transposed stays as it is, for the
// product to read it that way.
Tensor matrices(GraphBuilder& g, const Named& x, const Groups& groups, const Labels& rows,
                const Labels& columns) {
  Labels ellipsis;
  Shape shape;
  for (Label label : groups.ellipsis) {
    if (has(x.labels, label)) ellipsis.push_back(label);
    shape.push_back(extent(g, x, label));
  }
  if (!groups.batch.empty()) shape.push_back(product(g, x, groups.batch));
  const bool transposed = x.labels == joined({ellipsis, groups.batch, columns, rows}) &&
                          !rows.empty() && !columns.empty();
  const Labels &first = transposed ? columns : rows, &second = transposed ? rows : columns;
  const Named in_order = ordered(g, x, joined({ellipsis, groups.batch, first, second}));
  shape.push_back(product(g, x, first));
  shape.push_back(product(g, x, second));
  const Tensor result = g.reshape(in_order.tensor, shape);
  return transposed ? g.matrix_transpose(result) : result;
}

Named contract(GraphBuilder& g, const Named& a, const Named& b, const Labels& output) {
  const Groups groups = group(a, b, output);
  const Tensor left = matrices(g, a, groups, groups.left, groups.contracted);
  const Tensor right = matrices(g, b, groups, groups.contracted, groups.right);
  const Labels labels = joined({groups.ellipsis, groups.batch, groups.left, groups.right});
  Shape shape;
  for (Label label : labels) shape.push_back(std::max(extent(g, a, label), extent(g, b, label)));
  return {g.reshape(g.matmul(left, right), shape.empty() ? Shape{1} : shape), labels};
}

// For outputs that name a label several times: zero where the indices differ.
Tensor spread(GraphBuilder& g, const Named& x, const Labels& output, const Shape& shape) {
  Shape once;  // the axes of repetitions have extent 1
  Tensor mask;
  for (size_t axis = 0; axis < output.size(); ++axis) {
    const auto first =
        static_cast<size_t>(std::find(output.begin(), output.end(), output[axis]) - output.begin());
    once.push_back(first == axis ? shape[axis] : 1);
    if (first == axis) continue;
    const auto indices = [&](size_t k) {
      return g.coordinate(static_cast<NSInteger>(k), g.list(shape));
    };
    const Tensor same = g.equal(indices(first), indices(axis));
    mask = mask ? g.logical_and(mask, same) : same;
  }
  const Tensor repeated = g.broadcast_to(g.reshape(x.tensor, once), shape);
  return g.select(mask, repeated, g.constant(0, repeated));
}

Tensors lower_einsum(GraphBuilder& g, const Node& node, Inputs in) { return {einsum(g, node, in)}; }

Tensors lower_complex(GraphBuilder& g, const Node& node, Inputs in) {
  if (in.size() == 1) {
    const Complex x = split_pairs(g, in[0]);
    return {join_pairs(g, {einsum(g, node, {&x.real, 1}), einsum(g, node, {&x.imaginary, 1})})};
  }
  return {complex_product(g, in[0], in[1], [&](Tensor a, Tensor b) {
    const Tensor operands[] = {a, b};
    return einsum(g, node, operands);
  })};
}

OpRow row(DTypes dtypes, Lower lower, bool pairs) {
  return {.op = "Einsum",
          .types = T(std::move(dtypes)),
          .lower = lower,
          .pairs = pairs,
          .empty_value = 0,
          .precision = Precision::kAllow};
}

}  // namespace

Tensor einsum(GraphBuilder& g, const Node& node, Inputs in) {
  const Equation equation = parse(node);
  std::vector<Named> operands;
  for (size_t i = 0; i < in.size(); ++i) {
    const Labels& other = in.size() == 2 ? equation.inputs[1 - i] : Labels();
    const Shape& shape = node.in(i).shape;
    const Tensor tensor = g.reshape(in[i], shape.empty() ? Shape{1} : shape);
    operands.push_back(summed(g, diagonals(g, {tensor, equation.inputs[i]}), [&](Label label) {
      return label >= 0 && !has(equation.output, label) && !has(other, label);
    }));
  }
  const Named result =
      in.size() == 2 ? contract(g, operands[0], operands[1], equation.output) : operands[0];
  Labels unique;
  for (Label label : equation.output) {
    if (!has(unique, label)) unique.push_back(label);
  }
  const Named in_order = ordered(g, result, unique);
  const Shape& shape = node.out().shape;
  if (unique.size() < equation.output.size()) return spread(g, in_order, equation.output, shape);
  return g.reshape(in_order.tensor, shape.empty() ? Shape{1} : shape);
}

std::vector<OpRow> einsum_ops() {
  return {row(kFloats, lower_einsum, false), row({TF_COMPLEX64}, lower_complex, true)};
}

}  // namespace tfmetal
