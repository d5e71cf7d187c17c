// Softmax and cross entropy, computed in float32 from shifted logits.
#include <limits>

#include "kernels/families.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Shifted {
  Tensor logits;       // x - max(x), along the last axis
  Tensor exponential;  // exp of that
  Tensor sum;          // its sum, the axis kept
};

Shifted shift(GraphBuilder& g, Tensor x) {
  const ns::Array last = g.axes({-1});
  const Tensor logits = g.sub(x, g.max_nan(x, last));
  const Tensor exponential = g.exp(logits);
  return {logits, exponential, g.sum(exponential, last)};
}

Tensors softmax(GraphBuilder& g, const Node&, Inputs in) {
  const Shifted s = shift(g, in[0]);
  return {g.div(s.exponential, s.sum)};
}

Tensors log_softmax(GraphBuilder& g, const Node&, Inputs in) {
  const Shifted s = shift(g, in[0]);
  return {g.sub(s.logits, g.log(s.sum))};
}

// loss = sum(labels * (log(sum) - logits)), gradient = softmax - labels.
Tensors cross_entropy(GraphBuilder& g, const Node& node, Inputs in) {
  const Shape& shape = node.out(1).shape;  // features and labels broadcast
  const Shifted s = shift(g, g.broadcast_to(in[0], shape));
  const Tensor labels = g.broadcast_to(in[1], shape);
  const Tensor losses = g.mul(labels, g.sub(g.log(s.sum), s.logits));
  return {g.reshape(g.sum(losses, g.axes({-1})), node.out(0).shape),
          g.sub(g.div(s.exponential, s.sum), labels)};
}

// Labels are class indices; an index out of range makes its row NaN, as TensorFlow documents for
// GPUs (the CPU kernel raises).
Tensors sparse_cross_entropy(GraphBuilder& g, const Node& node, Inputs in) {
  const int64_t rows = node.in(0).shape[0], classes = node.in(0).shape[1];
  const Shifted s = shift(g, in[0]);
  const Tensor labels = g.reshape(in[1], {rows, 1});
  // The indices become labels, which always fit, and not the other way round.
  const Tensor indices = g.cast(g.coordinate(1, g.axes({1, classes})), node.in(1).dtype);
  const Tensor is_label = g.equal(indices, labels);
  const Tensor valid = g.logical_and(g.greater_equal(labels, g.constant(0, labels)),
                                     g.less(labels, g.constant(double(classes), labels)));
  const Tensor zero = g.constant(0, in[0]), nan = g.constant(kNaN, in[0]);
  const Tensor losses = g.select(is_label, g.sub(g.log(s.sum), s.logits), zero);
  const Tensor loss = g.select(valid, g.sum(losses, g.axes({-1})), nan);
  const Tensor one_hot = g.one_where(is_label, in[0]);
  const Tensor gradient = g.select(valid, g.sub(g.div(s.exponential, s.sum), one_hot), nan);
  return {g.reshape(loss, {rows}), gradient};
}

void check_classes(const Node& node) {
  const TensorInfo& logits = node.in(0);
  if (logits.shape[0] > 0 && logits.shape[1] == 0) {
    throw_invalid_argument(node.describe(), ": Must have at least one class, but got logits shape ",
                           to_string(logits.shape));
  }
}

OpRow row(const char* op, Lower lower, Precision precision, std::vector<TypeRule> types) {
  return {
      .op = op, .types = std::move(types), .lower = lower, .widen = true, .precision = precision};
}

}  // namespace

std::vector<OpRow> loss_ops() {
  using enum Precision;
  std::vector<OpRow> rows = {
      row("Softmax", softmax, kInfer, T(kFloats)),
      row("LogSoftmax", log_softmax, kInfer, T(kFloats)),
      row("SoftmaxCrossEntropyWithLogits", cross_entropy, kDeny, T(kFloats)),
      row("SparseSoftmaxCrossEntropyWithLogits", sparse_cross_entropy, kDeny,
          {{"T", kFloats}, {"Tlabels", kIndex}}),
  };
  rows[2].empty_value = 0;  // no classes: the sum over nothing
  rows[3].check = check_classes;
  return rows;
}

}  // namespace tfmetal
