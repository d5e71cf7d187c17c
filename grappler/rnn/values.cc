#include "grappler/rnn/values.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "grappler/rnn/cells.h"

namespace tfmetal {

namespace {

using Kind = Value::Kind;

// Elementwise, of operands with as many parts.
template <class F>
Value combine(const Value& a, const Value& b, F f) {
  if (!a.is(Kind::kParts) || !b.is(Kind::kParts) || a.parts.size() != b.parts.size()) return {};
  Value result{Kind::kParts};
  for (size_t i = 0; i < a.parts.size(); ++i) {
    result.parts.push_back(f(a.parts[i], b.parts[i]));
    if (result.parts.back().too_large()) return {};
  }
  return result;
}

Value add(const Value& a, const Value& b) {
  return combine(a, b, [](const auto& x, const auto& y) { return x + y; });
}
Value subtract(const Value& a, const Value& b) {
  return combine(a, b, [](const auto& x, const auto& y) { return x - y; });
}
Value multiply(const Value& a, const Value& b) {
  return combine(a, b, [](const auto& x, const auto& y) { return x * y; });
}
// Of a number of parts, each the same.
Value like(const Value& value, const Polynomial& polynomial) {
  if (!value.is(Kind::kParts)) return {};
  return {Kind::kParts, std::vector<Polynomial>(value.parts.size(), polynomial)};
}
Value one_like(const Value& value) { return like(value, Polynomial::number(1)); }

bool is_nothing_but(const Value& value, StepValue what) {
  return value.is(Kind::kParts) && value.parts == std::vector{Polynomial::variable(what)};
}

Value constant(const GraphNode& node) {
  const TensorProto tensor = node.def().attr_tensor("value");
  const std::optional<int64_t> elements = tensor.shape().elements();
  constexpr int64_t kMostNumbers = 8;  // a shape, or axes
  if (!elements || *elements > kMostNumbers) return {};
  if (tensor.dtype() == TF_INT32) return {Kind::kShape, {}, tensor.ints()};
  if (*elements != 1) return {};
  const bool is_float =
      tensor.dtype() == TF_FLOAT || tensor.dtype() == TF_HALF || tensor.dtype() == TF_BFLOAT16;
  return is_float ? Value::of(Polynomial::number(tensor.doubles()[0])) : Value();
}

}  // namespace

// One function for each op.
struct Rules {
  using Rule = Value (*)(Values&, const GraphNode&, int port);

  static Value in(Values& values, const GraphNode& node, size_t i) { return values(node.input(i)); }

  static Value constant_rule(Values&, const GraphNode& node, int) { return constant(node); }

  static Value numbers(Values&, const GraphNode&, int) { return {Kind::kNumbers}; }

  static Value shape(Values& values, const GraphNode& node, int) {
    const Value of = in(values, node, 0);
    if (of.is(Kind::kParts)) {
      return {Kind::kShape, {}, {-1, int64_t(of.parts.size()) * values.units_}};
    }
    const auto info = values.context_.output_info(*node.input(0).node, node.input(0).port);
    if (!info || info->shape.unknown_rank) return {};
    return {Kind::kShape, {}, info->shape.dims};
  }

  static Value broadcast_arguments(Values& values, const GraphNode& node, int port) {
    Value shape = in(values, node, size_t(port));
    if (!shape.is(Kind::kShape) || !in(values, node, size_t(1 - port)).is(Kind::kShape)) return {};
    shape.kind = Kind::kReduction;
    return shape;
  }

  // Whether a tensor of that shape is `value`, or one row of it that served for all: the gradient
  // of such a row is the sum of what is computed for each, here or behind the loop.
  static bool has_shape(const Values& values, const Value& value,
                        const std::vector<int64_t>& dims) {
    return dims.size() == 2 && dims[1] == int64_t(value.parts.size()) * values.units_;
  }

  static Value sum(Values& values, const GraphNode& node, int) {
    const Value value = in(values, node, 0), axes = in(values, node, 1);
    if (!value.is(Kind::kParts)) return {};
    if (axes.is(Kind::kReduction)) {
      if (has_shape(values, value, axes.dims)) return value;
      return axes.dims.size() == 1 ? values.sum_rows(node, value) : Value();
    }
    if (!axes.is(Kind::kShape)) return {};
    if (axes.dims.empty()) return value;
    return axes.dims == std::vector<int64_t>{0} ? values.sum_rows(node, value) : Value();
  }

  static Value bias_gradient(Values& values, const GraphNode& node, int) {
    const Value value = in(values, node, 0);
    const bool last = node.def().attr_string("data_format", "NHWC") == "NHWC";
    return last && value.is(Kind::kParts) ? values.sum_rows(node, value) : Value();
  }

  static Value reshape(Values& values, const GraphNode& node, int port) {
    const Value value = in(values, node, 0);
    if (value.is(Kind::kShare)) return linear(values, node, port);
    const Value shape = in(values, node, 1);
    const bool same =
        value.is(Kind::kParts) && shape.is(Kind::kShape) && has_shape(values, value, shape.dims);
    return same ? value : Value();
  }

  // What is linear in the gradients of weights, and the same in each step but for them.
  static Value linear(Values& values, const GraphNode& node, int) {
    bool has_share = false;
    for (const Output input : node.inputs()) {
      const Value value = values(input);
      const bool is_setting = value.is(Kind::kShape) && is_invariant(values.loop_, input);
      if (!value.is(Kind::kShare) && !is_setting) return {};
      has_share |= !is_setting;
    }
    return has_share ? Value{Kind::kShare} : Value();
  }

  static Value concat(Values& values, const GraphNode& node, int port) {
    const size_t count = node.num_inputs() - 1;
    const std::optional<int64_t> axis = int_constant(node.input(count));
    Value result{Kind::kParts};
    for (size_t i = 0; i < count; ++i) {
      const Value part = in(values, node, i);
      if (part.is(Kind::kShare)) return linear(values, node, port);
      if (!part.is(Kind::kParts) || (axis != 1 && axis != -1)) return {};
      result.parts.insert(result.parts.end(), part.parts.begin(), part.parts.end());
    }
    return result;
  }

  // Columns of zeros around those that were sliced.
  static Value slice_gradient(Values& values, const GraphNode& node, int port) {
    const Value part = in(values, node, 4);
    if (part.is(Kind::kShare)) return linear(values, node, port);
    const Value shape = in(values, node, 0);
    if (!part.is(Kind::kParts) || !shape.is(Kind::kShape) || shape.dims.size() != 2) return {};
    const int64_t all = shape.dims[1], units = values.units_;
    const auto columns = sliced_range(node, 1, all);
    if (!columns || units <= 0 || columns->first % units || all % units ||
        columns->second - columns->first != int64_t(part.parts.size()) * units) {
      return {};
    }
    Value result{Kind::kParts, std::vector<Polynomial>(size_t(all / units))};
    std::ranges::copy(part.parts, result.parts.begin() + columns->first / units);
    return result;
  }

  static Value sum_of_all(Values& values, const GraphNode& node, int port) {
    Value result = in(values, node, 0);
    if (result.is(Kind::kShare)) return linear(values, node, port);
    for (size_t i = 1; i < node.num_inputs(); ++i) result = add(result, in(values, node, i));
    return result;
  }

  static Value matmul(Values& values, const GraphNode& node, int) { return values.multiply(node); }

  static Value difference(Values& values, const GraphNode& node, int) {
    return subtract(in(values, node, 0), in(values, node, 1));
  }
  static Value product(Values& values, const GraphNode& node, int) {
    return multiply(in(values, node, 0), in(values, node, 1));
  }
  static Value negative(Values& values, const GraphNode& node, int) {
    const Value x = in(values, node, 0);
    return subtract(like(x, {}), x);
  }
  static Value square(Values& values, const GraphNode& node, int) {
    const Value x = in(values, node, 0);
    return multiply(x, x);
  }
  static Value sigmoid_gradient(Values& values, const GraphNode& node, int) {
    const Value y = in(values, node, 0), dy = in(values, node, 1);
    return multiply(multiply(dy, y), subtract(one_like(y), y));
  }
  static Value tanh_gradient(Values& values, const GraphNode& node, int) {
    const Value y = in(values, node, 0), dy = in(values, node, 1);
    return multiply(dy, subtract(one_like(y), multiply(y, y)));
  }
  static Value relu_gradient(Values& values, const GraphNode& node, int) {
    const Value dy = in(values, node, 0), y = in(values, node, 1);
    if (!is_nothing_but(y, kNextH)) return {};
    return multiply(dy, Value::of(Polynomial::variable(kSlope)));
  }

  static Rule find(const std::string& op) {
    static const std::unordered_map<std::string_view, Rule> rules = {
        {"Add", sum_of_all},
        {"AddN", sum_of_all},
        {"AddV2", sum_of_all},
        {"BiasAddGrad", bias_gradient},
        {"BroadcastGradientArgs", broadcast_arguments},
        {"Cast", linear},
        {"ConcatV2", concat},
        {"Const", constant_rule},
        {"ExpandDims", linear},
        {"MatMul", matmul},
        {"Mul", product},
        {"Neg", negative},
        {"Pack", linear},
        {"ReluGrad", relu_gradient},
        {"Reshape", reshape},
        {"Shape", shape},
        {"SigmoidGrad", sigmoid_gradient},
        {"Square", square},
        {"Squeeze", linear},
        {"StridedSliceGrad", slice_gradient},
        {"Sub", difference},
        {"Sum", sum},
        {"TanhGrad", tanh_gradient},
        {"TensorListElementShape", numbers},
        {"TensorListLength", numbers},
    };
    const auto found = rules.find(op);
    return found == rules.end() ? nullptr : found->second;
  }
};

Value Values::operator()(Output output) {
  output = source_of(output);
  const std::pair key{static_cast<const GraphNode*>(output.node), output.port};
  if (const auto found = values_.find(key); found != values_.end()) return found->second;
  if (depth_ == kMostDepth) return {};
  ++depth_;
  const Value value = compute(output);
  --depth_;
  if (value) understood_.insert(output.node);
  return values_[key] = value;
}

Value Values::compute(Output output) {
  if (const Value value = known(output)) return value;
  const Rules::Rule rule = Rules::find(output.node->op());
  return rule ? rule(*this, *output.node, output.port) : Value();
}

// ---- the cell ----------------------------------------------------------------------------------

ForwardValues::ForwardValues(const Recurrence& recurrence, Context& context)
    : Values(recurrence.loop, units_of(recurrence.cell, context), context) {
  static const std::pair<const char*, StepValue> kLabels[] = {
      {"in", kIn},           {"forget", kForget}, {"new", kNew}, {"out", kOut},
      {"tanh_c", kSquashed}, {"z", kUpdate},      {"r", kReset}, {"n", kProposed},
      {"hn", kStatePart},    {"next_h", kNextH}};
  const Cell& cell = recurrence.cell;
  for (const auto& [label, value] : kLabels) {
    const Output* found = cell.match.find(label);
    if (found) known_.emplace_back(source_of(*found), Value::of(Polynomial::variable(value)));
  }
  known_.emplace_back(source_of(cell.h), Value::of(Polynomial::variable(kH)));
  if (cell.c.node) known_.emplace_back(source_of(cell.c), Value::of(Polynomial::variable(kC)));
  known_.emplace_back(cell.x, Value{Kind::kInput});
  known_.emplace_back(source_of(cell.weights), Value{Kind::kWeights});
  known_.emplace_back(source_of(cell.state_weights), Value{Kind::kStateWeights});
  for (const LoopVariable* counter : recurrence.counters) {
    known_.emplace_back(source_of(counter->before()), Value{Kind::kStep});
  }
}

Value ForwardValues::known(Output output) {
  const auto found = std::ranges::find(known_, output, &std::pair<Output, Value>::first);
  return found == known_.end() ? Value() : found->second;
}

int64_t units_of(const Cell& cell, Context& context) {
  const Output weights = cell.state_weights;
  return context.output_info(*weights.node, weights.port)->shape.dims[0];
}

}  // namespace tfmetal
